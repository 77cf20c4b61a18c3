"""Where the runs of an experiment live: each is an ordinary run folder, trained once and read by every claim that needs it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigreux.backends.two_layer.build import run_two_layer
from vigreux.config.transformer import CacheConfig, RunConfig, TeachConfig
from vigreux.config.two_layer import TwoLayerConfig, TwoLayerTeacherConfig, as_teaching
from vigreux.run.folder import RunFolder

if TYPE_CHECKING:
    from vigreux.assembly.materials import Materials


@dataclass(frozen=True)
class Lab:
    """A workspace folder. A command that was stopped goes on where it was: finished runs are read, unfinished ones resumed.

    Args:
        root: the folder.
        results: where figures and verdicts go.
        say: prints a line of progress.
        quiet: no progress bars.
    """

    root: Path
    results: Path
    say: Callable[[str], None] = print
    quiet: bool = False
    trained: list[str] = field(default_factory=list)  # names of the runs that were not there

    def teacher(self, config: TwoLayerConfig) -> RunFolder:
        """A finished teacher with all its checkpoints."""
        return self._run(as_teaching(config), "teacher")

    def student(self, config: TwoLayerConfig, teacher: RunFolder | None, name: str) -> RunFolder:
        """A finished student; `name` is how its folder begins."""
        if teacher is not None:
            config = replace(config, teacher=TwoLayerTeacherConfig(str(teacher.path)))
        return self._run(config, name)

    def _run(self, config: TwoLayerConfig, name: str) -> RunFolder:
        path, begun = self._place(config, name)
        if begun and RunFolder.open(path).status == "finished":
            return RunFolder.open(path)
        self.trained.append(path.name)
        self.say(
            f"{path.name}: width {config.student.width}, seed {config.seed}, {config.budget.steps:,} steps"
        )
        run_two_layer(replace(config, output=str(path)), resume=begun, quiet=self.quiet)
        return RunFolder.open(path)

    # --- transformers -----------------------------------------------------------------------------------------------

    def taught(self, config: TeachConfig, name: str = "teacher") -> RunFolder:
        """A finished transformer teacher with its checkpoints, trained on labels."""
        path, begun = self._place(config, name)
        if not (begun and RunFolder.open(path).status == "finished"):
            self.trained.append(path.name)
            self.say(f"{path.name}: {config.budget.steps:,} steps")
            _train(replace(config, output=str(path)), resume=begun, quiet=self.quiet)
        return RunFolder.open(path)

    def distilled(
        self, configs: Mapping[str, RunConfig], teacher: RunFolder | None, *, cached: RunConfig | None = None
    ) -> dict[str, RunFolder]:
        """Finished transformer students, by name; on CPUs as many at a time as there are cores, a thread each.

        One small model does not keep two cores busy. The results of a run do not depend on what runs beside it.

        Args:
            configs: name → run.
            teacher: of all of them; `None` where the configurations name one.
            cached: a run whose stages ask for all that any of these asks for: its signals are written once, and all learn from
                them.
        """
        configs = {name: _taught_by(config, teacher) for name, config in configs.items()}
        places = {name: self._place(config, name) for name, config in configs.items()}
        left = [
            (replace(configs[name], output=str(path)), begun)
            for name, (path, begun) in places.items()
            if not (begun and RunFolder.open(path).status == "finished")
        ]
        if left:
            self.trained.extend(path.name for path, _ in places.values())
            if cached is not None:
                cache = self._cache(_taught_by(cached, teacher))
                left = [(replace(config, cache=cache), begun) for config, begun in left]
            self.say(f"{len(left)} students, {len(places) - len(left)} are there")
            train_beside(left, quiet=self.quiet)
        return {name: RunFolder.open(path) for name, (path, _) in places.items()}

    def _cache(self, config: RunConfig) -> CacheConfig:
        """Writes what is missing of a run's cache; gives where it is."""
        from vigreux.assembly.caching import begin_capture

        cache = replace(config.cache, path=str(self.root / f"cache-{_fingerprint(config, self.root)}"))
        self.say(f"{Path(str(cache.path)).name}: the teacher's signals")
        begin_capture(replace(config, cache=cache)).run()
        return cache

    def _place(self, config: Any, name: str) -> tuple[Path, bool]:
        """The run's folder, and whether it has been begun; a run of the same settings counts whatever it was called."""
        fingerprint = _fingerprint(config, self.root)
        begun = sorted(self.root.glob(f"*-{fingerprint}/run.json"))
        return (begun[0].parent, True) if begun else (self.root / f"{name}-{fingerprint}", False)


def _taught_by(config: RunConfig, teacher: RunFolder | None) -> RunConfig:
    if teacher is None:
        return config
    model, series = str(teacher.student), str(teacher.stage_dir(0, "labels"))
    return replace(config, teacher=replace(config.teacher, model=model, checkpoints=series))


def train_beside(left: list[tuple[RunConfig, bool]], *, quiet: bool) -> None:
    """Trains students side by side on a CPU, one after the other on an accelerator."""
    import torch
    from joblib import Parallel, delayed

    if torch.accelerator.is_available():
        for config, begun in left:
            _train(config, resume=begun, quiet=quiet)
        return
    jobs = min(len(left), len(os.sched_getaffinity(0)))
    Parallel(n_jobs=jobs)(
        delayed(_train)(config, resume=begun, quiet=True, threads=1) for config, begun in left
    )


_LOADED: dict[str, Materials] = {}  # of this process: what its last student shares with its next


def _materials(config: RunConfig) -> Materials:
    """Teacher and data, read once a process for students that ask for the same."""
    from vigreux.assembly.materials import load_materials

    # the projections that are made on the way have a width, and a classifier's labels an order
    student = [config.student.hidden, config.student.model]
    asked = json.dumps(
        [asdict(config.task), asdict(config.teacher), config.training, student], sort_keys=True
    )
    if asked not in _LOADED:
        _LOADED.clear()
        _LOADED[asked] = load_materials(config)
    return _LOADED[asked]


def _train(config: TeachConfig | RunConfig, *, resume: bool, quiet: bool, threads: int | None = None) -> None:
    import torch

    from vigreux.assembly.one_run import distill_one, teach_one
    from vigreux.assembly.quiet import quiet_libraries

    quiet_libraries()
    if threads is not None:
        torch.set_num_threads(threads)
    if isinstance(config, TeachConfig):
        teach_one(config, resume=resume, quiet=quiet)
    else:
        distill_one(_materials(config), config, resume=resume, quiet=quiet)


def _fingerprint(config: Any, root: Path) -> str:
    """Twelve characters that no other settings have; where the runs are does not count."""
    plain: dict[str, Any] = asdict(config)
    plain.pop("output")
    plain.pop("cache", None)  # signals from a cache are the teacher's
    plain["training"].pop("threads", None)
    plain.pop("sharded", None)
    if "teacher" in plain:
        plain["teacher"].pop("sharded", None)
        if not plain["teacher"].get("options", True):
            del plain["teacher"]["options"]  # as of runs from before there were any
        plain["teacher"] = {key: _inside(value, root) for key, value in plain["teacher"].items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def _inside(value: Any, root: Path) -> Any:
    """A path in the workspace as it reads from there."""
    return (
        str(Path(value).relative_to(root))
        if isinstance(value, str) and Path(value).is_relative_to(root)
        else value
    )
