"""C9g: GPT-2 on tokens that end a non-terminal: what each curriculum teaches, and at which levels."""

from __future__ import annotations

from vigreux.claims.common.checks import above, shares_needed, speed_checks
from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import save, training_figure
from vigreux.claims.common.grammar import EXTRACTION as EXTRACTION_SETTINGS
from vigreux.claims.common.grammar import GPT2_SCALES, grammar_teacher
from vigreux.claims.common.grammar_probes import boundary_accuracy
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import final_accuracy, loss_curve
from vigreux.claims.common.phases import EXTRACTION, MIDDLE, ONE_SHOT, PROGRESSIVE, methods_of, phases_of
from vigreux.claims.common.transformer_students import train_students
from vigreux.stats import mean

CURRICULA = (PROGRESSIVE, MIDDLE, EXTRACTION)


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains students of every curriculum with one budget; measures accuracy by the level of the boundary."""
    scale = GPT2_SCALES[preset]
    teacher = grammar_teacher(lab, scale)
    phases = phases_of(teacher)
    all_methods = methods_of(scale, phases, EXTRACTION_SETTINGS)
    methods = {name: all_methods[name] for name in (ONE_SHOT, *CURRICULA)}
    students = train_students(lab, teacher, methods, scale.seeds, prefix="grammar-gpt2-")
    lab.say("accuracy by level")
    levels = {name: [boundary_accuracy(run) for run in runs] for name, runs in students.runs.items()}
    needed = shares_needed(students)
    return Outcome(
        numbers={
            "phases": phases,
            "teacher_loss": loss_curve(teacher),
            "teacher": final_accuracy(teacher),
            "share_of_steps": needed["steps"],
            "share_of_flops": needed["flops"],
            "accuracy_at_level_or_higher": levels,
            "students": students.numbers(),
        },
        checks=[
            *(above(students, name, ONE_SHOT) for name in CURRICULA),
            *speed_checks(needed),
            _highest_level_check(levels),
        ],
        seeds=scale.seeds,
        config=scale.plain()
        | {
            "hidden_share": EXTRACTION_SETTINGS.hidden_share,
            "projection": EXTRACTION_SETTINGS.projection,
        },
        figures=[save(training_figure(students, methods), lab.results, f"C9g.{preset}")],
        notes=[
            "Accuracy at level l is that of the tokens that end a non-terminal of level l or a higher one."
            " Of a sentence those of"
            f" level {scale.boundary_level} or higher are trained on and evaluated.",
            "Where the teacher's loss has no three phases (phases.found is false), the middle of phase 2 is"
            " the half of its run.",
        ],
    )


def _highest_level_check(levels: dict[str, list[dict[int, float]]]) -> Check:
    """At the highest boundaries, which are the hardest, every curriculum is above one-shot."""
    top = max(levels[ONE_SHOT][0])
    means = {name: mean([by_level[top] for by_level in runs]) for name, runs in levels.items()}
    shown = ", ".join(f"{name} {100 * value:.1f} %" for name, value in means.items())
    what = f"at boundaries of level {top} every curriculum is above one-shot, in the mean over seeds: {shown}"
    return Check(what, all(means[name] > means[ONE_SHOT] for name in CURRICULA))


CLAIM = Claim(
    "C9g",
    "GPT-2 on a grammar: curricula teach its boundaries better than one-shot",
    "arXiv 2410.05464; arXiv 2503.17494",
    run,
)
