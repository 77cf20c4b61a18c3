"""The loop with a backend of one weight. Every step adds 1 to it, so that it counts the steps trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vigreux.curriculum import Curriculum, Duration, Logits, Stage, TeacherRef
from vigreux.errors import TrainingError
from vigreux.loop.backend import Backend, ModelFacts, StageRun
from vigreux.loop.plan import StagePlan
from vigreux.loop.recorder import held_out_loss
from vigreux.loop.run import start_or_resume
from vigreux.plan.cost import StepCost
from vigreux.run.checkpoints import checkpoints_in, step_of
from vigreux.run.folder import RunFolder

STEPS = 6  # of each stage
EVERY = 2  # steps between checkpoints, each with an evaluation


class Killed(BaseException):
    """Nothing catches it: the run stops where it is, as a killed process does."""


def stages(*names: str, duration: Duration | None = None) -> Curriculum:
    return tuple(
        Stage(name, TeacherRef.final(), Logits(), None, duration or Duration.steps(STEPS)) for name in names
    )


class Counter(Backend):
    """A student of one weight.

    Args:
        curriculum: its stages.
        at: steps of the whole run → what happens before that step.
    """

    smaller = "counter"

    def __init__(self, curriculum: Curriculum, at: Mapping[int, Callable[[], None]] | None = None) -> None:
        self.curriculum = curriculum
        self.at = dict(at or {})
        self.network = nn.Linear(1, 1, bias=False)
        self.network.weight.data.zero_()
        self.state = 0
        self.planned = 0
        self.trained: list[tuple[str, int]] = []  # stage and step

    @property
    def student(self) -> nn.Module:
        return self.network

    @property
    def samples_per_step(self) -> int:
        return 4

    def check(self, *, resume: bool) -> None:
        pass

    def fingerprints(self) -> dict[str, str]:
        return {"data": "the same"}

    def plan(self) -> list[StagePlan]:
        self.planned += 1
        return [StagePlan(STEPS, StepCost(2.0, 1.0)) for _ in self.curriculum]

    @contextmanager
    def open_stage(self, index: int) -> Iterator[CounterStage]:
        yield CounterStage(self, self.curriculum[index].name)

    def evaluate(self) -> dict[str, float]:
        return {"loss": 100 - self.network.weight.item()}

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.network.state_dict()), directory / "model.safetensors")

    def load(self, directory: Path) -> None:
        self.network.load_state_dict(load_file(directory / "model.safetensors"))

    def facts(self) -> ModelFacts:
        return ModelFacts(student_parameters=1, teacher_bytes=7)

    def hands_on(self, index: int) -> bool:
        return index + 1 < len(self.curriculum)

    def save_state(self, directory: Path) -> None:
        (directory / "state.json").write_text(json.dumps(self.state))

    def load_state(self, directory: Path) -> None:
        self.state = json.loads((directory / "state.json").read_text())


class CounterStage:
    """One stage of it."""

    matched = "counts"

    def __init__(self, backend: Counter, name: str) -> None:
        self.backend, self.name = backend, name

    def plateau_loss(self, evaluation: Mapping[str, Any]) -> float:
        return held_out_loss(evaluation)

    def train(self, run: StageRun) -> int:
        backend, step = self.backend, 0
        if run.checkpoint is not None:
            backend.load(run.checkpoint)
            step = step_of(run.checkpoint)
        while step < run.steps and not run.recorder.on_plateau():
            backend.at.pop(run.recorder.start.steps + step + 1, lambda: None)()
            step += 1
            backend.network.weight.data += 1
            backend.state += 1
            backend.trained.append((self.name, step))
            run.recorder.seconds += 0.25
            if step % EVERY == 0:
                run.recorder.log(step, 1 / step, {"learning_rate": 0.1})
                run.recorder.log_evaluation(step, backend.evaluate())
                checkpoint = run.directory / f"checkpoint-{step}"
                backend.save(checkpoint)
                run.recorder.seal(checkpoint)
        return step


def go(backend: Counter, root: Path, *, resume: bool = False) -> RunFolder:
    start_or_resume(backend, root, {"seed": 0, "curriculum": "counting"}, resume=resume, quiet=True)
    return RunFolder.open(root)


def kill() -> None:
    raise Killed


def fail() -> None:
    raise TrainingError("the loss is nan")


def killed(root: Path, step: int, curriculum: Curriculum) -> None:
    with pytest.raises(Killed):
        go(Counter(curriculum, {step: kill}), root)


def test_a_whole_run(tmp_path: Path) -> None:
    folder = go(Counter(stages("a", "b")), tmp_path / "run")
    summary = folder.summary()
    assert summary is not None
    assert (summary.steps, summary.flops, summary.seconds) == (12, 36.0, 3.0)
    assert (summary.metrics, summary.teacher_bytes) == ({"loss": 88.0}, 7)
    assert [(each.name, each.steps, each.checkpoint) for each in folder.stages()] == [
        ("a", 6, "stages/00-a/checkpoint-6"),
        ("b", 6, "stages/01-b/checkpoint-6"),
    ]
    records = folder.metrics("train")
    assert [record["global_step"] for record in records] == [2, 4, 6, 8, 10, 12]
    assert [record["samples"] for record in records] == [8, 16, 24, 32, 40, 48]
    assert torch.equal(load_file(folder.student / "model.safetensors")["weight"], torch.tensor([[12.0]]))
    assert folder.status == "finished"
    assert json.loads(folder.text("plan.json") or "")[0]["steps"] == STEPS


def test_a_resume_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    """Finished stages are not trained, what they hand on is taken up, and the plan is not made again."""
    root, curriculum = tmp_path / "run", stages("a", "b")
    killed(root, 6 + 4, curriculum)
    resumed = Counter(curriculum)
    folder = go(resumed, root, resume=True)
    assert resumed.trained == [("b", step) for step in (3, 4, 5, 6)]
    assert resumed.planned == 0
    assert resumed.network.weight.item() == 12
    whole = go(Counter(curriculum), tmp_path / "whole")
    assert folder.stages() == whole.stages()
    assert folder.metrics() == whole.metrics()
    assert folder.summary() == whole.summary()


def test_a_resume_at_the_start_of_a_stage_takes_up_what_the_stage_before_hands_on(tmp_path: Path) -> None:
    root, curriculum = tmp_path / "run", stages("a", "b")
    killed(root, 6 + 1, curriculum)
    resumed = Counter(curriculum)
    go(resumed, root, resume=True)
    assert resumed.trained[0] == ("b", 1)
    assert resumed.state == 12


def test_a_resume_starts_from_the_first_weights_of_the_run(tmp_path: Path) -> None:
    """Whatever student it is handed."""
    root, curriculum = tmp_path / "run", stages("a")
    killed(root, 1, curriculum)
    other = Counter(curriculum)
    other.network.weight.data += 50
    go(other, root, resume=True)
    assert other.network.weight.item() == 6


def test_a_kill_between_a_checkpoint_and_the_deletion_of_older_ones_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, curriculum = tmp_path / "run", stages("a")
    with monkeypatch.context() as patched:
        calls = iter(range(10))
        patched.setattr("vigreux.loop.recorder.rotate", lambda *_: kill() if next(calls) == 2 else None)
        with pytest.raises(Killed):
            go(Counter(curriculum), root)
    directory = RunFolder(root).stage_dir(0, "a")
    assert list(checkpoints_in(directory)) == [2, 4, 6]
    resumed = Counter(curriculum)
    go(resumed, root, resume=True)
    assert resumed.trained == []
    assert list(checkpoints_in(directory)) == [6]


def test_a_stage_that_ended_on_a_plateau_is_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint is there, its record is not: the kill came between them."""
    root, curriculum = tmp_path / "run", stages("a", duration=Duration.plateau(1, limit=STEPS, min_delta=0.5))
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "finish_stage", lambda *_: kill())
        with pytest.raises(Killed):
            go(Counter(curriculum), root)
    resumed = Counter(curriculum)
    folder = go(resumed, root, resume=True)
    assert resumed.trained == []
    assert [each.steps for each in folder.stages()] == [4]


@pytest.mark.parametrize(
    ("step", "checkpoint"),
    [(4, "the last good checkpoint is .*checkpoint-2"), (2, "no checkpoint of this stage")],
)
def test_a_failure_names_the_stage_and_its_checkpoint(step: int, checkpoint: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=f"stage 'b': the loss is nan; {checkpoint}"):
        go(Counter(stages("a", "b"), {6 + step: fail}), tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    assert folder.status == "failed"
    assert str(folder.info()["failure"]).startswith("stage 'b': the loss is nan")


def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    def allocate() -> None:
        raise MemoryError("cannot take\n9 TB")

    with pytest.raises(TrainingError, match=r"not enough memory \(cannot take 9 TB\); .* a smaller counter"):
        go(Counter(stages("a"), {3: allocate}), tmp_path / "run")
    assert RunFolder.open(tmp_path / "run").status == "failed"
