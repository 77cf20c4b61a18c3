"""The cost of one step of each stage, from the first batches, and the steps that a budget allows."""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_builder import build_stage
from vigreux.curriculum import Stage
from vigreux.distillation.stage_model import StageModel
from vigreux.loop.plan import StagePlan
from vigreux.models.flop_counter import FlopCounter
from vigreux.plan.budget import steps_within
from vigreux.plan.cost import StepCost


def step_cost(setup: Setup, stage: Stage, *, timed: bool = False, batches: int = 2) -> StepCost:
    """Counts the FLOPs of a step of `stage` on the first batches; with `timed` also measures its seconds.

    The student and the random number generators do not change.
    """
    # A copy, so that gradients and optimiser steps do not touch the student. The teacher is shared.
    probe = dataclasses.replace(setup, student=copy.deepcopy(setup.student))
    with torch.random.fork_rng(), probe.frozen(stage):
        model, teacher = build_stage(probe, stage)
        model.train()
        student_flops = teacher_flops = 0
        for batch, _ in zip(probe.batches(), range(batches)):
            with FlopCounter() as of_teacher, sdpa_kernel(SDPBackend.MATH):
                signal = model.signal(teacher, batch)
            with FlopCounter() as of_student, sdpa_kernel(SDPBackend.MATH):
                model(batch, signal).backward()
            teacher_flops += of_teacher.flops
            student_flops += of_student.flops
        seconds = None
        if timed:
            micro_batches = setup.training.get("gradient_accumulation_steps", 1)
            seconds = _seconds(probe, stage, model, teacher) * micro_batches
    # micro-batches per step over all processes, divided by the number of batches counted above
    factor = setup.samples_per_step // setup.batch_size / batches
    return StepCost(student_flops * factor, teacher_flops * factor, seconds)


def _seconds(probe: Setup, stage: Stage, model: StageModel, teacher: Any, batches: int = 4) -> float:
    """Median wall time of a micro-batch and an optimiser step on one device, after one warm-up."""
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-5)
    times = []
    for batch, _ in zip(probe.batches(), range(batches + 1)):
        start = time.perf_counter()
        signal = model.signal(teacher, batch)
        (model(batch, signal) / model.count_rows(batch)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def plan_stages(setup: Setup) -> list[StagePlan]:
    """Measures every stage, and derives the steps that the budget allows."""
    costs = [step_cost(setup, stage, timed=setup.budget.seconds is not None) for stage in setup.curriculum]
    steps = steps_within(setup.budget, setup.curriculum, costs, **setup.sizes)
    return [StagePlan(*planned) for planned in zip(steps, costs)]
