"""`vigreux cache`: writes a teacher's signals to disk once, for any number of students."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vigreux.assembly.start import check_required, first_process
from vigreux.cli.flags import QUIET, Flag
from vigreux.cli.parsing import read_arguments
from vigreux.cli.shared import console
from vigreux.config.transformer import RunConfig
from vigreux.files.overlaps import check_overlaps
from vigreux.report.layout import terminal_table

if TYPE_CHECKING:
    from vigreux.assembly.caching import Capture

ABOUT = """Write the teacher signals that a configuration's stages need. Students then train without teachers.

Run the same command again to resume an interrupted cache or to rebuild damaged shards. Several processes
share the work (accelerate launch -m vigreux cache CONFIG.yaml)."""
FLAGS = (QUIET, Flag("estimate", "print the size of the cache, and write only an empty cache"))


def run(argv: Sequence[str]) -> None:
    """Prints the signals and the size of the cache, and writes it."""
    config, flags = read_arguments("cache", argv, FLAGS).parse(RunConfig, ABOUT)
    check_required(config)
    check_overlaps(config, "cache.path")
    from vigreux.assembly.caching import begin_capture
    from vigreux.assembly.quiet import quiet_libraries

    quiet_libraries()
    capture = begin_capture(config)
    if first_process():
        _show(capture)
    if flags["estimate"]:
        capture.close()
    else:
        _write(capture, quiet=flags["quiet"] or not first_process())
        if first_process():
            print(
                f"cache: {capture.store.root}\n"
                f"next: vigreux distill CONFIG.yaml --cache.path {capture.store.root}"
            )


def _show(capture: Capture) -> None:
    from vigreux.units import human_bytes

    table = terminal_table(["signal", "bytes a row", "what is lost"])
    for signal in capture.signals:
        table.add_row(signal.name, str(signal.form.bytes_per_row), signal.form.error)
    console().print(table)
    samples = capture.store.manifest.samples
    missing = sum(len(capture.store.missing(split)) for split in samples)
    shards = sum(capture.store.manifest.shards(split) for split in samples)
    print(
        f"{samples['train']:,} training and {samples['held_out']:,} held-out samples:"
        f" about {human_bytes(capture.size)}, {missing} of {shards} shards to write"
    )


def _write(capture: Capture, *, quiet: bool) -> None:
    from rich.progress import Progress

    with Progress(disable=quiet) as progress:
        bar = progress.add_task("samples", total=capture.samples_left)
        capture.run(lambda samples: progress.advance(bar, samples))
