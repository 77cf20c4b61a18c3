"""The interface between the loop and the code that trains. Each kind of student has one `Backend`.

There are two: `vigreux.backends.transformer` and `vigreux.backends.two_layer`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.progress import Progress
from torch import nn

from vigreux.curriculum import Curriculum
from vigreux.loop.plan import StagePlan
from vigreux.loop.recorder import Recorder
from vigreux.run.folder import Summary


@dataclass(frozen=True)
class ModelFacts:
    """The facts about its models that a run's summary states.

    Args:
        student_parameters: the number of the student's parameters.
        bytes_kept: bytes of all teacher weights that the curriculum needs, including the final teacher's.
        teacher_bytes: bytes of the final teacher's weights alone.
        teacher_parameters: the number of the final teacher's parameters; `None` without a teacher.
        teacher_metrics: the final teacher's held-out metrics.
        notes: what the user should know.
    """

    student_parameters: int
    bytes_kept: int = 0
    teacher_bytes: int = 0
    teacher_parameters: int | None = None
    teacher_metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageRun:
    """One stage of a run, as the loop hands it to the backend that trains it.

    Args:
        index: the stage's index in the curriculum, from 0.
        steps: the maximum number of steps; a plateau can end the stage earlier.
        total_steps: the steps of all stages of the run.
        directory: the directory of the stage's checkpoints.
        checkpoint: the checkpoint to continue from; `None` at the stage's start.
        recorder: records the losses, the evaluations and the checkpoints.
        progress: shows the stage's progress bar.
    """

    index: int
    steps: int
    total_steps: int
    directory: Path
    checkpoint: Path | None
    recorder: Recorder
    progress: Progress


class OpenStage(Protocol):
    """A stage that is ready to train: its layers of the student, its loss and its teacher are in memory."""

    @property
    def matched(self) -> str:
        """The teacher's output that the stage matches, for a note: "states", "logits"."""
        ...

    def plateau_loss(self, evaluation: Mapping[str, Any]) -> float:
        """The value that decides whether the stage is on a plateau: its held-out loss."""
        ...

    def train(self, run: StageRun) -> int:
        """Trains until `run.steps` or a plateau, from `run.checkpoint` if there is one.

        It must evaluate and save a checkpoint at the last step.

        Returns:
            The stage's last step.
        """
        ...


class Backend(Protocol):
    """Trains one student through the stages of one curriculum, a stage at a time.

    The loop (`vigreux.loop.run`) decides what runs next and writes the run folder. A backend knows its
    models and its data. Only the first process calls `fingerprints`, `plan`, `save`, `save_state`, `facts`
    and `finish`. All processes call the other methods.
    """

    curriculum: Curriculum
    device: str = "cpu"
    keep_checkpoints: bool = False  # whether all checkpoints of a stage stay, or only the last
    first_process: bool = True  # whether this process writes the run folder
    smaller: str  # the setting that a user can make smaller when memory runs out

    @property
    @abstractmethod
    def student(self) -> nn.Module:
        """The model that is trained, in place."""

    @property
    @abstractmethod
    def samples_per_step(self) -> int:
        """Training samples of one optimiser step, over all processes."""

    @abstractmethod
    def check(self, *, resume: bool) -> None:
        """Raises an error for everything that can be refused before the run folder is created."""

    @abstractmethod
    def fingerprints(self) -> dict[str, str]:
        """Name → hash of everything that the run depends on; a resume compares them."""

    @abstractmethod
    def plan(self) -> list[StagePlan]:
        """The steps of each stage, and the cost of one step."""

    @abstractmethod
    def open_stage(self, index: int) -> AbstractContextManager[OpenStage]:
        """Builds stage `index` around the student's weights."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """The held-out metrics of the whole student."""

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Writes the student's weights into `directory`."""

    @abstractmethod
    def load(self, directory: Path) -> None:
        """Loads the student's weights from `directory`."""

    @abstractmethod
    def facts(self) -> ModelFacts:
        """The facts about student and teacher for the summary."""

    def finish(self, directory: Path, summary: Summary) -> None:
        """Writes the finished student into `directory`, with all files that its users need."""
        self.save(directory)

    # Only some backends need the methods below.

    def prepare(self) -> None:
        """Prepares the backend. The loop calls it before the first stage, when the run folder exists."""
        return

    def wait(self) -> None:
        """Waits until every process of the run has reached this call."""
        return

    def hands_on(self, index: int) -> bool:
        """Whether stage `index` passes more than weights to the next one, such as the optimiser's state."""
        return False

    def save_state(self, directory: Path) -> None:
        """Writes the state that the last stage passes on in addition to the weights."""
        return

    def load_state(self, directory: Path) -> None:
        """Loads the state that `save_state` wrote."""
        return
