"""C10: on a grammar, extraction reaches an accuracy in fewer steps and FLOPs than one-shot."""

from __future__ import annotations

from vigreux.claims.common.checks import points, shares_needed, speed_checks
from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import save, training_figure
from vigreux.claims.common.grammar import EXTRACTION as EXTRACTION_SETTINGS
from vigreux.claims.common.grammar import SCALES, grammar_teacher
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import final_accuracy
from vigreux.claims.common.phases import EXTRACTION, ONE_SHOT, methods_of, phases_of
from vigreux.claims.common.transformer_students import train_students
from vigreux.stats import mean_interval


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains one-shot and extraction students with one budget of steps."""
    scale = SCALES[preset]
    teacher = grammar_teacher(lab, scale)
    all_methods = methods_of(scale, phases_of(teacher), EXTRACTION_SETTINGS)
    methods = {name: all_methods[name] for name in (ONE_SHOT, EXTRACTION)}
    students = train_students(lab, teacher, methods, scale.seeds, prefix="grammar-")
    needed = shares_needed(students)
    pairs = zip(students.finals(EXTRACTION), students.finals(ONE_SHOT))
    gains = [extraction - one_shot for extraction, one_shot in pairs]
    return Outcome(
        numbers={
            "share_of_steps": needed["steps"],
            "share_of_flops": needed["flops"],
            "gain_in_accuracy": gains,
            "teacher": final_accuracy(teacher),
            "students": students.numbers(),
        },
        checks=[*speed_checks(needed), _gain_check(gains)],
        seeds=scale.seeds,
        config=scale.plain()
        | {
            "hidden_share": EXTRACTION_SETTINGS.hidden_share,
            "projection": EXTRACTION_SETTINGS.projection,
        },
        figures=[save(training_figure(students, methods), lab.results, f"C10.{preset}")],
    )


def _gain_check(gains: list[float]) -> Check:
    """The final accuracy is better beyond the spread of the seeds."""
    gain, half_width = mean_interval(gains)
    return Check(
        f"final accuracy above one-shot's, 95 % interval above 0: {points(gain, half_width)} points",
        half_width is not None and gain > half_width,
    )


CLAIM = Claim(
    "C10", "grammar: extraction is faster than one-shot, in steps and in FLOPs", "arXiv 2503.17494", run
)
