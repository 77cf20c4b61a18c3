"""A plan from the configs alone agrees with what the run itself measures."""

from __future__ import annotations

import pytest

from tests.backends.transformer.tiny import VOCABULARY, bert, setup_of
from vigreux.backends.transformer.calibrate import step_cost
from vigreux.backends.transformer.planning import Plan, make_plan
from vigreux.config.shared import BudgetConfig, ExtractionConfig
from vigreux.config.transformer import RunConfig, StudentConfig, TaskConfig, TeacherConfig
from vigreux.errors import ConfigError
from vigreux.models.size import count_parameters

LENGTH, SIZE = 16, 4


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A config; the weights need not be there."""
    directory = tmp_path_factory.mktemp("teacher")
    bert("classification", layers=3, hidden=24, seed=0).config.save_pretrained(directory)
    return str(directory)


def plan(teacher: str, **settings: object) -> Plan:
    config = RunConfig(
        task=TaskConfig("classification", max_length=LENGTH),
        teacher=TeacherConfig(teacher),
        student=StudentConfig(layers=2, hidden=16, heads=2, intermediate=32),
        training={"per_device_train_batch_size": SIZE},
        **({"budget": BudgetConfig(steps=10), "extraction": ExtractionConfig(layers={2: 1})} | settings),  # type: ignore[arg-type]
    )
    return make_plan(config, {})


def test_flops_are_those_of_full_blocks(teacher: str) -> None:
    """The run counts the projection too; the plan leaves it out."""
    setup = setup_of("classification", plan(teacher).curriculum, budget=BudgetConfig(steps=10))
    setup.training["per_device_train_batch_size"] = SIZE
    collate = setup.task.collate

    def full(samples: object) -> dict:
        batch = collate(samples)  # type: ignore[arg-type]
        ids = batch["input_ids"].new_full((SIZE, LENGTH), VOCABULARY - 1)
        return batch | {"input_ids": ids, "attention_mask": ids * 0 + 1}

    object.__setattr__(setup.task, "collate", full)
    planned = plan(teacher).cost.stages
    assert [stage.steps for stage in planned] == [2, 8]
    for stage, found, projection in zip(
        setup.curriculum, planned, (2 * SIZE * LENGTH * 24 * 16, 0), strict=True
    ):
        counted = step_cost(setup, stage)
        assert found.student_flops / found.steps == counted.student_flops - projection
        assert found.teacher_flops / found.steps == counted.teacher_flops


def test_sizes(teacher: str) -> None:
    made = plan(teacher)
    models = [
        bert("classification", layers=layers, hidden=hidden, seed=0) for layers, hidden in ((3, 24), (2, 16))
    ]
    assert [made.teacher.parameters, made.student.parameters] == [count_parameters(model) for model in models]
    assert (made.teacher.layers, made.student.layers) == (3, 2)
    assert made.cost.bytes_kept == 4 * made.teacher.parameters
    assert made.memory > 4 * (made.teacher.parameters + 4 * made.student.parameters)


def test_budgets(teacher: str) -> None:
    whole = plan(teacher).cost
    bought = plan(teacher, budget=BudgetConfig(flops=2 * whole.flops)).cost
    assert whole.flops < bought.flops <= 2 * whole.flops
    assert [stage.flops / stage.steps for stage in bought.stages] == [
        stage.flops / stage.steps for stage in whole.stages
    ]
    seconds = plan(teacher, budget=BudgetConfig(seconds=100.0)).cost.seconds
    assert seconds is not None
    assert 0 < seconds <= 100.0
    with pytest.raises(
        ConfigError, match=r"budget: missing; accepted: one of budget\.steps, budget\.flops, budget\.seconds"
    ):
        plan(teacher, budget=BudgetConfig())


def test_supervised_training_needs_no_teacher(teacher: str) -> None:
    made = plan(teacher, curriculum="supervised").cost
    assert made.bytes_kept == 0
    assert [stage.teacher_flops for stage in made.stages] == [0]


def test_a_joint_stage_asks_the_teacher_twice(teacher: str) -> None:
    joint = {"target": {"joint": {"hidden": {"layer": 1}, "logits": {}}}, "duration": {"steps": 1}}
    both, alone = (
        plan(teacher, curriculum=[own]).cost.stages[0] for own in (joint, joint | {"target": "logits"})
    )
    assert both.student_flops == alone.student_flops
    assert alone.teacher_flops < both.teacher_flops < 2 * alone.teacher_flops


def test_epochs_need_the_data(teacher: str) -> None:
    stages = [{"target": "labels", "duration": {"epochs": 1}}]
    with pytest.raises(ConfigError, match="plan: a stage lasts epochs, and the data is not read for a plan"):
        plan(teacher, curriculum=stages)
    assert (
        plan(teacher, curriculum=[{"target": "labels", "duration": {"samples": 9}}]).cost.stages[0].steps == 3
    )
