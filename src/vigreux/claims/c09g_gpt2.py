"""C9g: GPT-2 that predicts the tokens at which non-terminals end: what each curriculum teaches, and at which levels."""

from __future__ import annotations

from vigreux.claims.c10_speed import final_of, share_needed, speed_checks
from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import save, training_figure
from vigreux.claims.common.grammar import EXTRACTION, GPT2_SETTINGS
from vigreux.claims.common.grammar_probes import boundary_accuracy
from vigreux.claims.common.grammar_students import (
    EXTRACTED,
    MIDDLE,
    ONE_SHOT,
    PROGRESSIVE,
    above_one_shot,
    grammar_teacher,
    loss_of,
    methods_of,
    phases,
)
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.transformer_students import train_students
from vigreux.stats import mean_interval

CURRICULA = (PROGRESSIVE, MIDDLE, EXTRACTED)


def run(lab: Lab, preset: Preset) -> Outcome:
    """Students of every curriculum with one budget of steps, and their accuracy by the level of the boundary."""
    settings = GPT2_SETTINGS[preset]
    teacher = grammar_teacher(lab, settings)
    found = phases(teacher)
    every = methods_of(settings, found)
    methods = {name: every[name] for name in (ONE_SHOT, *CURRICULA)}
    students = train_students(lab, teacher, methods, settings.seeds, prefix="grammar-gpt2-")
    lab.say("accuracy by level")
    levels = {name: [boundary_accuracy(run) for run in runs] for name, runs in students.runs.items()}
    needed = {unit: share_needed(students, unit) for unit in ("steps", "flops")}
    return Outcome(
        numbers={
            "phases": found,
            "teacher_loss": loss_of(teacher),
            "teacher": final_of(teacher),
            "share_of_steps": needed["steps"],
            "share_of_flops": needed["flops"],
            "accuracy_at_level_or_higher": levels,
            "students": students.numbers(),
        },
        checks=[
            *(above_one_shot(students, name) for name in CURRICULA),
            *speed_checks(needed),
            _highest(levels),
        ],
        seeds=settings.seeds,
        config=settings.plain()
        | {"hidden_share": EXTRACTION.hidden_share, "projection": EXTRACTION.projection},
        figures=[save(training_figure(students, methods), lab.results, f"C9g.{preset}")],
        notes=[
            "Accuracy at level l is that of the tokens that end a non-terminal of level l or a higher one. Of a sentence those of"
            f" level {settings.boundary_level} or higher are trained on and evaluated.",
            "Where the teacher's loss has no three phases (phases.found is false), the middle of phase 2 is the half of its run.",
        ],
    )


def _highest(levels: dict[str, list[dict[int, float]]]) -> Check:
    """At the highest boundaries, the hardest, every curriculum is above one-shot in the mean over seeds."""
    top = max(levels[ONE_SHOT][0])
    means = {name: mean_interval([scores[top] for scores in runs])[0] for name, runs in levels.items()}
    shown = ", ".join(f"{name} {100 * mean:.1f} %" for name, mean in means.items())
    what = f"at boundaries of level {top} every curriculum is above one-shot, in the mean over seeds: {shown}"
    return Check(what, all(means[name] > means[ONE_SHOT] for name in CURRICULA))


CLAIM = Claim(
    "C9g",
    "GPT-2 on a grammar: curricula teach its boundaries better than one-shot",
    "arXiv 2410.05464; arXiv 2503.17494",
    run,
)
