"""`vigreux compare`: several curricula at the same budget with several seeds, in one table and one plot."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vigreux.assembly.start import BUDGETS, already_finished, check_required, first_process, runner
from vigreux.checks import Jobs, Seed, check_value
from vigreux.cli.online import HELP, HELP_ONLINE, is_online
from vigreux.cli.parsing import make_parser, parse
from vigreux.cli.shared import console
from vigreux.config.task_kinds import SPECS
from vigreux.config.transformer import BudgetConfig, RunConfig
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.errors import CheckpointError, ConfigError, DataError, TrainingError, VigreuxError, shown
from vigreux.files.atomic import check_no_links, write_atomic, writing
from vigreux.files.lock import FolderBusyError, FolderLock, is_locked
from vigreux.files.overlaps import check_overlaps
from vigreux.report.metrics import Metric
from vigreux.run.folder import RunFolder
from vigreux.run.identity import first_difference
from vigreux.units import human_flops, human_time

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vigreux.report.tables import ComparisonTable, Estimate

FLAGS: list[tuple[str, dict[str, Any]]] = [
    (
        "--curricula",
        {
            "type": str,
            "default": "supervised,one-shot,extraction",
            "help": "names or YAML files, with commas",
        },
    ),
    ("--seeds", {"type": str, "default": "3", "help": "how many (3 is 0, 1, 2), or which (0,7,9; 5, alone)"}),
    ("--jobs", {"type": Jobs, "default": 1, "help": "runs at a time, each a process of its own"}),
    ("--resume", {"action": "store_true", "help": "go on: finished runs are kept, unfinished ones taken up"}),
    ("--quiet", {"action": "store_true", "help": "no progress bars"}),
]

MOST_SEEDS = 1000
AnyConfig = RunConfig | TwoLayerConfig
C = TypeVar("C", bound=AnyConfig)


def run(argv: Sequence[str]) -> None:
    """Runs every curriculum with every seed, and prints the table and where the plot and the report are."""
    online = is_online(argv)
    cls: type[AnyConfig] = TwoLayerConfig if online else RunConfig
    about = "Several curricula at the same budget, several seeds."
    about += HELP_ONLINE if online else HELP.format("compare")
    config, flags = parse(
        partial(make_parser, "compare", cls, about, FLAGS),
        cls,
        argv,
        ["curricula", "seeds", "jobs", "resume", "quiet"],
    )
    _refuse(argv, {"--curriculum": "--curricula", "--seed": "--seeds"})
    curricula, seeds = parse_curricula(flags["curricula"]), parse_seeds(flags["seeds"])
    if isinstance(config, RunConfig) and config.teacher.sharded:
        raise ConfigError(
            "teacher.sharded: true, and a comparison prepares its runs on one process; accepted: false, or distill"
        )
    if config.budget == BudgetConfig():
        raise ConfigError(f"budget: missing: a comparison gives all the same; accepted: {BUDGETS}")
    check_overlaps(config)
    root = Path(config.output)
    runs = grid(config, curricula, seeds)
    for each in runs[: len(curricula)]:
        check_required(each)
        if isinstance(each, TwoLayerConfig):
            from vigreux.backends.two_layer.build import make_setup

            make_setup(each)  # takes no time, and checks teacher and checkpoints before the first run
    if isinstance(config, RunConfig) and config.training:
        from vigreux.assembly.sources import training_device
        from vigreux.backends.transformer.dry_start import dry_start

        dry_start(config.training, steps=config.budget.steps or 100, device=training_device())
    lock = FolderLock(root)
    if first_process():
        _begin(root, config, runs, lock, resume=flags["resume"])
    try:
        failures = run_all(runs, jobs=flags["jobs"], resume=flags["resume"], quiet=flags["quiet"])
        if first_process() and len(failures) < len(runs):
            show(root)
    finally:
        lock.release()
    if failures:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise TrainingError(
            f"{len(failures)} of {len(runs)} runs failed ({reasons}); the others are finished, and --resume tries"
            " the failed ones again"
        )


def _refuse(argv: Sequence[str], instead: dict[str, str]) -> None:
    for argument in argv:
        if (name := argument.split("=", 1)[0]) in instead:
            raise ConfigError(f"{name}: a comparison sets it for each run; accepted: {instead[name]}")


def _begin(
    root: Path, config: AnyConfig, runs: Sequence[AnyConfig], lock: FolderLock, *, resume: bool
) -> None:
    """Takes the folder's lock, and writes compare.json, by which the report knows what belongs together."""
    if is_locked(root):
        raise _busy(root)
    if not resume and not _vacant(root):
        raise ConfigError(
            f"output: {config.output!r} is not empty; accepted: a new folder, or --resume to go on"
        )
    metric = Metric.named(SPECS[config.task.kind].metric)
    described = {
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "budget": describe_budget(config.budget),
        "baseline": Path(str(runs[0].curriculum)).stem,
        "runs": [Path(run.output).name for run in runs],
    }
    if resume and (root / "compare.json").exists():
        _check_same(root / "compare.json", described)
    check_no_links(root)
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    try:
        lock.take()
    except FolderBusyError as busy:
        raise _busy(root) from busy
    write_atomic(root / "compare.json", json.dumps(described, indent=1))


