"""The cost of a curriculum: FLOPs, steps, time, memory and bytes kept.

Pure arithmetic, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vigreux.config.transformer import BATCH_SIZE

# --- steps and samples --------------------------------------------------------------------------------------


def samples_per_step(training: Mapping[str, Any], processes: int = 1) -> int:
    """Training samples of one optimiser step: batch size of a device × micro-batches × processes.

    Args:
        training: settings by the names of `TrainingArguments`; missing ones have Vigreux's defaults.
        processes: the number of processes that train together.
    """
    batch = training.get("per_device_train_batch_size", BATCH_SIZE)
    return int(batch * training.get("gradient_accumulation_steps", 1) * processes)


def steps_for_epochs(epochs: float, train_samples: int, per_step: int) -> int:
    """Optimiser steps of `epochs` passes over the data, rounded up to whole steps."""
    return math.ceil(epochs * train_samples / per_step - 1e-9)


# --- accounts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepCost:
    """Cost of one optimiser step of a stage, over all processes.

    FLOPs are those of matrix products and attention (forward and backward of the student, forward of the
    teacher), averaged over the first batches. Attention counts as its plain matrix products, whichever kernel
    runs it, because the counter does not know every fused kernel. `seconds` is wall time; `None` if it was
    not measured.
    """

    student_flops: float
    teacher_flops: float
    seconds: float | None = None

    @property
    def flops(self) -> float:
        """Student and teacher together."""
        return self.student_flops + self.teacher_flops


@dataclass(frozen=True)
class StageCost:
    """The cost of one stage, over all of its steps.

    Args:
        name: of the stage.
        steps: optimiser steps.
        student_flops: floating-point operations of the student, forward and backward, over the blocks that
            run.
        teacher_flops: those of the teacher's forward passes, over the blocks that run.
        seconds: wall time; `None` if it is not known.
    """

    name: str
    steps: int
    student_flops: float
    teacher_flops: float
    seconds: float | None = None

    @property
    def flops(self) -> float:
        """Student and teacher together."""
        return self.student_flops + self.teacher_flops


@dataclass(frozen=True)
class Cost:
    """The cost of a curriculum: its stages, and the bytes of teacher weights that it needs kept."""

    stages: tuple[StageCost, ...]
    bytes_kept: int = 0

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def student_flops(self) -> float:
        """Of all stages."""
        return math.fsum(stage.student_flops for stage in self.stages)

    @property
    def teacher_flops(self) -> float:
        """Of all stages."""
        return math.fsum(stage.teacher_flops for stage in self.stages)

    @property
    def flops(self) -> float:
        """Of student and teacher in all stages."""
        return self.student_flops + self.teacher_flops

    @property
    def seconds(self) -> float | None:
        """Of all stages; `None` if that of a stage is not known."""
        known = [stage.seconds for stage in self.stages if stage.seconds is not None]
        return math.fsum(known) if len(known) == len(self.stages) else None


def memory_estimate(
    parameters: int,
    trainable: int,
    *,
    teacher_parameters: int = 0,
    optimizer_states: int = 2,
    bytes_per: int = 4,
    teacher_bytes_per: int = 4,
    activations: int = 0,
) -> int:
    """Bytes that a stage needs at its peak.

    `bytes_per · (parameters + trainable · (1 + optimizer_states)) + teacher + activations`.

    Args:
        parameters: of the student's view.
        trainable: those with a gradient.
        teacher_parameters: of the teacher's view, held without gradients.
        optimizer_states: values the optimiser keeps for each trainable parameter (AdamW 2, SGD with momentum
            1, SGD 0).
        bytes_per: bytes of a student's value.
        teacher_bytes_per: bytes of a teacher's value.
        activations: bytes of all values that depend on the batch.
    """
    return (
        bytes_per * (parameters + trainable * (1 + optimizer_states))
        + teacher_bytes_per * teacher_parameters
        + activations
    )
