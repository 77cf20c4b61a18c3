"""The students of the claims about grammars, by method: what C9 and C10 compare is trained once."""

from __future__ import annotations

from typing import Any, Protocol

from vigreux.claims.common.claim import Check
from vigreux.claims.common.grammar import EXTRACTION, GrammarSettings
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.transformer_students import Method, Students
from vigreux.claims.common.transition import checkpoints
from vigreux.config.shared import ExtractionConfig
from vigreux.config.transformer import RunConfig
from vigreux.errors import DataError
from vigreux.probes.phases import Phases, loss_phases
from vigreux.run.folder import RunFolder
from vigreux.stats import mean_interval

ONE_SHOT, PROGRESSIVE, EXTRACTED = "one-shot", "progressive", "extraction"
BEFORE, MIDDLE, AFTER = "2-shot, end of phase 1", "2-shot, middle of phase 2", "2-shot, phase 3"


def grammar_teacher(lab: Lab, settings: GrammarSettings) -> RunFolder:
    """The teacher, with its checkpoints."""
    return lab.taught(
        settings.teacher(),
        "grammar-teacher" if settings.family == "bert" else f"grammar-{settings.family}-teacher",
    )


def loss_of(teacher: RunFolder) -> dict[str, list[float]]:
    """Held-out loss over the teacher's run: `steps` and `loss`."""
    records = teacher.metrics("eval")
    return {"steps": [r["global_step"] for r in records], "loss": [r["loss"] for r in records]}


def phases(teacher: RunFolder) -> dict[str, float]:
    """The three phases of the teacher's loss, and a checkpoint of each: `start` and `end` are those of the sharp drop, phase 2.

    `before` is the last checkpoint of phase 1, `middle` the one next to the middle of phase 2, `after` the first that is as far
    behind the drop's end as the drop is long. Where the loss has no such phases, `found` is 0 and the run's thirds stand for them.
    """
    available, loss = checkpoints(teacher), loss_of(teacher)
    steps = loss["steps"][-1]
    try:
        found, there = loss_phases(**loss), True
    except DataError:
        found, there = Phases(steps / 3, steps / 2, 2 * steps / 3), False
    return {
        "found": there,
        "start": found.start,
        "end": found.end,
        "before": max((step for step in available if step <= found.start), default=available[0]),
        "middle": min(available, key=lambda step: abs(step - found.middle)),
        "after": min(
            (step for step in available if step >= 2 * found.end - found.start), default=available[-1]
        ),
    }


class World(Protocol):
    """What `methods_of` asks of the settings of an experiment."""

    @property
    def progressive_every(self) -> int: ...
    @property
    def teacher_steps(self) -> int: ...
    def student(self, curriculum: str, seed: int, **changes: Any) -> RunConfig: ...
    def two_shot(self, checkpoint: int, seed: int) -> RunConfig: ...


def methods_of(
    settings: World, found: dict[str, float], extraction: ExtractionConfig = EXTRACTION
) -> dict[str, Method]:
    """Every method's student; all take as many steps and start from the same random weights."""
    series = list(range(settings.progressive_every, settings.teacher_steps, settings.progressive_every))
    shots = {BEFORE: int(found["before"]), MIDDLE: int(found["middle"]), AFTER: int(found["after"])}
    return {
        ONE_SHOT: lambda seed: settings.student("one-shot", seed),
        PROGRESSIVE: lambda seed: settings.student("progressive", seed, checkpoints=series),
        **{name: _two_shot(settings, step) for name, step in shots.items()},
        EXTRACTED: lambda seed: settings.student("extraction", seed, extraction=extraction),
    }


def _two_shot(settings: World, step: int) -> Method:
    return lambda seed: settings.two_shot(step, seed)


def above_one_shot(students: Students, name: str) -> Check:
    """The mean over seeds of the gain in final accuracy, with its interval."""
    return above(students, name, ONE_SHOT)


def above(students: Students, name: str, other: str) -> Check:
    """The mean over seeds of the gain in final accuracy over another method, with its interval."""
    mean, half = mean_interval(
        [own - plain for own, plain in zip(students.finals(name), students.finals(other))]
    )
    shown = f"{100 * mean:+.2f}" + ("" if half is None else f" ± {100 * half:.2f}")
    return Check(
        f"{name} above {other}, 95 % interval above 0: {shown} points of accuracy",
        half is not None and mean > half,
    )
