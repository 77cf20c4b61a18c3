"""A run that is killed anywhere and resumed gives the same weights, bit for bit, and records as a
whole run.
"""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import vigreux.backends.transformer.backend as backend
import vigreux.backends.transformer.stage_trainer as stage_trainer
import vigreux.loop.recorder as recorder
from tests.backends.transformer.tiny import (
    Killed,
    bert,
    extracted,
    killed_at,
    prepared_run,
    run,
    setup_of,
    stage,
)
from tests.models.families import EVERY_MODEL, config_of, model_of
from tests.processes import python_m
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_trainer import StageTrainer, load_student, save_student
from vigreux.config.shared import BudgetConfig
from vigreux.curriculum import Duration, Hidden, Logits, Projection
from vigreux.curriculum.recipes import supervised
from vigreux.models.freezing import freeze_first_blocks
from vigreux.plan.cost import StepCost
from vigreux.run.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")

PER_STAGE = {"optimizer": "per-stage", "schedule": "per-stage"}
CARRIED = {"optimizer": "carried", "schedule": "carried"}
HIDDEN_TWICE = extracted(5, 5, 8)
CASES: dict[str, dict[str, Any]] = {
    "per-stage": {"curriculum": HIDDEN_TWICE, "dropout": 0.1, **PER_STAGE},
    "carried": {
        "curriculum": HIDDEN_TWICE,
        "dropout": 0.1,
        "training": {"gradient_accumulation_steps": 2},
        **CARRIED,
    },
    "learned": {"curriculum": extracted(5, 5, 8, projection=Projection("learned")), **CARRIED},
    "pca": {"curriculum": extracted(5, 5, 8, projection=Projection("pca"))},
    # stops after two evaluations, at step 4 of 9
    "plateau": {
        "curriculum": (
            stage("hidden", Hidden(2), Duration.plateau(1, limit=9, min_delta=0.9), depth=1),
            stage("logits", Logits(), Duration.plateau(1, limit=9, min_delta=0.9)),
        ),
        "training": {"eval_steps": 2},
        **CARRIED,
    },
}

# a point of a run → where the process is killed: (owner, name, which call, after the call or before it)
KILLS: dict[str, tuple[Any, str, int, bool]] = {
    "at the second step": (StageTrainer, "compute_loss", 2, False),
    "inside the last stage": (StageTrainer, "compute_loss", 12, False),
    "before a checkpoint's manifest": (recorder, "write_manifest", 1, False),
    "after a checkpoint's manifest": (recorder, "write_manifest", 1, True),
    "while a student is written": (stage_trainer, "save_student", 1, True),
    "before the optimiser is written": (StageTrainer, "_save_optimizer_and_scheduler", 1, False),
    "between a record and the next": (RunFolder, "log_metrics", 2, True),
    "before a stage is recorded": (RunFolder, "finish_stage", 1, False),
    "between two stages": (RunFolder, "finish_stage", 1, True),
    "before the student's card": (backend, "write_card", 1, False),
    "before the summary": (RunFolder, "finish", 1, False),
}
# one after another, each taking up what the last left
LONG = (
    "at the second step",
    "before a checkpoint's manifest",
    "after a checkpoint's manifest",
    "at the second step",
    "before a stage is recorded",
    "between two stages",
    "while a student is written",
    "before the optimiser is written",
    "between two stages",
    "between a record and the next",
    "before a checkpoint's manifest",
    "after a checkpoint's manifest",
    "at the second step",
    "before the student's card",
    "before the summary",
)
SHORT = (
    "before a checkpoint's manifest",
    "between two stages",
    "after a checkpoint's manifest",
    "before a stage is recorded",
)
CHAINS = {
    "per-stage": LONG,
    "carried": LONG,
    "learned": SHORT,
    "pca": SHORT,
    "plateau": (
        "after a checkpoint's manifest",
        "before a stage is recorded",
        "between two stages",
        *SHORT[-2:],
    ),
}


def case(name: str, **changes: Any) -> Setup:
    return setup_of("masked-lm", **(CASES[name] | changes))


def killed(setup: Setup, root: Path, point: str) -> None:
    """Runs until `point`, and leaves behind what a killed process leaves."""
    owner, name, call, after = KILLS[point]
    prepared = prepared_run(setup, root, resume=(root / "run.json").exists())
    assert prepared.folder is not None
    with killed_at(owner, name, call, after=after), pytest.raises(Killed):
        prepared.run()
    prepared.folder.close()  # the kernel lets go of a dead process's lock


