"""Where the runs of an experiment live: each is an ordinary run folder, trained once and read by every claim that needs it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vigreux.engines.online_run import run_online
from vigreux.online_config import OnlineConfig, OnlineTeacherConfig, as_teaching
from vigreux.runs import RunFolder


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

    def teacher(self, config: OnlineConfig) -> RunFolder:
        """A finished teacher with all its checkpoints."""
        return self._run(as_teaching(config), "teacher")

    def student(self, config: OnlineConfig, teacher: RunFolder | None, name: str) -> RunFolder:
        """A finished student; `name` is how its folder begins."""
        if teacher is not None:
            config = replace(config, teacher=OnlineTeacherConfig(str(teacher.path)))
        return self._run(config, name)

    def _run(self, config: OnlineConfig, name: str) -> RunFolder:
        path = self.root / f"{name}-{_fingerprint(config)}"
        config = replace(config, output=str(path))
        begun = (path / "run.json").exists()
        if begun and RunFolder.open(path).status == "finished":
            return RunFolder.open(path)
        self.say(f"{path.name}: width {config.student.width}, seed {config.seed}, {config.budget.steps:,} steps")
        run_online(config, resume=begun, quiet=self.quiet)
        return RunFolder.open(path)


def _fingerprint(config: OnlineConfig) -> str:
    """Twelve characters that no other settings have; where the runs are does not count."""
    plain: dict[str, Any] = asdict(config)
    plain.pop("output")
    plain["training"].pop("threads")
    plain["teacher"] = {key: Path(value).name if value else value for key, value in plain["teacher"].items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
