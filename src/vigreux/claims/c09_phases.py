"""C9: a teacher of a grammar learns in three phases; a checkpoint from the second teaches most."""

from __future__ import annotations

from vigreux.claims.common.checks import above
from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import save
from vigreux.claims.common.grammar import EXTRACTION as EXTRACTION_SETTINGS
from vigreux.claims.common.grammar import SCALES, grammar_teacher
from vigreux.claims.common.grammar_probes import ngram_series, nonterminal_scores
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import loss_curve
from vigreux.claims.common.phases import (
    AFTER,
    BEFORE,
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
from vigreux.claims.common.transformer_students import Students, train_students
from vigreux.probes.phases import inflection
from vigreux.stats import mean

NGRAM = 3  # the length in the checks; the numbers have other lengths, too
PROBED = (ONE_SHOT, MIDDLE)  # students whose hidden states are probed


def run(lab: Lab, preset: Preset) -> Outcome:
    """Measures the teacher's phases and n-grams; trains students from each phase and probes them."""
    scale = SCALES[preset]
    teacher = grammar_teacher(lab, scale)
    phases = phases_of(teacher)
    lab.say("n-grams of the teacher's checkpoints")
    ngrams = ngram_series(teacher, scale.probe_sentences, scale.ngrams())
    methods = methods_of(scale, phases, EXTRACTION_SETTINGS)
    del methods[EXTRACTION]  # C10 is about extraction
    students = train_students(lab, teacher, methods, scale.seeds, prefix="grammar-")
    lab.say("non-terminals in hidden states")
    probes = {name: [nonterminal_scores(run, scale) for run in students.runs[name]] for name in PROBED}
    loss = loss_curve(teacher)
    threshold = 2 * max(ngrams["robust_interval"][str(NGRAM)])
    return Outcome(
        numbers={
            "phases": phases,
            "teacher_loss": loss,
            "ngrams": ngrams,
            "inflection": inflection(ngrams["steps"], ngrams["robust"][str(NGRAM)], threshold),
            "nonterminals": probes,
            "nonterminals_of_teacher": nonterminal_scores(teacher, scale),
            "students": students.numbers(),
        },
        checks=[
            *phase_checks(loss, phases),
            *ngram_checks(ngrams, NGRAM),
            _middle_is_best(students),
            above(students, MIDDLE, ONE_SHOT),
            above(students, PROGRESSIVE, ONE_SHOT),
            _probe_check(probes),
        ],
        seeds=scale.seeds,
        config=scale.plain(),
        figures=[save(phases_figure(loss, phases, ngrams, NGRAM, students), lab.results, f"C9.{preset}")],
        notes=[
            "Total variation is ½ ‖·‖₁. Masked positions are hidden from attention, in training and in the"
            " probes.",
            "The phases are those of `vigreux.probes.phases` in the held-out loss; `vigreux select` may find"
            " no transition in it,"
            " where the loss falls on fast after the drop. Their definition was made after the laptop's"
            " teacher had been looked at,"
            " and before any student was trained on its checkpoints.",
        ],
    )


def _middle_is_best(students: Students) -> Check:
    means = {name: mean(students.finals(name)) for name in (BEFORE, MIDDLE, AFTER)}
    shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in means.items())
    return Check(
        f"of the 2-shot students those of the middle of phase 2 are best: {shown}",
        means[MIDDLE] > max(means[BEFORE], means[AFTER]),
    )


def _probe_check(probes: dict[str, list[dict[str, list[float]]]]) -> Check:
    """Compares the mean over levels, seed by seed."""
    one_shot = [mean(scores["accuracy"]) for scores in probes[ONE_SHOT]]
    middle = [mean(scores["accuracy"]) for scores in probes[MIDDLE]]
    pairs = list(zip(one_shot, middle))
    shown = "; ".join(f"{100 * one:.1f} and {100 * other:.1f} %" for one, other in pairs)
    return Check(
        "non-terminals are read better from students of the middle of phase 2 than from one-shot's, every"
        f" seed: {shown}",
        all(other > one for one, other in pairs),
    )


CLAIM = Claim(
    "C9", "grammar: three phases, and the middle of the second teaches most", "arXiv 2410.05464", run
)
