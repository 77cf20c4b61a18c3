"""What is checked before anything is trained, and how settings become the Trainer's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.backends.transformer.tiny import (
    TRAINING,
    Net,
    bert,
    extracted,
    setup_of,
    stage,
    teacher_of,
    tensor_task,
)
from vigreux.backends.transformer.setup import CALIBRATION_BATCHES, Setup
from vigreux.backends.transformer.setup_checks import check_setup
from vigreux.backends.transformer.stage_builder import build_stage, run_projections
from vigreux.config.shared import BudgetConfig
from vigreux.curriculum import (
    Curriculum,
    Duration,
    Embedding,
    Hidden,
    Joint,
    Logits,
    Projection,
    Stage,
    TeacherRef,
)
from vigreux.distillation.projection import projection_matrix
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.errors import ConfigError
from vigreux.models.freezing import freeze_first_blocks
from vigreux.models.layout import find_layout

FINAL = (stage("final", Logits(), 10),)


# --- training: ----------------------------------------------------------------------------------------------


def test_activation_checkpointing_of_a_module_that_has_none() -> None:
    setup = setup_of("masked-lm", FINAL, training={"activation_checkpointing": True})
    check_setup(setup)
    setup.student = Net(4, 4, seed=0)
    with pytest.raises(
        ConfigError, match=r"training\.activation_checkpointing: a Net has none; accepted: false"
    ):
        check_setup(setup)


def test_the_seed_of_a_late_stage_wraps() -> None:
    assert setup_of("masked-lm", FINAL, seed=2**32 - 1).arguments("run", 1, stage=2).seed == 1


def test_what_the_trainer_is_given() -> None:
    setup = setup_of(
        "masked-lm", FINAL, seed=7, training={"save_steps": 500, "logging_steps": 100, "weight_decay": 0.3}
    )
    args = setup.arguments("somewhere", 20, stage=2)
    given = (
        args.output_dir,
        args.max_steps,
        args.seed,
        args.save_steps,
        args.logging_steps,
        args.weight_decay,
    )
    assert given == ("somewhere", 20, 9, 20, 20, 0.3)
    assert (args.remove_unused_columns, args.logging_nan_inf_filter, args.save_total_limit) == (
        False,
        False,
        None,
    )


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"lr_scheduler_type": "cosin"}, "unknown value 'cosin'; did you mean 'cosine'?"),
        ({"learning_rate": "fast"}, "training.learning_rate: 'fast'; accepted: a number"),
        ({"save_steps": None}, "training.save_steps: None; accepted: a whole number"),
        (
            {"optim": "adamw_bnb_8bit"},
            "training.optim: cannot be used here: You need to install `bitsandbytes`",
        ),
    ],
)
def test_settings_that_cannot_be(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_setup(setup_of("masked-lm", FINAL, training=training))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_samples_of_a_step() -> None:
    setup = setup_of(
        "masked-lm", FINAL, training={"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}
    )
    assert setup.samples_per_step == 12
    assert setup.sizes == {"batch_size": 12, "train_samples": 48, "tokens_per_sample": 10}


# --- stages, models and budgets -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curriculum", "message"),
    [
        (
            (stage("s", Hidden(4), 1, depth=1),),
            "stage 's': hidden layer 4 is outside the teacher, which has 3 blocks",
        ),
        (
            (stage("s", Hidden(3), 1, depth=3),),
            "stage 's': depth 3 is outside the student, which has 2 blocks",
        ),
        (
            (stage("s", Logits(), Duration.share(1.0)),),
            "budget: missing; accepted: one of",
        ),
        ((stage("s", Logits(), 1), stage("s", Logits(), 1)), "curriculum: two stages are named 's'"),
        (
            (stage("s", Joint(Hidden(4), Logits()), 1, depth=1),),
            "stage 's': hidden layer 4 is outside the teacher, which has 3 blocks",
        ),
    ],
)
def test_curricula_that_do_not_fit(curriculum: Curriculum, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_setup(setup_of("masked-lm", curriculum))
    assert message in str(caught.value)


def test_the_nearest_curricula_that_fit() -> None:
    hidden = (stage("s", Hidden(3), 1, depth=2), stage("t", Hidden(0), 1, depth=0))
    check_setup(setup_of("masked-lm", hidden))
    whole = (stage("s", Logits(), Duration.share(1.0)),)
    check_setup(setup_of("masked-lm", whole, budget=BudgetConfig(steps=1)))


def test_a_budget_that_buys_no_step() -> None:
    shares = (stage("a", Logits(), Duration.share(0.1)), stage("b", Logits(), Duration.share(0.9)))
    with pytest.raises(
        ConfigError, match="stage 'a': 10 % of the budget is less than one step, with a budget of 4 steps"
    ):
        check_setup(setup_of("masked-lm", shares, budget=BudgetConfig(steps=4)))
    check_setup(setup_of("masked-lm", shares, budget=BudgetConfig(steps=6)))


def test_a_module_whose_blocks_are_not_named() -> None:
    """Only where they are needed."""
    teacher, student = Net(6, 8, 8, seed=0), Net(6, 8, seed=1)
    setup = Setup(tensor_task(), student, Teachers(LiveTeacher(teacher)), FINAL)
    check_setup(setup)
    setup.curriculum = (stage("s", Hidden(1), 1, depth=1),)
    with pytest.raises(ConfigError, match="Net is not a Hugging Face model: name its blocks by hand"):
        check_setup(setup)
    setup.teachers = Teachers(LiveTeacher(teacher, find_layout(teacher, blocks="body")))
    setup.student_layout = find_layout(student, blocks="body")
    check_setup(setup)


@pytest.mark.parametrize(
    ("eval_steps", "duration", "steps", "all_steps", "expected"),
    [
        (None, Duration.steps(100), 100, 1000, 200),  # five a run
        (None, Duration.steps(3), 3, 3, 1),
        (7, Duration.steps(100), 100, 1000, 7),
        (0.1, Duration.steps(100), 100, 1000, 100),
        (None, Duration.plateau(1, limit=100), 100, 1000, 20),  # five a stage, or it would never end early
        (None, Duration.plateau(4, limit=100), 100, 1000, 5),
        (None, Duration.plateau(1, limit=1000), 1000, 1000, 200),
        (30, Duration.plateau(4, limit=100), 100, 1000, 30),
    ],
)
def test_steps_between_evaluations(
    eval_steps: Any, duration: Duration, steps: int, all_steps: int, expected: int
) -> None:
    setup = setup_of("masked-lm", FINAL, training={} if eval_steps is None else {"eval_steps": eval_steps})
    assert setup.eval_every(stage("s", Hidden(1), duration, depth=1), steps, all_steps) == expected


# --- what a stage is made of --------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [{"gradient_accumulation_steps": 4, "per_device_train_batch_size": 2}, {}])
def test_calibration_is_on_the_samples_of_the_first_steps(split: dict[str, int]) -> None:
    setup = setup_of("masked-lm", FINAL, training=split)
    batches = list(setup.batches())
    assert {len(batch["input_ids"]) for batch in batches} == {split.get("per_device_train_batch_size", 8)}
    stream = setup.task.stream(0, 0, CALIBRATION_BATCHES * 8)
    expected = [int(setup.task.collate([stream[i]])["input_ids"].sum()) for i in range(len(stream))]
    assert [int(row.sum()) for batch in batches for row in batch["input_ids"]] == expected


def test_stages_share_their_projection() -> None:
    setup = setup_of("masked-lm", extracted(1, 1, 1))
    first, second = (build_stage(setup, each)[0] for each in setup.curriculum[:2])
    assert first.projection is second.projection
    other = setup_of("masked-lm", (stage("s", Hidden(1, Projection(seed=5)), 1),))
    assert not torch.equal(build_stage(other, other.curriculum[0])[0].projection, first.projection)


def test_every_stage_has_the_same_principal_components() -> None:
    """Whichever stages there are, and whichever a resumed run starts with; the run's seed changes nothing,
    either.
    """
    curriculum = extracted(1, 1, 1, projection=Projection("pca"))
    setup = setup_of("masked-lm", curriculum)
    matrix = build_stage(setup, curriculum[0])[0].projection
    assert torch.equal(build_stage(setup, curriculum[1])[0].projection, matrix)
    resumed = setup_of("masked-lm", curriculum)
    assert torch.equal(build_stage(resumed, curriculum[1])[0].projection, matrix)
    alone = setup_of("masked-lm", curriculum[1:], seed=3)
    assert torch.equal(build_stage(alone, curriculum[1])[0].projection, matrix)


def test_principal_components_of_a_torch_module_are_of_the_layers_of_one_width() -> None:
    teacher, student = Net(6, 20, 20, 24, seed=0), Net(6, 10, 12, seed=1)
    layout = find_layout(teacher, blocks="body")
    curriculum = tuple(
        stage(name, Hidden(layer, Projection("pca")), 1, depth=1)
        for name, layer in {"a": 1, "b": 2, "c": 3}.items()
    )
    setup = Setup(
        tensor_task(),
        student,
        Teachers(LiveTeacher(teacher, layout)),
        curriculum,
        training=dict(TRAINING),
        student_layout=find_layout(student, blocks="body"),
    )
    first, second, third = (build_stage(setup, each)[0].projection for each in curriculum)
    assert torch.equal(first, second)
    assert third.shape == (24, 10)
    samples = setup.task.stream(0, 0, CALIBRATION_BATCHES * 8)
    inputs = setup.task.collate([samples[i] for i in range(len(samples))])
    states = [setup.teachers.final.hidden(inputs, layer) for layer in (1, 2)]
    torch.testing.assert_close(
        first, projection_matrix(Projection("pca"), 20, 10, hidden=states), rtol=0, atol=1e-5
    )


def test_another_model_has_its_own_principal_components() -> None:
    other = teacher_of("masked-lm", seed=5)
    pca = Hidden(1, Projection("pca"))
    curriculum = (
        stage("a", pca, 1, depth=1),
        Stage("b", TeacherRef.other("other"), pca, 1, Duration.steps(1)),
        Stage("c", TeacherRef.checkpoint(3), pca, 1, Duration.steps(1)),
    )
    teachers = Teachers(teacher_of("masked-lm"), {3: "three"}, lambda name: other)
    setup = setup_of("masked-lm", curriculum, teachers=teachers)
    of_final, of_other, of_checkpoint = (build_stage(setup, each)[0].projection for each in curriculum)
    assert torch.equal(of_checkpoint, of_final)
    assert not torch.equal(of_other, of_final)
    alone = setup_of("masked-lm", curriculum[:1], teachers=Teachers(other))
    assert torch.equal(of_other, build_stage(alone, curriculum[0])[0].projection)


def test_a_stored_projection_is_used() -> None:
    """Such as the one that a cache's signals went through."""
    stored = torch.randn(24, 16)
    setup = setup_of("masked-lm", extracted(1, 1))
    setup.projections = replace(run_projections(setup), stored={Projection(): stored})
    assert torch.equal(build_stage(setup, setup.curriculum[0])[0].projection, stored)


