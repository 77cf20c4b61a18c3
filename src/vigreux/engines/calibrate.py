"""What one step of each stage costs: FLOPs counted and seconds measured on the first batches, and the steps a budget buys."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vigreux.cost import steps_for_budget
from vigreux.curriculum import Stage, resolve_steps
from vigreux.distill.stage_model import count_rows, teacher_signal
from vigreux.engines.setup import Setup
from vigreux.errors import ConfigError


@dataclass(frozen=True)
class StepCost:
    """Cost of one optimiser step of a stage, over all processes.

    FLOPs are those of matrix products and attention (forward and backward of the student, forward of the teacher), averaged over
    the first batches. Attention counts as its plain matrix products, whichever kernel runs it: the counter does not know every
    fused one. `seconds` is `None` where it was not measured.
    """

    student_flops: float
    teacher_flops: float
    seconds: float | None = None

    @property
    def flops(self) -> float:
        """Student and teacher together."""
        return self.student_flops + self.teacher_flops


def step_cost(setup: Setup, stage: Stage, *, timed: bool = False, batches: int = 2) -> StepCost:
    """Counts, and with `timed` measures, the steps of `stage` on the first batches. The student and the RNG stay as they are."""
    # a copy, so that neither gradients nor optimiser steps touch the student; the teacher is shared
    probe = dataclasses.replace(setup, student=copy.deepcopy(setup.student), matrices=dict(setup.matrices))
    size = setup.arguments("unused", 1).per_device_train_batch_size
    with torch.random.fork_rng():
        model, teacher = probe.stage_model(stage)
        model.train()
        student = teacher_part = 0
        for batch, _ in zip(probe.batches(size), range(batches)):
            with FlopCounterMode(display=False) as of_teacher, sdpa_kernel(SDPBackend.MATH):
                signal = teacher_signal(setup.task, stage.target, teacher, batch)
            with FlopCounterMode(display=False) as of_student, sdpa_kernel(SDPBackend.MATH):
                model(batch, signal).backward()
            teacher_part += of_teacher.get_total_flops()
            student += of_student.get_total_flops()
        scale = setup.samples_per_step / (size * batches)
        seconds = _seconds(probe, stage, model, teacher, size) * setup.samples_per_step / size if timed else None
    return StepCost(student * scale, teacher_part * scale, seconds)


def _seconds(probe: Setup, stage: Stage, model: torch.nn.Module, teacher: Any, size: int, steps: int = 4) -> float:
    """Median wall time of a step on one device, after one step to warm up; the optimiser's step is included."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    times = []
    for batch, _ in zip(probe.batches(size), range(steps + 1)):
        start = time.perf_counter()
        signal = teacher_signal(probe.task, stage.target, teacher, batch)
        (model(batch, signal) / count_rows(probe.task, stage.target, batch)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[len(times[1:]) // 2]


def plan_steps(setup: Setup, costs: Sequence[StepCost] | None = None) -> tuple[int, ...]:
    """Steps of each stage under the setup's budget.

    Raises `ConfigError` when stages are given as shares and there is no budget, or when the budget buys no step of some stage.
    """
    sizes = {
        "batch_size": setup.samples_per_step,
        "train_samples": len(setup.task.train),
        "tokens_per_sample": setup.task.tokens_per_sample,
    }
    budget = setup.budget
    if any(stage.duration.unit == "share" for stage in setup.curriculum):
        if budget.steps is None and budget.flops is None and budget.seconds is None:
            raise ConfigError("budget: the curriculum's stages are shares of a budget; give one of budget.steps, .flops, .seconds")
        if budget.steps is None:
            assert costs is not None
            per_step = [cost.flops if budget.flops is not None else cost.seconds or 0.0 for cost in costs]
            amount = budget.flops or budget.seconds or 0.0
            return resolve_steps(setup.curriculum, steps_for_budget(setup.curriculum, per_step, amount, **sizes), **sizes)
    return resolve_steps(setup.curriculum, budget.steps or 0, **sizes)
