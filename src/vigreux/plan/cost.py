"""What a curriculum costs: FLOPs, steps, time, memory and bytes kept, as numbers and as text. Pure arithmetic, no torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vigreux.config.transformer import BATCH_SIZE
from vigreux.curriculum import Curriculum, Stage, resolve_steps
from vigreux.errors import ConfigError

# --- steps and samples ------------------------------------------------------------------------------------------------


def samples_per_step(training: Mapping[str, Any], processes: int = 1) -> int:
    """Training samples of one optimiser step: batch size of a device × micro-batches × processes.

    Args:
        training: settings by the names of `TrainingArguments`; what is missing has Vigreux's default.
        processes: that train together.
    """
    batch = training.get("per_device_train_batch_size", BATCH_SIZE)
    return int(batch * training.get("gradient_accumulation_steps", 1) * processes)


def steps_for_epochs(epochs: float, train_samples: int, per_step: int) -> int:
    """Optimiser steps of so many passes over the data, rounded up to whole steps."""
    return math.ceil(epochs * train_samples / per_step - 1e-9)


# --- accounts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepCost:
    """Cost of one optimiser step of a stage, over all processes.

    FLOPs are those of matrix products and attention (forward and backward of the student, forward of the teacher), averaged over
    the first batches. Attention counts as its plain matrix products, whichever kernel runs it: the counter does not know every
    fused one. `seconds` is wall time, `None` where it was not measured.
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
    """What one stage costs, over all of its steps.

    Args:
        name: of the stage.
        steps: optimiser steps.
        student_flops: floating-point operations of the student, forward and backward, over the blocks that run.
        teacher_flops: those of the teacher's forward passes, likewise.
        seconds: wall time, `None` where it is not known.
    """

    name: str
    steps: int
    student_flops: float
    teacher_flops: float
    seconds: float | None = None

    @property
    def flops(self) -> float:
        """Of student and teacher together."""
        return self.student_flops + self.teacher_flops


@dataclass(frozen=True)
class Cost:
    """What a curriculum costs: its stages, and the bytes of teacher weights that it needs kept."""

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
        """Of all stages; `None` where one of them is not known."""
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
    """Bytes a stage holds at its peak: `bytes_per · (parameters + trainable · (1 + optimizer_states)) + teacher + activations`.

    Args:
        parameters: of the student's view.
        trainable: those of them with a gradient.
        teacher_parameters: of the teacher's view, held without gradients.
        optimizer_states: values the optimiser keeps for each trainable parameter (AdamW 2, SGD with momentum 1, SGD 0).
        bytes_per: bytes of a student's value.
        teacher_bytes_per: bytes of a teacher's value.
        activations: bytes of everything that depends on the batch.
    """
    return (
        bytes_per * (parameters + trainable * (1 + optimizer_states))
        + teacher_bytes_per * teacher_parameters
        + activations
    )


# --- a budget in FLOPs or seconds ---------------------------------------------------------------------------------------


_ROUNDING = 1 + 1e-12  # 3 × 0.1 is not more than 0.3


def steps_for_budget(
    curriculum: Curriculum,
    per_step: Sequence[float],
    budget: float,
    *,
    batch_size: int,
    train_samples: int | None,
    tokens_per_sample: int = 1,
) -> int:
    """The budget in steps, for `resolve_steps`, at which the curriculum costs the most that is at most `budget`.

    Stages whose duration is a share of the budget grow and shrink with it, all others are fixed and paid first.

    Args:
        curriculum: the stages.
        per_step: cost of one step of each stage, in the unit of `budget` (FLOPs of student and teacher, or seconds).
        budget: what may be spent.
        batch_size, train_samples, tokens_per_sample: as for `resolve_steps`.

    Raises:
        ConfigError: the fixed stages alone, or these and one step of each other stage, cost more than the budget.
    """
    assert len(per_step) == len(curriculum)
    sizes: dict[str, Any] = {
        "batch_size": batch_size,
        "train_samples": train_samples,
        "tokens_per_sample": tokens_per_sample,
    }
    fixed = [(stage, each) for stage, each in zip(curriculum, per_step) if stage.duration.unit != "share"]
    shares = [(stage, each) for stage, each in zip(curriculum, per_step) if stage.duration.unit == "share"]
    fixed_steps = resolve_steps(tuple(stage for stage, _ in fixed), 0, **sizes)
    spent = math.fsum(n * each for n, (_, each) in zip(fixed_steps, fixed))
    if spent > budget * _ROUNDING:
        raise ConfigError(
            f"budget: {budget:.4g} is less than the {spent:.4g} that the stages of fixed length cost"
        )
    return _largest_within(budget, spent, shares) if shares else sum(fixed_steps)


def _largest_within(budget: float, spent: float, shares: Sequence[tuple[Stage, float]]) -> int:
    """The number of steps at which stages of `share` durations cost the most within what is left of the budget.

    The cost is linear in it but for the rounding of each stage, which moves it by less than one step of every stage, and not always
    upwards: so all numbers within that distance are tried.
    """
    stages = tuple(stage for stage, _ in shares)
    rate = math.fsum(stage.duration.value * each for stage, each in shares)
    slack = math.fsum(each for _, each in shares)

    def cost(steps: int) -> float:
        """Infinite where a stage gets no step."""
        try:
            resolved = resolve_steps(stages, steps, batch_size=1, train_samples=1)
        except ConfigError:
            return math.inf
        return math.fsum(n * each for n, (_, each) in zip(resolved, shares))

    left = budget - spent
    first, last = max(1, math.floor((left - slack) / rate)), math.ceil((left + slack) / rate)
    costs = {steps: cost(steps) for steps in range(first, last + 1)}
    affordable = [(each, steps) for steps, each in costs.items() if spent + each <= budget * _ROUNDING]
    if not affordable:
        least = spent + next(each for each in map(cost, itertools.count(1)) if each < math.inf)
        raise ConfigError(
            f"budget: {budget:.4g} buys no step of some stage; the shortest run of every stage costs about {least:.4g}"
        )
    return max(affordable)[1]