def without_seconds(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def assert_same_run(found: Path, expected: Path) -> None:
    weights = [(root / "student" / "model.safetensors").read_bytes() for root in (found, expected)]
    assert weights[0] == weights[1]
    a, b = RunFolder.open(found), RunFolder.open(expected)
    assert without_seconds(a.metrics()) == without_seconds(b.metrics())
    assert [replace(stage, seconds=0) for stage in a.stages()] == [
        replace(stage, seconds=0) for stage in b.stages()
    ]
    assert a.summary() is not None
    assert b.summary() is not None
    assert replace(a.summary(), seconds=0) == replace(b.summary(), seconds=0)
    assert a.status == "finished"


@pytest.mark.parametrize("name", CASES)
def test_killed_again_and_again(name: str, tmp_path: Path) -> None:
    run(case(name), tmp_path / "whole")
    for place, point in enumerate(CHAINS[name]):
        killed(
            case(name, student_seed=place + 1), tmp_path / "killed", point
        )  # what the caller hands over later does not matter
    run(case(name, student_seed=99), tmp_path / "killed", resume=True)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_a_killed_process(tmp_path: Path) -> None:
    root = tmp_path / "killed"
    for point in ("before the optimiser is written", "inside the last stage"):
        ended = python_m("tests.backends.transformer.killed", root, point, cwd=Path(__file__).parents[3])
        assert ended.code == -signal.SIGKILL, ended.err
        assert RunFolder.open(root).status == "stopped"
    assert len(RunFolder.open(root).stages()) == 2
    run(case("per-stage", student_seed=99), root, resume=True)
    run(case("per-stage"), tmp_path / "whole")
    assert_same_run(root, tmp_path / "whole")


def test_a_plateau_is_where_the_stage_stops(tmp_path: Path) -> None:
    folder = run(case("plateau"), tmp_path)
    assert [stage.steps for stage in folder.stages()] == [4, 4]


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    run(case("per-stage"), tmp_path)
    before = (tmp_path / "student" / "model.safetensors").read_bytes()
    run(case("per-stage", student_seed=9), tmp_path, resume=True)
    assert (tmp_path / "student" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("keep", [False, True])
def test_a_finished_stage_whose_checkpoint_is_damaged_is_done_again(keep: bool, tmp_path: Path) -> None:
    """From an earlier checkpoint of its own, where they are kept, else from the stage before."""
    root = tmp_path / "killed"
    for _ in range(2):
        killed(case("per-stage", keep_checkpoints=keep), root, "between two stages")
    (root / "stages" / "01-hidden-2" / "checkpoint-5" / "model.safetensors").write_bytes(b"")
    with pytest.warns(
        UserWarning, match="the last checkpoint of 'hidden-2' is missing or damaged: done again"
    ):
        run(case("per-stage", keep_checkpoints=keep), root, resume=True)
    run(case("per-stage", keep_checkpoints=keep), tmp_path / "whole")
    assert_same_run(root, tmp_path / "whole")


def test_steps_are_those_first_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is slower when the run is resumed does not change what the run does."""
    setup = {
        "curriculum": (stage("final", Logits(), Duration.share(1.0)),),
        "budget": BudgetConfig(seconds=8.0),
    }
    measured = iter([1.0, 4.0])
    monkeypatch.setattr(
        "vigreux.backends.transformer.calibrate.step_cost",
        lambda *_, **__: StepCost(1.0, 1.0, next(measured)),
    )
    killed(setup_of("masked-lm", **setup), tmp_path, "at the second step")
    folder = run(setup_of("masked-lm", **setup), tmp_path, resume=True)
    assert [stage.steps for stage in folder.stages()] == [8]
    assert next(measured) == 4.0  # not measured again


def test_tied_and_frozen_weights_stay_so(tmp_path: Path) -> None:
    def setup(seed: int) -> Setup:
        made = setup_of("masked-lm", supervised(), student_seed=seed, budget=BudgetConfig(steps=8))
        freeze_first_blocks(made.student, 1)
        return made

    first = setup(1)
    start = {name: parameter.clone() for name, parameter in first.student.named_parameters()}
    killed(first, tmp_path, "after a checkpoint's manifest")
    second = setup(2)
    run(second, tmp_path, resume=True)
    student: Any = second.student
    assert student.cls.predictions.decoder.weight is student.bert.embeddings.word_embeddings.weight
    for name, parameter in student.named_parameters():
        frozen = "embeddings" in name or "layer.0" in name
        assert parameter.requires_grad is not frozen
        assert torch.equal(parameter, start[name]) is frozen, name


@pytest.mark.parametrize(("family", "auto_class"), EVERY_MODEL)
def test_every_weight_comes_back(family: str, auto_class: str, tmp_path: Path) -> None:
    """Whatever its name in the file: GPT-NeoX's head and ViT's blocks have other names in memory."""
    model = model_of(family, auto_class)
    save_student(model, tmp_path)
    other = getattr(transformers, auto_class).from_config(config_of(family))
    load_student(other, tmp_path)
    for (name, found), expected in zip(other.state_dict().items(), model.state_dict().values()):
        assert torch.equal(found, expected), name


def test_a_student_in_half_precision_comes_back(tmp_path: Path) -> None:
    model, other = (bert("masked-lm", layers=1, hidden=16, seed=seed).bfloat16() for seed in (0, 1))
    save_student(model, tmp_path)
    load_student(other, tmp_path)
    assert other.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), model.parameters()))