def test_a_learned_projection_belongs_to_its_stage() -> None:
    setup = setup_of("masked-lm", extracted(1, 1, 1, projection=Projection("learned")))
    first, second = (build_stage(setup, each)[0] for each in setup.curriculum[:2])
    assert [tuple(parameter.shape) for parameter in first.projection.parameters()] == [(16, 24)]
    assert first.projection is not second.projection


@pytest.mark.parametrize(("target", "depth"), [(Hidden(1), 1), (Hidden(3), None), (Logits(), None)], ids=str)
def test_a_stage_trains_what_it_runs(target: Any, depth: int | None) -> None:
    setup = setup_of(
        "masked-lm", (Stage("s", stage("x", Logits(), 1).teacher, target, depth, Duration.steps(1)),)
    )
    model, teacher = build_stage(setup, setup.curriculum[0])
    own = {id(parameter) for parameter in setup.student.parameters()}
    trained = {id(parameter) for parameter in model.parameters()}
    assert trained <= own  # shared with the student, none of its own
    last = setup.student.get_parameter("bert.encoder.layer.1.output.dense.weight")
    assert (id(last) in trained) is (depth != 1)
    assert teacher is setup.teachers.final
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert not teacher.model.training


def test_embeddings_and_plain_modules_know_their_widths() -> None:
    setup = setup_of("embedding", (stage("s", Embedding(), 1),))
    assert build_stage(setup, setup.curriculum[0])[0].projection.shape == (24, 16)
    teacher, student = Net(6, 20, 24, 28, seed=0), Net(6, 10, 12, seed=1)
    plain = Setup(
        tensor_task(),
        student,
        Teachers(LiveTeacher(teacher, find_layout(teacher, blocks="body"))),
        (
            stage("a", Hidden(1), 1, depth=1),
            stage("b", Hidden(3), 1, depth=2),
            stage("c", Hidden(2), 1, depth=0),
        ),
        student_layout=find_layout(student, blocks="body"),
    )
    shapes = [tuple(build_stage(plain, each)[0].projection.shape) for each in plain.curriculum]
    assert shapes == [(20, 10), (28, 12), (24, 6)]


# --- freezing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_first_blocks_are_frozen(blocks: int) -> None:
    model = bert("classification", layers=3, hidden=16, seed=0)
    freeze_first_blocks(model, blocks)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    first = [f"encoder.layer.{i}." for i in range(blocks)] + ["embeddings."] * (blocks > 0)
    assert frozen == {name for name, _ in model.named_parameters() if any(part in name for part in first)}
    assert "classifier.weight" not in frozen


def test_more_frozen_blocks_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"model\.freeze_blocks: 4; accepted: 0 to 3, the model's blocks"):
        freeze_first_blocks(bert("classification", layers=3, hidden=16, seed=0), 4)
