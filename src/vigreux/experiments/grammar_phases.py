"""C9: a teacher of a grammar learns in three phases, and its checkpoint from the middle of the second teaches a student most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vigreux.cost import mean_interval
from vigreux.experiments.claim import Check, Claim, Outcome, Preset
from vigreux.experiments.figures import save
from vigreux.experiments.grammar_figure import phases_figure
from vigreux.experiments.grammar_probes import ngram_series, nonterminal_scores
from vigreux.experiments.grammar_students import (
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
from vigreux.experiments.grammar_worlds import SETTINGS
from vigreux.experiments.lab import Lab
from vigreux.experiments.students import Students, train_students
from vigreux.probes.phases import inflection

NGRAM = 3  # of the checks; the others are in the numbers
PROBED = (ONE_SHOT, MIDDLE)  # students whose hidden states are probed


def run(lab: Lab, preset: Preset) -> Outcome:
    """The teacher's phases and n-grams, students taught from each phase, and what their hidden states hold."""
    settings = SETTINGS[preset]
    teacher = grammar_teacher(lab, settings)
    found = phases(teacher)
    lab.say("n-grams of the teacher's checkpoints")
    grams = ngram_series(teacher, settings)
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
            "inflection": inflection(grams["steps"], grams["robust"][str(NGRAM)], 2 * max(grams["robust_interval"][str(NGRAM)])),
            "nonterminals": probes,
            "nonterminals_of_teacher": nonterminal_scores(teacher, settings),
            "students": students.numbers(),
        },
        checks=[*_phase_checks(loss, found), *_ngram_checks(grams), *_student_checks(students), _probe_check(probes)],
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


def _phase_checks(loss: dict[str, list[float]], found: dict[str, Any]) -> list[Check]:
    """The drop is steeper than what comes before and after it."""
    steps, values = loss["steps"], loss["loss"]

    def slope(first: float, last: float) -> float:
        inside = [(s, v) for s, v in zip(steps, values) if first <= s <= last]
        return (inside[0][1] - inside[-1][1]) / max(inside[-1][0] - inside[0][0], 1)

    # the first quarter of phase 1 is the transient of a fresh network that learns how often each token occurs
    before, drop, after = (
        slope(found["start"] / 4, found["start"]),
        slope(found["start"], found["end"]),
        slope(found["end"], steps[-1]),
    )
    if not found["found"]:
        return [Check("the loss has a plateau, a sharp drop and a slow end: no drop stands out", False)]
    what = f"loss falls at least three times as fast in phase 2 as before and after: {1000 * before:.2f}, {1000 * drop:.2f}, "
    return [Check(f"{what}{1000 * after:.2f} nats per 1,000 steps", drop >= 3 * max(before, after, 0.0))]


def _ngram_checks(grams: dict[str, Any]) -> list[Check]:
    """M_robust rises and then falls, M_close falls; both beyond the 95 % intervals over sentences."""
    robust, spread = grams["robust"][str(NGRAM)], grams["robust_interval"][str(NGRAM)]
    close, close_spread = grams["close"][str(NGRAM)], grams["close_interval"][str(NGRAM)]
    top = max(range(len(robust)), key=robust.__getitem__)
    rises = robust[top] - robust[0] > spread[top] + spread[0]
    falls = robust[top] - robust[-1] > spread[top] + spread[-1]
    shown = f"{robust[0]:.3f}, {robust[top]:.3f} at step {grams['steps'][top]}, {robust[-1]:.3f}"
    return [
        Check(f"M_robust of {NGRAM}-grams rises and then falls (first, largest, last): {shown}", rises and falls),
        Check(
            f"M_close of {NGRAM}-grams falls (first, last): {close[0]:.3f}, {close[-1]:.3f}",
            close[0] - close[-1] > close_spread[0] + close_spread[-1],
        ),
    ]


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


CLAIM = Claim("C9", "grammar: three phases, and the middle of the second teaches most", "arXiv 2410.05464", run)
