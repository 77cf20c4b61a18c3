"""C9: a teacher of a grammar learns in three phases, and its checkpoint from the middle of the second teaches a student most."""

from __future__ import annotations

from collections.abc import Sequence

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import save
from vigreux.claims.common.grammar import SETTINGS
from vigreux.claims.common.grammar_probes import ngram_series, nonterminal_scores
from vigreux.claims.common.grammar_students import (
    AFTER,
    BEFORE,
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
from vigreux.claims.common.phase_checks import ngram_checks, phase_checks
from vigreux.claims.common.phases_figure import phases_figure
from vigreux.claims.common.transformer_students import Students, train_students
from vigreux.probes.phases import inflection
from vigreux.stats import mean_interval

NGRAM = 3  # of the checks; the others are in the numbers
PROBED = (ONE_SHOT, MIDDLE)  # students whose hidden states are probed


def run(lab: Lab, preset: Preset) -> Outcome:
    """The teacher's phases and n-grams, students taught from each phase, and what their hidden states hold."""
    settings = SETTINGS[preset]
    teacher = grammar_teacher(lab, settings)
    found = phases(teacher)
    lab.say("n-grams of the teacher's checkpoints")
    grams = ngram_series(teacher, settings.probe_sentences, settings.ngrams())
    methods = {name: make for name, make in methods_of(settings, found).items() if name != EXTRACTED}
    students = train_students(lab, teacher, methods, settings.seeds, prefix="grammar-")
    lab.say("non-terminals in hidden states")
    probes = {name: [nonterminal_scores(run, settings) for run in students.runs[name]] for name in PROBED}
    loss = loss_of(teacher)
    return Outcome(
        numbers={
            "phases": found,
            "teacher_loss": loss,
            "ngrams": grams,
            "inflection": inflection(
                grams["steps"], grams["robust"][str(NGRAM)], 2 * max(grams["robust_interval"][str(NGRAM)])
            ),
            "nonterminals": probes,
            "nonterminals_of_teacher": nonterminal_scores(teacher, settings),
            "students": students.numbers(),
        },
        checks=[
            *phase_checks(loss, found),
            *ngram_checks(grams, NGRAM),
            *_student_checks(students),
            _probe_check(probes),
        ],
        seeds=settings.seeds,
        config=settings.plain(),
        figures=[save(phases_figure(loss, found, grams, NGRAM, students), lab.results, f"C9.{preset}")],
        notes=[
            "Total variation is ½ ‖·‖₁. Masked positions are hidden from attention, in training and in the probes.",
            "The phases are those of `vigreux.probes.phases` in the held-out loss; `vigreux select` may find no transition in it,"
            " where the loss falls on fast after the drop. Their definition was made after the laptop's teacher had been looked at,"
            " and before any student was trained on its checkpoints.",
        ],
    )


def _student_checks(students: Students) -> list[Check]:
    means = {name: mean_interval(students.finals(name))[0] for name in students.runs}
    shown = ", ".join(f"{name} {100 * means[name]:.2f} %" for name in (BEFORE, MIDDLE, AFTER))
    return [
        Check(
            f"of the 2-shot students those of the middle of phase 2 are best: {shown}",
            means[MIDDLE] > max(means[BEFORE], means[AFTER]),
        ),
        *(above_one_shot(students, name) for name in (MIDDLE, PROGRESSIVE)),
    ]


def _probe_check(probes: dict[str, list[dict[str, list[float]]]]) -> Check:
    """Mean over levels, seed by seed."""
    plain, taught = ([_mean(scores["accuracy"]) for scores in probes[name]] for name in PROBED)
    shown = "; ".join(f"{100 * one:.1f} and {100 * other:.1f} %" for one, other in zip(plain, taught))
    return Check(
        f"non-terminals are read better from students of the middle of phase 2 than from one-shot's, every seed: {shown}",
        all(other > one for one, other in zip(plain, taught)),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


CLAIM = Claim(
    "C9", "grammar: three phases, and the middle of the second teaches most", "arXiv 2410.05464", run
)
