"""`vigreux plan`: stages, FLOPs, memory, bytes kept and time of a configuration, before any weight is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vigreux.cli.distill import check_given
from vigreux.cli.parsing import make_parser, parse
from vigreux.config import RunConfig
from vigreux.cost import human_bytes, human_flops, human_time

if TYPE_CHECKING:
    from vigreux.engines.planning import Plan


def run(argv: Sequence[str]) -> None:
    """Prints the plan."""
    parser = make_parser("plan", RunConfig, "What a configuration costs, before anything is loaded or trained.")
    config, _ = parse(parser, RunConfig, argv)
    check_given(config, data=False)
    from vigreux.cli.quiet import quiet_libraries
    from vigreux.engines.planning import make_plan

    quiet_libraries()
    _print(make_plan(config, _series(config)))


def _series(config: RunConfig) -> dict[int, str]:
    """The teacher's checkpoints; what is on the hub is not fetched for a plan."""
    from vigreux.cli.sources import checkpoint_series, local
    from vigreux.distillation.series import find_series

    checkpoints = config.teacher.checkpoints
    found = find_series(checkpoints) if checkpoints is not None else {}
    if all(Path(source).is_dir() for source in found.values()):
        return checkpoint_series(checkpoints, local(config.teacher.model))[0]
    return found


def _print(plan: Plan) -> None:
    from rich import box
    from rich.table import Table

    from vigreux.cli.running import console

    table = Table("stage", "teacher", "target", "depth", "steps", "FLOPs", "time", box=box.SIMPLE_HEAD, pad_edge=False)
    for stage, cost in zip(plan.curriculum, plan.cost.stages):
        depth = "whole" if stage.depth is None else str(stage.depth)
        costs = f"{cost.steps:,}", human_flops(cost.flops), human_time(cost.seconds or 0)
        table.add_row(stage.name, str(stage.teacher), str(stage.target), depth, *costs)
    console().print(table)
    for name, model, flops in (
        ("student", plan.student, plan.cost.student_flops),
        ("teacher", plan.teacher, plan.cost.teacher_flops),
    ):
        print(f"{name}: {model.parameters:,} parameters, {model.layers} blocks of {model.hidden}, {human_flops(flops)}")
    seconds, rate = human_time(plan.cost.seconds or 0), human_flops(plan.rate)
    print(f"time: about {seconds} for {human_flops(plan.cost.flops)} (matrix products run at {rate}/s here)")
    print(f"memory: about {human_bytes(plan.memory)} (weights, gradients, optimiser states, activations of one batch)")
    print(f"teacher weights to keep: {human_bytes(plan.cost.bytes_kept)}")
    print("Counted on full blocks of task.max_length tokens: shorter documents cost less.")