def _busy(root: Path) -> CheckpointError:
    return CheckpointError(
        f"{root}: is being written by another comparison; wait for it, or choose another output"
    )


def _vacant(root: Path) -> bool:
    """New, empty, or left by a comparison that ended before its first run."""
    ours = re.compile(r"compare\.json|\.lock.*|\..*\.tmp")
    return not root.exists() or (
        root.is_dir() and all(ours.fullmatch(entry.name) for entry in root.iterdir())
    )


def _check_same(path: Path, described: dict[str, Any]) -> None:
    """More seeds or curricula may join a comparison, another budget may not."""
    try:
        stored = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: is damaged; accepted: to delete it, then --resume writes it again"
        ) from error
    same = ("metric", "budget", "baseline")
    difference = first_difference(
        {name: stored.get(name) for name in same}, {name: described[name] for name in same}
    )
    if difference:
        raise CheckpointError(
            f"{path}: belongs to another comparison: {difference}; accepted: the same, or another output"
        )


def grid(config: C, curricula: Sequence[str], seeds: Sequence[int]) -> list[C]:
    """One configuration a curriculum and seed, seeds outermost: an interrupted comparison has whole seeds to show."""
    return [
        replace(
            config,
            curriculum=name,
            seed=seed,
            output=str(Path(config.output) / f"{Path(name).stem}-seed{seed}"),
        )
        for seed in seeds
        for name in curricula
    ]


def parse_curricula(text: str) -> list[str]:
    """Names between commas, each a builder's or a YAML file (`check_required` reads them)."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len({Path(name).stem for name in names}) < len(names):
        raise ConfigError(f"curricula: {shown(text)}; accepted: one or more different names with commas")
    return names


def parse_seeds(text: str) -> list[int]:
    """`3` is 0, 1, 2; `0,7` is 0 and 7; `5,` is 5 alone."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    numbers = [int(part) for part in parts if re.fullmatch(r"-?[0-9]{1,12}", part)]
    seeds = numbers if "," in text else list(range(min(numbers[0], MOST_SEEDS + 1))) if numbers else []
    if not 0 < len(seeds) <= MOST_SEEDS or len(numbers) < len(parts) or len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"seeds: {shown(text)}; accepted: how many (from 1 to {MOST_SEEDS:,}), or different whole numbers with commas"
        )
    for seed in seeds:
        check_value("seeds", seed, Seed)
    return seeds


def describe_budget(budget: BudgetConfig) -> str:
    """The budget in words."""
    if budget.steps is not None:
        return f"{budget.steps} steps each"
    return (
        f"{human_flops(budget.flops)} each"
        if budget.flops is not None
        else f"{human_time(budget.seconds or 0)} each"
    )


