"""A claim, the test on numbers that decides it, and the file in `results/` that says how it came out."""

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
    """One part of a claim: what must be true of the numbers, written before the run, and whether it is."""

    what: str
    holds: bool


@dataclass
class Outcome:
    """What an experiment found.

    Args:
        numbers: plain values, enough to draw every figure again.
        checks: the parts of the claim.
        seeds: of the students, or of whatever was repeated.
        config: the settings of the preset.
        figures: image files, relative to the results folder.
        notes: what a reader should know; what was tried where a check fails.
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
        held = sum(check.holds for check in self.checks)
        return "holds" if held == len(self.checks) else "holds in part" if held else "does not hold"


@dataclass(frozen=True)
class Claim:
    """One of the papers' claims.

    Args:
        name: C1, C2, …
        title: in a few words.
        source: paper and section.
        run: from the workspace and a preset to what was found.
    """

    name: str
    title: str
    source: str
    run: Callable[[Lab, Preset], Outcome]


def write_result(
    claim: Claim, preset: Preset, outcome: Outcome, folder: Path, *, command: str, seconds: float
) -> Path:
    """Writes `CLAIM.preset.json` into the results folder; gives its path."""
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
    write_atomic(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return path


def seconds_before(claim: Claim, preset: Preset, folder: Path) -> float | None:
    """What the result that stands there took, for a call that only reads finished runs; `None` where there is none."""
    path = folder / f"{claim.name}.{preset}.json"
    return json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.exists() else None


def machine() -> str:
    """Processor and cores, in words."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{model}, {os.cpu_count()} cores"
