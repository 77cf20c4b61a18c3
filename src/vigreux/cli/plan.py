"""`vigreux plan`: stages, FLOPs, memory, bytes kept and time of a configuration, before any weight is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from vigreux.cli.parsing import make_parser, parse
from vigreux.config import RunConfig
from vigreux.errors import ConfigError


def run(argv: Sequence[str]) -> None:
    """Prints the plan."""
    parser = make_parser("plan", RunConfig, "What a configuration costs, before anything is trained.")
    config, _ = parse(parser, RunConfig, argv)
    if not config.teacher.model:
        raise ConfigError("teacher.model: missing; accepted: a directory made by save_pretrained, a hub id, or an asset")
    from rich.console import Console
    from rich.table import Table

    from vigreux.cli.quiet import quiet_libraries
    from vigreux.cost import human_bytes, human_flops, human_time
    from vigreux.engines.planning import make_plan

    quiet_libraries()
    plan = make_plan(config)
    table = Table("stage", "teacher", "target", "depth", "steps", "student", "teacher", "time")
    for stage, planned in zip(plan.curriculum, plan.stages):
        table.add_row(
            stage.name,
            str(stage.teacher),
            str(stage.target),
            "whole" if stage.depth is None else str(stage.depth),
            str(planned.steps),
            human_flops(planned.student_flops),
            human_flops(planned.teacher_flops),
            human_time(planned.seconds or 0),
        )
    Console().print(table)
    print(f"teacher: {plan.teacher_parameters:,} parameters, {plan.teacher_layers} blocks")
    print(f"student: {plan.student_parameters:,} parameters, {plan.student_layers} blocks")
    print(
        f"total: {human_flops(plan.flops)}, about {human_time(plan.seconds)} on this machine ({human_flops(plan.rate)}/s measured)"
    )
    print(f"memory: about {human_bytes(plan.memory)} (weights, gradients, optimiser states, activations of one batch)")
    print(f"teacher weights to keep: {human_bytes(plan.bytes_kept)}")
    print("FLOPs are of full blocks of task.max_length tokens; shorter documents cost less")
