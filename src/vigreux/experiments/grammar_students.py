"""The students of the claims about grammars, by method: what C9 and C10 compare is trained once."""

from __future__ import annotations

from typing import Any

from vigreux.experiments.grammar_worlds import EXTRACTION, GrammarSettings
from vigreux.experiments.lab import Lab
from vigreux.experiments.students import Method
from vigreux.experiments.transition import checkpoints
from vigreux.runs import RunFolder
from vigreux.selection import Curve, select_checkpoints

ONE_SHOT, PROGRESSIVE, EXTRACTED = "one-shot", "progressive", "extraction"
BEFORE, MIDDLE, AFTER = "2-shot, end of phase 1", "2-shot, middle of phase 2", "2-shot, phase 3"


def grammar_teacher(lab: Lab, settings: GrammarSettings) -> RunFolder:
    """The teacher, with its checkpoints."""
    return lab.taught(settings.teacher(), "grammar-teacher")


def loss_curve(teacher: RunFolder) -> Curve:
    """Held-out loss over the teacher's run."""
    records = teacher.metrics("eval")
    return Curve.of([r["global_step"] for r in records], [r["loss"] for r in records], rises=False)


def phases(teacher: RunFolder) -> dict[str, Any]:
    """The three phases of the teacher's loss, and a checkpoint of each: `start` and `end` are those of the sharp drop, phase 2.

    The middle is what `vigreux select` takes. The one before is the last that has gone less than a tenth of the way, the one after
    is as far behind the drop's end as the drop is long.

    Raises:
        ConfigError: the loss has no sharp drop, or no checkpoint lies inside it.
    """
    available = checkpoints(teacher)
    chosen = select_checkpoints(loss_curve(teacher), available, shots=2)[0]
    start, end = chosen.transition.start, chosen.transition.end
    before = max((step for step in available if step <= start), default=available[0])
    after = min((step for step in available if step >= 2 * end - start), default=available[-1])
    return {"start": start, "end": end, "before": before, "middle": chosen.step, "after": after}


def methods_of(settings: GrammarSettings, found: dict[str, Any]) -> dict[str, Method]:
    """Every method's student; all take as many steps and start from the same random weights."""
    series = list(range(settings.progressive_every, settings.teacher_steps, settings.progressive_every))
    shots = {BEFORE: found["before"], MIDDLE: found["middle"], AFTER: found["after"]}
    return {
        ONE_SHOT: lambda seed: settings.student("one-shot", seed),
        PROGRESSIVE: lambda seed: settings.student("progressive", seed, checkpoints=series),
        **{name: _two_shot(settings, step) for name, step in shots.items()},
        EXTRACTED: lambda seed: settings.student("extraction", seed, extraction=EXTRACTION),
    }


def _two_shot(settings: GrammarSettings, step: int) -> Method:
    return lambda seed: settings.student("p-shot", seed, checkpoints=[step])
