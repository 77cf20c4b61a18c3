"""`vigreux.sweep`: runs a set of configurations, and goes on past a run that fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vigreux.assembly.start import (
    Config,
    ConfigRunner,
    check_configuration,
    check_training_starts,
    first_process,
)
from vigreux.checks import Jobs, check_value
from vigreux.errors import ConfigError, DataError, TrainingError, VigreuxError
from vigreux.run.folder import RunFolder
from vigreux.sweeps.folders import Naming, PlannedRun, check_not_busy, failed_last, locked, plan_runs
from vigreux.sweeps.workers import Workers

if TYPE_CHECKING:
    from vigreux.report.tables import ComparisonTable


@dataclass(frozen=True)
class SweepResult:
    """The runs of a sweep.

    Args:
        root: The folder that holds the run folders.
        runs: The finished runs by name, in the order of the configurations.
        failures: The reasons of the runs that failed, by name.
        trained: The names of the runs that this call trained; the others were finished before.
    """

    root: Path
    runs: Mapping[str, RunFolder]
    failures: Mapping[str, str]
    trained: tuple[str, ...]

    def table(self) -> ComparisonTable:
        """One row for each set of settings, over its seeds; `str()` of it is a text table."""
        from vigreux.report.read import read_experiment
        from vigreux.report.tables import comparison_table

        return comparison_table(read_experiment([run.path for run in self.runs.values()]))


class RunsFailedError(TrainingError):
    """Some runs of a sweep failed. The others are finished: `result` holds them, and the reasons."""

    def __init__(self, result: SweepResult) -> None:
        """Writes the message from the failures."""
        count = len(result.runs) + len(result.failures)
        reasons = "; ".join(f"{name}: {reason}" for name, reason in result.failures.items())
        super().__init__(
            f"{len(result.failures)} of {count} runs failed ({reasons}); the others are finished, and"
            " --resume tries the failed ones again"
        )
        self.result = result


def sweep(
    configs: Mapping[str, Config],
    root: str | Path,
    *,
    folders: Naming = "name",
    jobs: int = 1,
    resume: bool = False,
    quiet: bool = False,
    workers: Workers | None = None,
) -> SweepResult:
    """Runs each configuration in a folder of its own, and goes on past a run that fails.

    All configurations are checked before the first run. Each process loads teacher and data once for runs
    that share them.

    Args:
        configs: The configurations by name. Their `output` is not used.
        root: The folder for the run folders. With `folders="name"` one sweep at a time writes it.
        folders: `"name"`: a run folder is `root/NAME`. `"settings"`: it is `root/NAME-FINGERPRINT`, and a run
            of the same settings counts whatever its name.
        jobs: The number of runs at a time. 1 runs them in this process, more in that many other processes.
        resume: Keep finished runs, and resume those that are not finished. Without it, a folder that holds a
            run is refused.
        quiet: Show no progress.
        workers: Processes from an earlier sweep, to use in place of new ones; `jobs` is theirs.

    Returns:
        The finished runs.

    Raises:
        ConfigError, DataError, CheckpointError: a configuration or a folder is refused; nothing was trained.
        RunsFailedError: some runs failed; the others are finished. Its `result` holds them.
    """
    check_value("jobs", jobs, Jobs)
    if not configs:
        raise ConfigError("configs: is empty; accepted: at least one configuration")
    root = Path(root)
    if folders == "name" and first_process():
        check_not_busy(root)
    planned = plan_runs(configs, root, folders=folders, resume=resume)
    check_configs([run.config for run in planned if not run.finished])
    with locked(root) if folders == "name" else nullcontext():
        return run_all(root, planned, jobs=jobs, quiet=quiet, workers=workers)


def check_configs(configs: Iterable[Config]) -> None:
    """Checks all that can be checked before a run starts. The seed is no reason to check again."""
    different = {repr(replace(config, seed=0, output=".")): config for config in configs}
    for config in different.values():
        check_configuration(config)
    check_training_starts(different.values())


def run_all(
    root: Path, planned: Sequence[PlannedRun], *, jobs: int, quiet: bool, workers: Workers | None = None
) -> SweepResult:
    """Runs what is not finished. Runs that failed earlier come last.

    Raises:
        ConfigError, DataError: the first run is refused before its folder is made: the others would be, too.
        RunsFailedError: some runs failed.
    """
    unfinished = failed_last(planned)
    if workers is not None:
        failures = _run_in_processes(unfinished, workers)
    elif jobs > 1:
        with Workers(jobs) as processes:
            failures = _run_in_processes(unfinished, processes)
    else:
        failures = _run_here(unfinished, quiet=quiet)
    reasons = {run.folder: failures[run.name] for run in unfinished if run.name in failures}
    failures = {run.name: reasons[run.folder] for run in planned if run.folder in reasons}
    finished = {run.name: RunFolder.open(run.folder) for run in planned if run.name not in failures}
    trained = tuple(run.name for run in unfinished if run.name not in failures)
    result = SweepResult(root, finished, failures, trained)
    if failures:
        raise RunsFailedError(result)
    return result


def _run_here(runs: Sequence[PlannedRun], *, quiet: bool) -> dict[str, str]:
    failures: dict[str, str] = {}
    runner = ConfigRunner()
    for number, run in enumerate(runs, start=1):
        if not quiet and first_process():
            print(f"run {number} of {len(runs)}: {run.name}", flush=True)
        try:
            runner.run(run.config, resume=run.resume, quiet=quiet)
        except VigreuxError as error:
            is_refusal = isinstance(error, (ConfigError, DataError)) and not run.folder.exists()
            if number == 1 and is_refusal:
                raise
            _report_failure(failures, run.name, str(error))
    return failures


def _run_in_processes(runs: Sequence[PlannedRun], workers: Workers) -> dict[str, str]:
    failures: dict[str, str] = {}
    functions = {
        run.name: partial(_run_in_worker, run.config, resume=run.resume, directory=os.getcwd())
        for run in runs
    }
    for name, reason in workers.run(functions):
        if reason is not None:
            _report_failure(failures, name, reason)
    return failures


_RUNNER = ConfigRunner()  # of a worker process: it keeps what its next run shares with the last one


def _run_in_worker(config: Config, *, resume: bool, directory: str) -> None:
    os.chdir(directory)  # paths in a configuration are relative to where the sweep was started
    _RUNNER.run(config, resume=resume, quiet=True)


def _report_failure(failures: dict[str, str], name: str, reason: str) -> None:
    failures[name] = reason
    print(f"vigreux: {name} failed: {reason}", file=sys.stderr, flush=True)
