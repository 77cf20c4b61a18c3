"""The laboratory: run folders that are trained once and read by every claim that needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from vigreux.assembly.start import Config
from vigreux.config.transformer import CacheConfig, RunConfig, TeachConfig
from vigreux.config.two_layer import TwoLayerConfig, TwoLayerTeacherConfig
from vigreux.run.folder import RunFolder
from vigreux.sweeps.folders import plan_runs, settings_fingerprint
from vigreux.sweeps.sweep import SweepResult, sweep
from vigreux.sweeps.workers import Workers


@dataclass(frozen=True)
class Lab:
    """A folder of runs. A run is known by its settings: finished runs are read, and unfinished ones resumed.

    Args:
        root: The folder.
        results: Where figures and verdicts go.
        say: Prints a line of progress.
        quiet: No progress bars.
        trained: The names of the runs that were not finished before.
    """

    root: Path
    results: Path
    say: Callable[[str], None] = print
    quiet: bool = False
    trained: list[str] = field(default_factory=list)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the processes of the students."""
        workers = self.__dict__.get("_workers")  # the cached property, if it was used
        if workers is not None:
            workers.close()

    def teacher(self, config: TwoLayerConfig) -> RunFolder:
        """A finished two-layer teacher with all its checkpoints."""
        return self._run_one(config.for_teaching(), "teacher")

    def students(
        self, configs: Mapping[str, TwoLayerConfig], teacher: RunFolder | None = None
    ) -> Mapping[str, RunFolder]:
        """Finished two-layer students by name, trained one after the other, each on all cores.

        Args:
            configs: The runs by name.
            teacher: The teacher of all of them; `None` for students that learn from labels alone.
        """
        if teacher is not None:
            settings = TwoLayerTeacherConfig(str(teacher.path))
            configs = {name: replace(config, teacher=settings) for name, config in configs.items()}
        return self._sweep(configs).runs

    def taught(self, config: TeachConfig, name: str = "teacher") -> RunFolder:
        """A finished transformer teacher with its checkpoints, trained on labels."""
        return self._run_one(config, name)

    def distilled(
        self, configs: Mapping[str, RunConfig], teacher: RunFolder | None, *, cached: RunConfig | None = None
    ) -> dict[str, RunFolder]:
        """Finished transformer students, by name.

        On CPUs as many run at a time as there are cores, with one thread each: a single small model does not
        keep two cores busy. The result of a run does not depend on the others.

        Args:
            configs: The runs by name.
            teacher: The teacher of all of them; `None` if the configurations name one.
            cached: A run whose stages ask the teacher for all that any of `configs` asks for. Its signals are
                written once, and all students learn from them.
        """
        taught = {name: _taught_by(config, teacher) for name, config in configs.items()}
        planned = plan_runs(taught, self.root, folders="settings", resume=True)
        unfinished = [run.name for run in planned if not run.finished]
        if cached is not None and unfinished:
            cache = self._cache(_taught_by(cached, teacher))
            for name in unfinished:
                taught[name] = replace(taught[name], cache=cache)
        return dict(self._sweep(taught, workers=self._workers if unfinished else None).runs)

    @cached_property
    def _workers(self) -> Workers | None:
        """The processes of all students; `None` on an accelerator, where students run one after the other."""
        import torch
        from joblib import cpu_count

        if torch.accelerator.is_available():
            return None
        return Workers(cpu_count(), threads=1)

    def _cache(self, config: RunConfig) -> CacheConfig:
        """Writes what is missing of a run's cache."""
        from vigreux.assembly.caching import begin_capture

        path = self.root / f"cache-{settings_fingerprint(config, self.root)}"
        cache = replace(config.cache, path=str(path))
        self.say(f"{path.name}: the teacher's signals")
        begin_capture(replace(config, cache=cache)).run()
        return cache

    def _run_one(self, config: Config, name: str) -> RunFolder:
        return self._sweep({name: config}).runs[name]

    def _sweep(self, configs: Mapping[str, Config], workers: Workers | None = None) -> SweepResult:
        planned = plan_runs(configs, self.root, folders="settings", resume=True)
        unfinished = [run.folder.name for run in planned if not run.finished]
        if unfinished:
            self.say(f"{len(unfinished)} of {len(planned)} runs to train: {', '.join(unfinished)}")
            self.trained.extend(unfinished)
        return sweep(configs, self.root, folders="settings", resume=True, quiet=self.quiet, workers=workers)


def _taught_by(config: RunConfig, teacher: RunFolder | None) -> RunConfig:
    if teacher is None:
        return config
    model, series = str(teacher.student), str(teacher.stage_dir(0, "labels"))
    return replace(config, teacher=replace(config.teacher, model=model, checkpoints=series))
