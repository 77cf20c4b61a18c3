"""C11: a masked language model learns n-grams first; a curriculum beats one-shot at equal steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from vigreux.claims.common.checks import above, shares_needed, speed_checks
from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import save, training_figure
from vigreux.claims.common.grammar_probes import ngram_series
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.language import EXTRACTION as EXTRACTION_SETTINGS
from vigreux.claims.common.language import PREFIX, SCALES, TEACHER_NAME, LanguageScale
from vigreux.claims.common.language_probes import (
    held_out_losses,
    mean_accuracies,
    ngrams_of,
    scores_on,
)
from vigreux.claims.common.measures import final_accuracy, loss_curve
from vigreux.claims.common.phases import (
    EXTRACTION,
    MIDDLE,
    ONE_SHOT,
    PROGRESSIVE,
    methods_of,
    ngram_checks,
    phase_checks,
    phases_of,
)
from vigreux.claims.common.phases_figure import phases_figure
from vigreux.claims.common.transformer_students import Method, train_students
from vigreux.probes.phases import inflection

NGRAM = 3  # the length in the checks; the numbers have other lengths, too
CURRICULA = (PROGRESSIVE, MIDDLE, EXTRACTION)


def run(lab: Lab, preset: Preset) -> Outcome:
    """Measures the teacher's phases and n-grams; trains students of every curriculum."""
    scale = SCALES[preset]
    teacher = lab.taught(scale.teacher(), TEACHER_NAME)
    phases = phases_of(teacher)
    loss = loss_curve(teacher)
    lab.say("n-grams of the teacher's checkpoints")
    ngrams = ngram_series(teacher, scale.probe_sentences, scale.ngrams())
    methods = _methods(scale, phases)
    students = train_students(lab, teacher, methods, scale.seeds, prefix=PREFIX)
    lab.say("n-grams of students; text of another source")
    elsewhere = {name: scores_on(scale.elsewhere, runs) for name, runs in students.runs.items()}
    needed = shares_needed(students)
    threshold = 2 * max(ngrams["robust_interval"][str(NGRAM)])
    probed = (ONE_SHOT, MIDDLE, EXTRACTION)
    return Outcome(
        numbers={
            "phases": phases,
            "teacher_loss": loss,
            "teacher": final_accuracy(teacher),
            "teacher_elsewhere": scores_on(scale.elsewhere, [teacher])[0],
            "ngrams": ngrams,
            "ngrams_of_students": ngrams_of(students, probed, scale.probe_sentences, scale.ngrams()),
            "inflection": inflection(ngrams["steps"], ngrams["robust"][str(NGRAM)], threshold),
            "share_of_steps": needed["steps"],
            "share_of_flops": needed["flops"],
            "students": students.numbers(),
            "losses": held_out_losses(students),
            "elsewhere": elsewhere,
        },
        checks=[
            *phase_checks(loss, phases),
            *ngram_checks(ngrams, NGRAM),
            *(above(students, name, ONE_SHOT) for name in CURRICULA),
            *speed_checks(needed),
            _elsewhere_check(elsewhere),
        ],
        seeds=scale.seeds,
        config=scale.plain()
        | {
            "hidden_share": EXTRACTION_SETTINGS.hidden_share,
            "projection": EXTRACTION_SETTINGS.projection,
        },
        figures=[
            save(phases_figure(loss, phases, ngrams, NGRAM, students), lab.results, f"C11.{preset}"),
            save(training_figure(students, methods), lab.results, f"C11.{preset}.students"),
        ],
        notes=_notes(),
    )


def _methods(scale: LanguageScale, phases: dict[str, Any]) -> dict[str, Method]:
    """The students of the claim. All take the same number of steps and start from the same random weights."""
    all_methods = methods_of(scale, phases, EXTRACTION_SETTINGS)
    chosen = {name: all_methods[name] for name in (ONE_SHOT, *CURRICULA)}
    return {"supervised": partial(scale.student, "supervised"), **chosen}


def _notes() -> list[str]:
    return [
        "Total variation is ½ ‖·‖₁. Masked positions are attended to, in training and in the probes.",
        "Where the teacher's loss has no three phases (phases.found is false), the middle of phase 2 is the"
        " half of its run.",
        "Elsewhere is text of a source that no model was trained on; its masks are the same for all models.",
    ]


def _elsewhere_check(scores: Mapping[str, Sequence[Mapping[str, float]]]) -> Check:
    """On the other source, too, every curriculum is above one-shot."""
    all_means = mean_accuracies(scores)
    means = {name: all_means[name] for name in (ONE_SHOT, *CURRICULA)}
    shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in means.items())
    what = f"on a source not trained on every curriculum is above one-shot, in the mean over seeds: {shown}"
    return Check(what, all(means[name] > means[ONE_SHOT] for name in CURRICULA))


CLAIM = Claim(
    "C11",
    "language: n-grams come first, and curricula beat one-shot at equal steps",
    "arXiv 2410.05464; arXiv 2503.17494",
    run,
)
