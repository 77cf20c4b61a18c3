"""`vigreux plan`: stages, FLOPs, memory, bytes kept and time of a configuration, before any weight is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vigreux.assembly.start import check_required
from vigreux.checks import Size
from vigreux.cli.flags import Flag
from vigreux.cli.online import HELP, HELP_TWO_LAYER, is_two_layer
from vigreux.cli.parsing import read_arguments
from vigreux.cli.shared import console
from vigreux.config.transformer import RunConfig
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.curriculum import Curriculum
from vigreux.plan.cost import Cost
from vigreux.plan.hardware import CachePrice, Cluster
from vigreux.units import human_bytes, human_flops, human_time

FLAGS = (
    Flag("hardware", "price it for other machines as well, such as h100x64", str, None, "NAMExN"),
    Flag("students", "how many students share one teacher, for the price of a cache", Size, 3),
)

if TYPE_CHECKING:
    from vigreux.backends.transformer.planning import Plan
    from vigreux.backends.two_layer.planning import TwoLayerPlan


def run(argv: Sequence[str]) -> None:
    """Prints the plan."""
    arguments = read_arguments("plan", argv, FLAGS)
    two_layer = is_two_layer(arguments)
    cls: type[RunConfig | TwoLayerConfig] = TwoLayerConfig if two_layer else RunConfig
    about = "What a configuration costs, before anything is loaded or trained."
    about += HELP_TWO_LAYER if two_layer else HELP.format("plan")
    if two_layer:
        arguments = replace(arguments, flags=())  # they price transformers only
    config, flags = arguments.parse(cls, about)
    check_required(config, data=False)
    if isinstance(config, TwoLayerConfig):
        from vigreux.backends.two_layer.build import make_setup, torch_threads
        from vigreux.backends.two_layer.planning import make_plan as make_online_plan

        with torch_threads(config.training.threads):
            _print_two_layer(make_online_plan(make_setup(config)))
        return
    from vigreux.assembly.embeddings import settled
    from vigreux.assembly.quiet import quiet_libraries
    from vigreux.backends.transformer.planning import cache_price, make_plan

    quiet_libraries()
    cluster = None if flags["hardware"] is None else Cluster.named(flags["hardware"])
    task, notes = settled(config)
    config = replace(config, task=task)
    plan = make_plan(config, _series(config))
    _print(plan)
    for note in notes:
        print(f"note: {note}")
    if any(stage.teacher.kind != "labels" for stage in plan.curriculum):
        _print_prices(plan, cache_price(config, plan), cluster, flags["students"])


def _series(config: RunConfig) -> dict[int, str]:
    """The teacher's checkpoints; what is on the hub is not fetched for a plan."""
    from vigreux.assembly.sources import checkpoint_series, local
    from vigreux.distillation.series import find_series

    checkpoints = config.teacher.checkpoints
    found = find_series(checkpoints) if checkpoints is not None else {}
    if all(Path(source).is_dir() for source in found.values()):
        return checkpoint_series(checkpoints, local(config.teacher.model))[0]
    return found


def _print_stages(curriculum: Curriculum, cost: Cost) -> None:
    from rich import box
    from rich.table import Table

    table = Table(
        "stage", "teacher", "target", "depth", "steps", "FLOPs", "time", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for stage, own in zip(curriculum, cost.stages):
        depth = "whole" if stage.depth is None else str(stage.depth)
        costs = f"{own.steps:,}", human_flops(own.flops), human_time(own.seconds or 0)
        table.add_row(stage.name, str(stage.teacher), str(stage.target), depth, *costs)
    console().print(table)


def _print(plan: Plan) -> None:
    _print_stages(plan.curriculum, plan.cost)
    for name, model, flops in (
        ("student", plan.student, plan.cost.student_flops),
        ("teacher", plan.teacher, plan.cost.teacher_flops),
    ):
        print(
            f"{name}: {model.parameters:,} parameters, {model.layers} blocks of {model.hidden}, {human_flops(flops)}"
        )
    seconds, rate = human_time(plan.cost.seconds or 0), human_flops(plan.rate)
    print(f"time: about {seconds} for {human_flops(plan.cost.flops)} (matrix products run at {rate}/s here)")
    print(
        f"memory: about {human_bytes(plan.memory)} (weights, gradients, optimiser states, activations of one batch)"
    )
    print(f"teacher weights to keep: {human_bytes(plan.cost.bytes_kept)}")
    print("Counted on full blocks of task.max_length tokens: shorter documents cost less.")


def _print_prices(plan: Plan, price: CachePrice, cluster: Cluster | None, students: int) -> None:
    """A cache against the live teacher, and both on other machines."""
    from rich import box
    from rich.table import Table

    from vigreux.backends.transformer.planning import OVERHEAD

    rate = cluster.rate if cluster else plan.rate / OVERHEAD
    where = f"on {cluster.name}, {100 * cluster.utilisation:.0f} % of its peak" if cluster else "here"
    table = Table(
        "teacher", "FLOPs", f"time {where}", "bytes read a second", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name, flops, reads in (
        ("live, one student", price.live_flops, 0.0),
        ("capture, once", price.capture_flops, 0.0),
        ("cached, one student", price.cached_flops, price.bytes),
        (f"live, {students} students", price.flops(students, cached=False), 0.0),
        (f"cached, {students} students", price.flops(students, cached=True), students * price.bytes),
    ):
        seconds = flops / rate
        table.add_row(
            name,
            human_flops(flops),
            human_time(seconds),
            human_bytes(reads / seconds) if reads and seconds else "–",
        )
    console().print(table)
    pays = f"from the {_ordinal(price.pays_from)} student on" if price.pays_from else "never"
    print(
        f"a cache takes {human_bytes(price.bytes)} where each sample comes once, and costs less than the live teacher {pays}"
    )
    if cluster:
        _print_memory(plan, cluster)


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def _print_memory(plan: Plan, cluster: Cluster) -> None:
    """Weights alone; activations come on top."""
    teacher, student = plan.teacher.parameters, plan.student.parameters
    for what, size, beside in (
        ("teacher (bfloat16)", 2 * teacher, 0),
        (
            "student (float32 weights, gradients, Adam)",
            16 * student,
            4 * student,
        ),  # beside: the whole copy (backends/transformer/sharding.py)
    ):
        share = size / cluster.count + beside
        fits = (
            "fits one device"
            if size < 0.8 * cluster.device.memory
            else f"{human_bytes(share)} a device when sharded over all"
        )
        print(f"memory, {what}: {human_bytes(size)}, {fits}")


def _print_two_layer(plan: TwoLayerPlan) -> None:
    _print_stages(plan.curriculum, plan.cost)
    for name, shape, flops in (
        ("student", plan.student, plan.cost.student_flops),
        ("teacher", plan.teacher, plan.cost.teacher_flops),
    ):
        if shape is not None:
            print(f"{name}: {shape.parameters:,} parameters, width {shape.width:,}, {human_flops(flops)}")
    print(f"time: about {human_time(plan.cost.seconds or 0)} (measured here on a few thousand samples)")
    print(f"memory: about {human_bytes(plan.memory)} (weights, and what a block of samples needs)")
    print(f"teacher weights to keep: {human_bytes(plan.cost.bytes_kept)}")
    if any(stage.target.needs_teacher and stage.target.uses_logits for stage in plan.curriculum):
        print(
            "A teacher's logits are kept: the next student on the same samples does not ask for them again."
        )
