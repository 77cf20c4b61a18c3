"""A stage's recorder: what it writes, what it takes up again, and when it sees a plateau."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from vigreux.curriculum import Duration, Logits, Stage, TeacherRef
from vigreux.curriculum.serialize import to_plain
from vigreux.loop.progress import Totals
from vigreux.loop.recorder import Recorder, held_out_loss
from vigreux.plan.cost import StepCost
from vigreux.run.checkpoints import verify_manifest
from vigreux.run.folder import RunFolder

COST = StepCost(student_flops=3.0, teacher_flops=1.0)
START = Totals(steps=10, samples=80, student_flops=30.0, teacher_flops=10.0, seconds=5.0)


def stage(duration: Duration) -> Stage:
    return Stage("soft", TeacherRef.final(), Logits(), None, duration)


def recorder(folder: RunFolder | None, duration: Duration | None = None, **settings: Any) -> Recorder:
    duration = duration or Duration.steps(9)
    return Recorder(folder, stage(duration), START, COST, 8, plateau_loss=held_out_loss, **settings)


def evaluation(loss: float | None, seconds: float = 6.0) -> dict[str, Any]:
    return {"kind": "eval", "stage": "soft", "step": 1, "seconds": seconds, "loss": loss}


def test_a_record_says_what_the_run_has_spent(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", {}, to_plain((stage(Duration.steps(9)),))) as folder:
        writes = recorder(folder)
        writes.seconds += 0.5
        writes.log(2, 0.75, {"learning_rate": 0.1})
        writes.log_evaluation(2, {"loss": 0.5, "accuracy": 0.25})
    spent = {"stage": "soft", "step": 2, "global_step": 12, "samples": 96, "flops": 48.0, "seconds": 5.5}
    train, held_out = RunFolder.open(tmp_path / "run").metrics()
    assert train == {"kind": "train", **spent, "loss": 0.75, "learning_rate": 0.1}
    assert held_out == {"kind": "eval", **spent, "loss": 0.5, "accuracy": 0.25}
    assert writes.totals(2) == Totals(12, 96, 36.0, 12.0, 5.5)


def test_a_process_without_a_folder_counts_and_writes_nothing() -> None:
    counts = recorder(None)
    counts.log(2, 0.75, {})
    counts.log_evaluation(2, {"loss": 0.5})
    assert counts.losses == [0.75]
    assert counts.evaluations == [{"loss": 0.5}]


def test_a_sealed_checkpoint_counts_and_older_ones_go(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", {}, to_plain((stage(Duration.steps(9)),))) as folder:
        for keep, left in ((None, ["checkpoint-1", "checkpoint-2"]), (1, ["checkpoint-3"])):
            writes = recorder(folder, keep=keep)
            for name in left:
                checkpoint = folder.stage_dir(0, "soft") / name
                checkpoint.mkdir(parents=True)
                (checkpoint / "model.safetensors").write_bytes(b"weights")
                writes.seal(checkpoint)
                assert not verify_manifest(checkpoint)
                assert (checkpoint / "metrics.jsonl").exists()
            assert sorted(path.name for path in checkpoint.parent.iterdir()) == left


def test_seconds_go_on_where_the_stage_was() -> None:
    """The stage before took 2 seconds when these records were written, and 5 when it was trained again."""
    resumed = recorder(None)
    before = {"kind": "train", "stage": "hidden", "seconds": 2.0, "loss": 1.0}
    resumed.restore([before, {**evaluation(0.5, 2.5)}, {**evaluation(0.4, 3.0), "kind": "train"}])
    assert resumed.seconds == 6.0
    assert resumed.losses == [0.4]
    assert [each["loss"] for each in resumed.evaluations] == [0.5]


@pytest.mark.parametrize("loss", [None, math.nan, math.inf])
def test_a_loss_that_was_not_finite_is_the_worst(loss: float | None) -> None:
    """A file holds null in its place: a plateau is found at the same evaluation with and without a resume."""
    assert held_out_loss(evaluation(loss)) == math.inf
    resumed = recorder(None, Duration.plateau(1, limit=9))
    resumed.restore([evaluation(0.5), evaluation(loss)])
    assert resumed.on_plateau()
    resumed.restore([evaluation(0.1)])
    assert not resumed.on_plateau()