def run_all(runs: Sequence[AnyConfig], *, jobs: int, resume: bool, quiet: bool) -> dict[str, str]:
    """Runs what is not finished, one after the other on materials loaded once, or `jobs` at a time in processes of their own.

    Goes on past a run that fails; on a resume those that failed before come last.

    Returns:
        run → why it failed, of those that did.

    Raises:
        ConfigError, DataError: of the first run, before anything is trained: what is asked cannot be.
    """
    left = sorted((run for run in runs if not _done(run, resume)), key=lambda run: _failed(run, resume))
    if jobs > 1:
        return _run_side_by_side(left, jobs, resume)
    failures: dict[str, str] = {}
    run_next = runner(runs[0]) if left else None
    for number, config in enumerate(left, start=1):
        assert run_next is not None
        name = Path(config.output).name
        if not quiet and first_process():
            print(f"run {number} of {len(left)}: {name}", flush=True)
        try:
            run_next(config, resume=_begun(config, resume), quiet=quiet)
        except VigreuxError as error:
            if number == 1 and isinstance(error, (ConfigError, DataError)) and not _folder(config).exists():
                raise
            _report_failure(failures, name, str(error))
    return failures


def _run_side_by_side(left: Sequence[AnyConfig], jobs: int, resume: bool) -> dict[str, str]:
    """A process a run: one that is killed takes no other with it."""
    failures: dict[str, str] = {}
    with ThreadPoolExecutor(jobs) as threads:
        begun = {threads.submit(_run_in_process, run, jobs, resume): Path(run.output).name for run in left}
        try:
            for done in as_completed(begun):
                try:
                    done.result()
                except VigreuxError as error:
                    _report_failure(failures, begun[done], str(error))
                except BrokenProcessPool:
                    _report_failure(failures, begun[done], "its process was killed")
        except BaseException:  # an interruption ends all
            threads.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return failures


def _run_in_process(config: AnyConfig, jobs: int, resume: bool) -> None:
    from joblib import cpu_count

    context = multiprocessing.get_context("spawn")
    threads = max(1, cpu_count() // jobs)
    with ProcessPoolExecutor(1, context, _share_processors, (threads,)) as process:
        process.submit(_run_alone, config, resume).result()


def _share_processors(threads: int) -> None:
    """So that runs side by side do not take each other's processors; before torch and numba are loaded, which read this once."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))


def _report_failure(failures: dict[str, str], name: str, reason: str) -> None:
    failures[name] = reason
    print(f"vigreux: {name} failed: {reason}", file=sys.stderr, flush=True)


def _run_alone(config: AnyConfig, resume: bool) -> None:
    runner(config)(config, resume=_begun(config, resume), quiet=True)


def _folder(config: AnyConfig) -> Path:
    return Path(config.output)


def _failed(config: AnyConfig, resume: bool) -> bool:
    return _begun(config, resume) and RunFolder.open(_folder(config)).status == "failed"


def _begun(config: AnyConfig, resume: bool) -> bool:
    return resume and (Path(config.output) / "run.json").exists()


def _done(config: AnyConfig, resume: bool) -> bool:
    return _begun(config, resume) and already_finished(config, resume=True)


def show(root: Path) -> None:
    """The table on the terminal, the plot and the report beside the runs."""
    from vigreux.report.page import write_report
    from vigreux.report.plots import comparison_figure
    from vigreux.report.read import read_experiment
    from vigreux.report.style import LIGHT, save_png
    from vigreux.report.tables import comparison_table

    experiment = read_experiment([root])
    terminal = console()
    terminal.print(widest_table(comparison_table(experiment), terminal))
    save_png(comparison_figure(experiment), root / "plot.png", LIGHT)
    print(f"plot: {root / 'plot.png'}")
    print(f"report: {write_report([root], root)}")


def widest_table(table: ComparisonTable, terminal: Console) -> Table:
    """The table with as many of the metrics beside the main one as the terminal has room for."""
    from rich.console import Console

    from vigreux.report.tables import OTHERS, to_rich

    main, unbounded = table.metric.name, Console(width=1000)
    for others in reversed(range(OTHERS + 1)):
        rows = (replace(row, metrics=_first(row.metrics, main, others)) for row in table.rows)
        rendered = to_rich(replace(table, rows=tuple(rows)))
        rendered.columns[0].no_wrap = True  # in a narrow terminal numbers go over two lines, names are kept
        if unbounded.measure(rendered).maximum <= terminal.width:
            break
    return rendered


def _first(metrics: dict[str, Estimate], main: str, others: int) -> dict[str, Estimate]:
    names = [name for name in metrics if name != main][:others]
    return {name: value for name, value in metrics.items() if name in (main, *names)}
