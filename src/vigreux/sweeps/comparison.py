"""`vigreux.compare`: several curricula at the same budget, each with the same seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigreux.assembly.start import first_process
from vigreux.checks import Jobs, Seed, check_value
from vigreux.config.shared import BudgetConfig
from vigreux.config.task_kinds import SPECS
from vigreux.config.transformer import RunConfig
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.errors import CheckpointError, ConfigError, shown
from vigreux.files.atomic import write_atomic
from vigreux.files.overlaps import check_overlaps
from vigreux.plan.budget import BUDGETS
from vigreux.report.metrics import Metric
from vigreux.run.identity import first_difference
from vigreux.sweeps.folders import check_not_busy, locked, plan_runs
from vigreux.sweeps.sweep import RunsFailedError, SweepResult, check_configs, run_all
from vigreux.units import human_flops, human_time

if TYPE_CHECKING:
    from vigreux.report.tables import ComparisonTable

CURRICULA = ("supervised", "one-shot", "extraction")
MOST_SEEDS = 1000
DESCRIPTION = "compare.json"


@dataclass(frozen=True)
class Comparison(SweepResult):
    """The runs of a comparison, and the pages that show them.

    Args:
        plot: The figure; `None` where no run finished.
        report: The HTML page; `None` where no run finished.
    """

    plot: Path | None = None
    report: Path | None = None

    def table(self) -> ComparisonTable:
        """One row for each curriculum, with its difference to the first one."""
        from vigreux.report.read import read_experiment
        from vigreux.report.tables import comparison_table

        return comparison_table(read_experiment([self.root]))


def compare(
    config: RunConfig | TwoLayerConfig,
    curricula: Sequence[str | Path] = CURRICULA,
    seeds: int | Sequence[int] = 3,
    *,
    jobs: int = 1,
    resume: bool = False,
    quiet: bool = False,
) -> Comparison:
    """Runs every curriculum with every seed at the budget of `config`, and compares the students.

    Runs of one seed see the same samples in the same order. Seeds are the outer loop, so that an interrupted
    comparison has whole seeds to show. The folder `config.output` gets the run folders `CURRICULUM-seedN`,
    compare.json, plot.png and report.html.

    Args:
        config: The configuration of all runs. It needs a budget; its curriculum, seed and output are not used
            by the runs.
        curricula: Names (see `vigreux distill --help`) or YAML files. The table compares the others with the
            first.
        seeds: How many (3 is 0, 1 and 2), or which.
        jobs: The number of runs at a time; see `vigreux.sweep`.
        resume: Keep finished runs, and resume those that are not finished. More curricula and seeds may join.
        quiet: Show no progress.

    Returns:
        The runs. `table()` compares the curricula.

    Raises:
        ConfigError, DataError, CheckpointError: something is refused; nothing was trained.
        RunsFailedError: some runs failed; the others are finished. Its `result` is the `Comparison` of them.
    """
    check_value("jobs", jobs, Jobs)
    names = _check_curricula(curricula)
    _check_config(config)
    root = Path(config.output)
    configs = {
        f"{Path(name).stem}-seed{seed}": replace(config, curriculum=name, seed=seed)
        for seed in _resolve_seeds(seeds)
        for name in names
    }
    check_configs(configs.values())
    if first_process():
        check_not_busy(root)
    description = _describe(config, baseline=Path(names[0]).stem, runs=list(configs))
    _check_folder(root, description, resume=resume)
    with locked(root):
        if first_process():
            write_atomic(root / DESCRIPTION, json.dumps(description, indent=1))
        planned = plan_runs(configs, root, folders="name", resume=resume)
        try:
            return _with_pages(run_all(root, planned, jobs=jobs, quiet=quiet))
        except RunsFailedError as error:
            raise RunsFailedError(_with_pages(error.result)) from None


def _check_curricula(curricula: Sequence[str | Path]) -> list[str]:
    if isinstance(curricula, str):
        raise ConfigError(
            f"curricula: {shown(curricula)}; accepted: a list of names, such as [{shown(curricula)}]"
        )
    names = [str(name) for name in curricula]
    if not names or not all(names) or len({Path(name).stem for name in names}) < len(names):
        raise ConfigError(f"curricula: {shown(', '.join(names))}; accepted: one or more different names")
    return names


def _resolve_seeds(seeds: int | Sequence[int]) -> list[int]:
    chosen = list(range(min(seeds, MOST_SEEDS + 1))) if isinstance(seeds, int) else list(seeds)
    if not 0 < len(chosen) <= MOST_SEEDS or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"seeds: {shown(seeds)}; accepted: how many (from 1 to {MOST_SEEDS:,}), or different whole"
            " numbers"
        )
    for seed in chosen:
        check_value("seeds", seed, Seed)
    return chosen


def _check_config(config: RunConfig | TwoLayerConfig) -> None:
    """Raises `ConfigError` for what a comparison cannot do, whatever its curricula are."""
    if not isinstance(config, (RunConfig, TwoLayerConfig)):
        raise ConfigError(f"config: {shown(config)}; accepted: a RunConfig or a TwoLayerConfig")
    if isinstance(config, RunConfig) and config.teacher.sharded:
        raise ConfigError(
            "teacher.sharded: true, and a comparison prepares its runs on one process; accepted: false, or"
            " distill"
        )
    if config.budget == BudgetConfig():
        raise ConfigError(f"budget: missing: all runs of a comparison have the same; accepted: {BUDGETS}")
    check_overlaps(config)


def _describe(config: RunConfig | TwoLayerConfig, *, baseline: str, runs: list[str]) -> dict[str, Any]:
    """compare.json: the report reads from it which runs belong together."""
    metric = Metric.named(SPECS[config.task.kind].metric)
    return {
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "budget": _budget_in_words(config.budget),
        "baseline": baseline,
        "runs": runs,
    }


def _budget_in_words(budget: BudgetConfig) -> str:
    if budget.steps is not None:
        return f"{budget.steps} steps each"
    if budget.flops is not None:
        return f"{human_flops(budget.flops)} each"
    return f"{human_time(budget.seconds or 0)} each"


def _check_folder(root: Path, description: dict[str, Any], *, resume: bool) -> None:
    """Raises where `root` is not empty; on a resume, where it holds another comparison."""
    if not first_process():
        return
    if not resume and not _is_vacant(root):
        raise ConfigError(f"output: {str(root)!r} is not empty; accepted: a new folder, or --resume to go on")
    if resume and (root / DESCRIPTION).exists():
        _check_same(root / DESCRIPTION, description)


def _is_vacant(root: Path) -> bool:
    """Whether `root` is missing, or holds only what an interrupted start of a comparison leaves."""
    if not root.exists():
        return True
    leftovers = re.compile(r"compare\.json|\.lock.*|\..*\.tmp")
    return root.is_dir() and all(leftovers.fullmatch(entry.name) for entry in root.iterdir())


def _check_same(path: Path, description: dict[str, Any]) -> None:
    """Raises where metric, budget or baseline differ. Other seeds and curricula may join a comparison."""
    try:
        stored = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: is damaged; accepted: delete it, and --resume writes it again"
        ) from error
    fields = ("metric", "budget", "baseline")
    difference = first_difference(
        {name: stored.get(name) for name in fields}, {name: description[name] for name in fields}
    )
    if difference:
        raise CheckpointError(
            f"{path}: belongs to another comparison: {difference}; accepted: the same, or another output"
        )


def _with_pages(result: SweepResult) -> Comparison:
    """Writes plot.png and report.html beside the runs, on the first process."""
    root = result.root
    plot = report = None
    if first_process() and result.runs:
        from vigreux.report.page import write_report
        from vigreux.report.plots import comparison_figure
        from vigreux.report.read import read_experiment
        from vigreux.report.style import LIGHT, save_png

        plot = root / "plot.png"
        save_png(comparison_figure(read_experiment([root])), plot, LIGHT)
        report = write_report([root], root)
    return Comparison(root, result.runs, result.failures, result.trained, plot, report)
