"""C11: a masked language model learns n-grams first, and a curriculum beats one-shot distillation at equal steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vigreux.claims.c10_speed import final_of, share_needed, speed_checks
from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import save, training_figure
from vigreux.claims.common.grammar_probes import ngram_series
from vigreux.claims.common.grammar_students import (
    EXTRACTED,
    MIDDLE,
    ONE_SHOT,
    PROGRESSIVE,
    above_one_shot,
    loss_of,
    methods_of,
    phases,
)
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.language_probes import held_out_losses, ngrams_of, scores_elsewhere
from vigreux.claims.common.language_settings import EXTRACTION, SETTINGS, LanguageSettings
from vigreux.claims.common.phase_checks import ngram_checks, phase_checks
from vigreux.claims.common.phases_figure import phases_figure
from vigreux.claims.common.transformer_students import Method, train_students
from vigreux.probes.phases import inflection
from vigreux.stats import mean_interval

NGRAM = 3  # of the checks; the others are in the numbers
SUPERVISED = "supervised"


def students_of(settings: LanguageSettings, found: dict[str, float]) -> dict[str, Method]:
    """All take as many steps and start from the same random weights."""
    every = methods_of(settings, found, EXTRACTION)
    return {
        SUPERVISED: lambda seed: settings.student("supervised", seed),
        **{name: every[name] for name in (ONE_SHOT, PROGRESSIVE, MIDDLE, EXTRACTED)},
    }


def run(lab: Lab, preset: Preset) -> Outcome:
    """The teacher's phases and n-grams; students of every curriculum, here and on text of another source."""
    settings = SETTINGS[preset]
    teacher = lab.taught(settings.teacher(), "language-teacher")
    found, loss = phases(teacher), loss_of(teacher)
    lab.say("n-grams of the teacher's checkpoints")
    grams = ngram_series(teacher, settings.probe_sentences, settings.ngrams())
    methods = students_of(settings, found)
    students = train_students(lab, teacher, methods, settings.seeds, prefix="language-")
    lab.say("n-grams of students; text of another source")
    elsewhere = {name: scores_elsewhere(runs, settings.elsewhere) for name, runs in students.runs.items()}
    needed = {unit: share_needed(students, unit) for unit in ("steps", "flops")}
    return Outcome(
        numbers={
            "phases": found,
            "teacher_loss": loss,
            "teacher": final_of(teacher),
            "teacher_elsewhere": scores_elsewhere([teacher], settings.elsewhere)[0],
            "ngrams": grams,
            "ngrams_of_students": ngrams_of(
                students, (ONE_SHOT, MIDDLE, EXTRACTED), settings.probe_sentences, settings.ngrams()
            ),
            "inflection": inflection(
                grams["steps"], grams["robust"][str(NGRAM)], 2 * max(grams["robust_interval"][str(NGRAM)])
            ),
            "share_of_steps": needed["steps"],
            "share_of_flops": needed["flops"],
            "students": students.numbers(),
            "losses": held_out_losses(students),
            "elsewhere": elsewhere,
        },
        checks=[
            *phase_checks(loss, found),
            *ngram_checks(grams, NGRAM),
            *(above_one_shot(students, name) for name in (PROGRESSIVE, MIDDLE, EXTRACTED)),
            *speed_checks(needed),
            _elsewhere(elsewhere),
        ],
        seeds=settings.seeds,
        config=settings.plain()
        | {"hidden_share": EXTRACTION.hidden_share, "projection": EXTRACTION.projection},
        figures=[
            save(phases_figure(loss, found, grams, NGRAM, students), lab.results, f"C11.{preset}"),
            save(training_figure(students, methods), lab.results, f"C11.{preset}.students"),
        ],
        notes=[
            "Total variation is ½ ‖·‖₁. Masked positions are attended to, in training and in the probes.",
            "Where the teacher's loss has no three phases (phases.found is false), the middle of phase 2 is the half of its run.",
            "Elsewhere is text of a source that no model was trained on; its masks are the same for all models.",
        ],
    )


def _elsewhere(scores: Mapping[str, list[dict[str, Any]]]) -> Check:
    """Every curriculum is above one-shot on the other source too, in the mean over seeds."""
    names = (ONE_SHOT, PROGRESSIVE, MIDDLE, EXTRACTED)
    means = {name: mean_interval([score["accuracy"] for score in scores[name]])[0] for name in names}
    shown = ", ".join(f"{name} {100 * mean:.2f} %" for name, mean in means.items())
    what = f"on a source not trained on every curriculum is above one-shot, in the mean over seeds: {shown}"
    return Check(what, all(means[name] > means[ONE_SHOT] for name in names[1:]))


CLAIM = Claim(
    "C11",
    "language: n-grams come first, and curricula beat one-shot at equal steps",
    "arXiv 2410.05464; arXiv 2503.17494",
    run,
)
