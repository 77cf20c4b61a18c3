"""The run folder of each configuration of a sweep: by its name, or by its name and its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vigreux.assembly.start import Config, already_finished, first_process
from vigreux.errors import CheckpointError, ConfigError, shown
from vigreux.files.atomic import check_no_links, writing
from vigreux.files.lock import FolderBusyError, FolderLock, is_locked
from vigreux.run.folder import RunFolder

Naming = Literal["name", "settings"]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Args:
        name: The name of the run in the sweep.
        config: Its configuration; `output` is its folder.
        resume: Whether the folder holds the run, so that it is resumed.
        finished: Whether the folder holds the finished run, so that there is nothing to do.
    """

    name: str
    config: Config
    resume: bool
    finished: bool

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.config.output)

    @property
    def has_failed(self) -> bool:
        """Whether the run was started earlier and failed."""
        return self.resume and RunFolder.open(self.folder).status == "failed"


def plan_runs(
    configs: Mapping[str, Config], root: Path, *, folders: Naming, resume: bool
) -> list[PlannedRun]:
    """Gives each configuration its folder, and says what is left to do. Nothing is written.

    Raises:
        ConfigError: a name cannot be the name of a folder.
        CheckpointError: without `resume`, a folder holds a run; with `resume`, it holds a run of another
        configuration.
    """
    runs: list[PlannedRun] = []
    for name, config in configs.items():
        if not name or name in (".", "..") or "/" in name or "\\" in name:
            raise ConfigError(f"configs: {shown(name)}; accepted: names of folders inside {root}")
        if folders == "name":
            runs.append(_named_run(name, replace(config, output=str(root / name)), resume=resume))
        else:
            runs.append(_matching_run(name, config, root, resume=resume, earlier=runs))
    return runs


def _named_run(name: str, config: Config, *, resume: bool) -> PlannedRun:
    begun = resume and (Path(config.output) / "run.json").exists()
    finished = already_finished(config, resume=begun)
    return PlannedRun(name, config, begun, finished)


def _matching_run(
    name: str, config: Config, root: Path, *, resume: bool, earlier: Sequence[PlannedRun]
) -> PlannedRun:
    """The run of these settings, whatever name it was begun under, or has earlier in the same sweep."""
    fingerprint = settings_fingerprint(config, root)
    for run in earlier:
        if run.folder.name.endswith(f"-{fingerprint}"):
            return replace(run, name=name)
    begun = sorted(root.glob(f"*-{fingerprint}/run.json"))
    if not begun:
        return PlannedRun(name, replace(config, output=str(root / f"{name}-{fingerprint}")), False, False)
    config = replace(config, output=str(begun[0].parent))
    if not resume:
        return _named_run(name, config, resume=False)  # raises: the folder is taken
    return PlannedRun(name, config, True, RunFolder.open(config.output).status == "finished")


def settings_fingerprint(config: Config, root: Path) -> str:
    """Twelve characters that differ for different settings. Paths inside `root` count relative to it.

    The output folder, the cache and the number of threads do not change the result of a run, so they do not
    count.
    """
    plain: dict[str, Any] = asdict(config)
    plain.pop("output")
    plain.pop("cache", None)
    plain["training"].pop("threads", None)
    plain.pop("sharded", None)
    if "teacher" in plain:
        plain["teacher"].pop("sharded", None)
        if not plain["teacher"].get("options", True):
            del plain["teacher"]["options"]  # so that folders of versions without this field still match
        plain["teacher"] = {key: _relative(value, root) for key, value in plain["teacher"].items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def _relative(value: Any, root: Path) -> Any:
    if isinstance(value, str) and Path(value).is_relative_to(root):
        return str(Path(value).relative_to(root))
    return value


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Makes the folder `root` and holds its lock; on processes other than the first it does nothing.

    Raises:
        CheckpointError: another sweep holds the lock, or the folder cannot be written.
    """
    if not first_process():
        yield
        return
    check_not_busy(root)
    check_no_links(root)
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(root)
    try:
        lock.take()
    except FolderBusyError as error:
        raise _busy(root) from error
    try:
        yield
    finally:
        lock.release()


def check_not_busy(root: Path) -> None:
    """Raises `CheckpointError` where another sweep writes `root`. Writes nothing."""
    if is_locked(root):
        raise _busy(root)


def _busy(root: Path) -> CheckpointError:
    return CheckpointError(
        f"{root}: is being written by another comparison or sweep; wait for it, or choose another output"
    )


def failed_last(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """The unfinished folders. Those that failed earlier come last, because they may fail again."""
    unfinished: dict[Path, PlannedRun] = {}
    for run in runs:
        if not run.finished:
            unfinished.setdefault(run.folder, run)
    return sorted(unfinished.values(), key=lambda run: run.has_failed)
