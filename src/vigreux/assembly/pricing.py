"""Reports the cost of a configuration for `vigreux plan`, for every kind of student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigreux.config.transformer import RunConfig
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.curriculum.stages import Curriculum
from vigreux.plan.cost import Cost
from vigreux.plan.hardware import CachePrice, Cluster
from vigreux.units import human_bytes, human_flops, human_time

if TYPE_CHECKING:
    from vigreux.backends.transformer.planning import Plan


@dataclass(frozen=True)
class CacheReport:
    """Compares a cache of the teacher's signals with the live teacher.

    Args:
        price: FLOPs and bytes of both.
        rate: FLOP/s of the machine that the times are for.
        machine: the machine, in words.
        students: the number of students that share the teacher.
        lines: further remarks, one per line.
    """

    price: CachePrice
    rate: float
    machine: str
    students: int
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanReport:
    """A curriculum with the cost of each stage.

    Args:
        curriculum: the stages.
        cost: the cost of the stages.
        lines: models, time and memory, one per line.
        cache: the cost of a cache; `None` if no cache can be made, or no stage has a teacher.
    """

    curriculum: Curriculum
    cost: Cost
    lines: tuple[str, ...]
    cache: CacheReport | None = None


@singledispatch
def price(config: Any, options: Mapping[str, Any]) -> PlanReport:
    """The plan of a configuration. Loads no weights and trains nothing.

    Args:
        config: the configuration of a run that learns from a teacher.
        options: `hardware` (the machines to price the run for, or `None`) and `students` (the number that
            share a teacher); two-layer networks have neither.
    """
    raise TypeError(f"no plan for a {type(config).__name__}")


@price.register
def _price_transformer(config: RunConfig, options: Mapping[str, Any]) -> PlanReport:
    from vigreux.assembly.embeddings import settled
    from vigreux.assembly.quiet import quiet_libraries
    from vigreux.backends.transformer.planning import cache_price, make_plan

    quiet_libraries()
    cluster = None if options["hardware"] is None else Cluster.named(options["hardware"])
    task, notes = settled(config)
    config = replace(config, task=task)
    plan = make_plan(config, _series(config))
    lines = []
    for name, model, flops in (
        ("student", plan.student, plan.cost.student_flops),
        ("teacher", plan.teacher, plan.cost.teacher_flops),
    ):
        size = f"{model.parameters:,} parameters, {model.layers} blocks of {model.hidden}"
        lines.append(f"{name}: {size}, {human_flops(flops)}")
    seconds = human_time(plan.cost.seconds or 0)
    rate = human_flops(plan.rate)
    needs = "weights, gradients, optimiser states, activations of one batch"
    lines += [
        f"time: about {seconds} for {human_flops(plan.cost.flops)} (matrix products run at {rate}/s here)",
        f"memory: about {human_bytes(plan.memory)} ({needs})",
        f"teacher weights to keep: {human_bytes(plan.cost.bytes_kept)}",
        "Counted on full blocks of task.max_length tokens: shorter documents cost less.",
        *(f"note: {note}" for note in notes),
    ]
    cache = None
    if any(stage.teacher.kind != "labels" for stage in plan.curriculum):
        cache = _cache_report(plan, cache_price(config, plan), cluster, options["students"])
    return PlanReport(plan.curriculum, plan.cost, tuple(lines), cache)


def _series(config: RunConfig) -> dict[int, str]:
    """The teacher's checkpoints. A plan does not download those on the hub."""
    from vigreux.assembly.sources import checkpoint_series, local
    from vigreux.distillation.series import find_series

    checkpoints = config.teacher.checkpoints
    series = find_series(checkpoints) if checkpoints is not None else {}
    if all(Path(source).is_dir() for source in series.values()):
        return checkpoint_series(checkpoints, local(config.teacher.model))[0]
    return series


def _cache_report(plan: Plan, price: CachePrice, cluster: Cluster | None, students: int) -> CacheReport:
    from vigreux.backends.transformer.planning import OVERHEAD

    if cluster is None:
        return CacheReport(price, plan.rate / OVERHEAD, "here", students)
    teacher = plan.teacher.parameters
    student = plan.student.parameters
    lines = []
    # Weights only, without activations. A sharded student also has a whole copy on each device
    # (backends/transformer/sharding.py).
    for model, size, whole_copy in (
        ("teacher (bfloat16)", 2 * teacher, 0),
        ("student (float32 weights, gradients, Adam)", 16 * student, 4 * student),
    ):
        if size < 0.8 * cluster.device.memory:
            fits = "fits one device"
        else:
            share = size / cluster.count + whole_copy
            fits = f"{human_bytes(share)} a device when sharded over all"
        lines.append(f"memory, {model}: {human_bytes(size)}, {fits}")
    machine = f"on {cluster.name}, {100 * cluster.utilisation:.0f} % of its peak"
    return CacheReport(price, cluster.rate, machine, students, tuple(lines))


@price.register
def _price_two_layer(config: TwoLayerConfig, options: Mapping[str, Any]) -> PlanReport:
    from vigreux.backends.two_layer.build import make_setup, torch_threads
    from vigreux.backends.two_layer.planning import make_plan
    from vigreux.backends.two_layer.stages import matching_of

    with torch_threads(config.training.threads):
        plan = make_plan(make_setup(config))
    lines = []
    for name, shape, flops in (
        ("student", plan.student, plan.cost.student_flops),
        ("teacher", plan.teacher, plan.cost.teacher_flops),
    ):
        if shape is not None:
            size = f"{shape.parameters:,} parameters, width {shape.width:,}"
            lines.append(f"{name}: {size}, {human_flops(flops)}")
    lines += [
        f"time: about {human_time(plan.cost.seconds or 0)} (measured here on a few thousand samples)",
        f"memory: about {human_bytes(plan.memory)} (weights, and what a block of samples needs)",
        f"teacher weights to keep: {human_bytes(plan.cost.bytes_kept)}",
    ]
    if any(matching_of(stage.target).logits is not None for stage in plan.curriculum):
        lines.append(
            "The teacher's logits are computed once: later students on the same samples read them from disk."
        )
    return PlanReport(plan.curriculum, plan.cost, tuple(lines))
