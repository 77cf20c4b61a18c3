"""A claim, the checks on numbers that decide it, and the file in `results/` with the outcome."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vigreux.files.atomic import write_atomic, writing

if TYPE_CHECKING:
    from vigreux.claims.common.lab import Lab

Preset = Literal["smoke", "laptop", "paper"]
PRESETS: tuple[Preset, ...] = ("smoke", "laptop", "paper")


@dataclass(frozen=True)
class Check:
    """One part of a claim. It was written before the run.

    Args:
        what: What must be true of the numbers, and the numbers.
        holds: Whether it is true.
    """

    what: str
    holds: bool


@dataclass
class Outcome:
    """The outcome of an experiment.

    Args:
        numbers: Plain values, enough to draw every figure again.
        checks: The parts of the claim.
        seeds: The seeds of the students, or of what else was repeated.
        config: The settings of the preset.
        figures: Image files, relative to the results folder.
        notes: What a reader should know, and what was tried where a check fails.
    """

    numbers: dict[str, Any]
    checks: list[Check]
    seeds: Sequence[int]
    config: Mapping[str, Any]
    figures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """holds, holds in part, or does not hold."""
        return verdict_of(self.checks)


def verdict_of(checks: Sequence[Check]) -> str:
    """holds, holds in part, or does not hold."""
    if all(check.holds for check in checks):
        return "holds"
    if any(check.holds for check in checks):
        return "holds in part"
    return "does not hold"


@dataclass(frozen=True)
class Claim:
    """One of the papers' claims.

    Args:
        name: C1, C2, …
        title: The claim in a few words.
        source: Paper and section.
        run: Runs the experiment: from the laboratory and a preset to the outcome.
    """

    name: str
    title: str
    source: str
    run: Callable[[Lab, Preset], Outcome]


def write_result(
    claim: Claim, preset: Preset, outcome: Outcome, folder: Path, *, command: str, seconds: float
) -> Path:
    """Writes `CLAIM.PRESET.json` into the results folder; gives its path."""
    document = {
        "claim": claim.name,
        "title": claim.title,
        "source": claim.source,
        "preset": preset,
        "verdict": outcome.verdict,
        "checks": [asdict(check) for check in outcome.checks],
        "numbers": outcome.numbers,
        "seeds": list(outcome.seeds),
        "config": dict(outcome.config),
        "command": command,
        "seconds": round(seconds, 1),
        "machine": machine(),
        "figures": outcome.figures,
        "notes": outcome.notes,
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{claim.name}.{preset}.json"
    write_document(document, path)
    return path


def write_document(document: Mapping[str, Any], path: Path) -> None:
    """Writes a result as JSON."""
    write_atomic(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def recorded_seconds(claim: Claim, preset: Preset, folder: Path) -> float | None:
    """The seconds in an earlier result file; `None` without such a file."""
    path = folder / f"{claim.name}.{preset}.json"
    if not path.exists():
        return None
    return json.loads(path.read_text(encoding="utf-8"))["seconds"]


def machine() -> str:
    """Processor and number of cores in words."""
    cpuinfo = Path("/proc/cpuinfo")
    model = platform.machine()
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} cores"
