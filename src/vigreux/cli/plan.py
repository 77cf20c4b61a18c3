"""`vigreux plan`: prints stages, FLOPs, memory and time of a configuration, without loading weights."""

from __future__ import annotations

from collections.abc import Sequence

from vigreux.assembly.pricing import CacheReport, price
from vigreux.assembly.start import check_required
from vigreux.checks import Size
from vigreux.cli.families import family_of
from vigreux.cli.flags import Flag
from vigreux.cli.parsing import read_arguments
from vigreux.cli.shared import console
from vigreux.curriculum import Curriculum
from vigreux.plan.cost import Cost
from vigreux.report.layout import terminal_table
from vigreux.units import human_bytes, human_flops, human_time

FLAGS = (
    Flag("hardware", "price the run for another machine as well, such as h100x64", str, None, "NAMExN"),
    Flag("students", "number of students that share one teacher, for the price of a cache", Size, 3),
)
ABOUT = "Print what a configuration costs, before anything is loaded or trained."


def run(argv: Sequence[str]) -> None:
    """Prints the plan."""
    arguments = read_arguments("plan", argv, FLAGS)
    family = family_of(arguments)
    config, flags = family.read_run(family.without_prices(arguments), ABOUT)
    check_required(config, data=False)
    report = price(config, flags)
    _print_stages(report.curriculum, report.cost)
    for line in report.lines:
        print(line)
    if report.cache is not None:
        _print_cache(report.cache)


def _print_stages(curriculum: Curriculum, cost: Cost) -> None:
    table = terminal_table(["stage", "teacher", "target", "depth", "steps", "FLOPs", "time"])
    for stage, stage_cost in zip(curriculum, cost.stages):
        depth = "whole" if stage.depth is None else str(stage.depth)
        seconds = human_time(stage_cost.seconds or 0)
        table.add_row(
            stage.name,
            str(stage.teacher),
            str(stage.target),
            depth,
            f"{stage_cost.steps:,}",
            human_flops(stage_cost.flops),
            seconds,
        )
    console().print(table)


def _print_cache(cache: CacheReport) -> None:
    """Prints the cost of a cache and of the live teacher, for one student and for several."""
    price = cache.price
    students = cache.students
    table = terminal_table(["teacher", "FLOPs", f"time {cache.machine}", "bytes read a second"])
    for name, flops, reads in (
        ("live, one student", price.live_flops, 0.0),
        ("capture, once", price.capture_flops, 0.0),
        ("cached, one student", price.cached_flops, price.bytes),
        (f"live, {students} students", price.flops(students, cached=False), 0.0),
        (f"cached, {students} students", price.flops(students, cached=True), students * price.bytes),
    ):
        seconds = flops / cache.rate
        read_rate = human_bytes(reads / seconds) if reads and seconds else "–"
        table.add_row(name, human_flops(flops), human_time(seconds), read_rate)
    console().print(table)
    pays = f"from the {_ordinal(price.pays_from)} student on" if price.pays_from else "never"
    print(
        f"a cache takes {human_bytes(price.bytes)} if each sample is read once, and costs less than the live"
        f" teacher {pays}"
    )
    for line in cache.lines:
        print(line)


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
