"""C7: extraction from the final teacher does what progressive distillation does, and keeps no checkpoint."""

from __future__ import annotations

from functools import partial

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import all_at_chance, all_learned, percent, summary_of
from vigreux.claims.common.parity import EXTRACTION, SCALES
from vigreux.claims.common.two_layer_students import Method, TwoLayerStudents, train_students


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains one-shot, progressive and extraction students with the same short budget."""
    scale = SCALES[preset]
    teacher = lab.teacher(scale.teacher())
    steps = scale.short_steps
    series = scale.progressive_checkpoints()
    methods: dict[str, Method] = {
        "one-shot": partial(scale.student, "one-shot", steps=steps),
        "progressive": partial(scale.student, "progressive", steps=steps, checkpoints=series),
        "extraction": partial(scale.student, "extraction", steps=steps, extraction=EXTRACTION),
    }
    students = train_students(lab, scale, teacher, methods)
    bytes_kept = {
        method: summary_of(by_width[scale.widths[0]][0]).bytes_kept
        for method, by_width in students.runs.items()
    }
    checks = [check for width in scale.widths for check in _accuracy_checks(students, width)]
    checks.append(
        Check(
            f"extraction keeps no more than one-shot, the final teacher: {bytes_kept}",
            bytes_kept["extraction"] == bytes_kept["one-shot"],
        )
    )
    return Outcome(
        numbers={"bytes_kept": bytes_kept, "students": students.numbers()},
        checks=checks,
        seeds=scale.seeds,
        config=scale.plain() | {"hidden_share": EXTRACTION.hidden_share, "projection": EXTRACTION.projection},
        figures=[save(accuracy_figure(students.panels(), chance=0.5), lab.results, f"C7.{preset}")],
    )


def _accuracy_checks(students: TwoLayerStudents, width: int) -> list[Check]:
    one_shot = students.accuracies("one-shot", width)
    progressive = students.accuracies("progressive", width)
    extraction = students.accuracies("extraction", width)
    return [
        Check(
            f"width {width}: one-shot at 55 % or less in every seed: {percent(one_shot)}",
            all_at_chance(one_shot),
        ),
        Check(
            f"width {width}: extraction at 99 % or more in every seed: {percent(extraction)}",
            all_learned(extraction),
        ),
        Check(
            f"width {width}: every seed of extraction within 1 point of progressive's best:"
            f" {percent(progressive)}",
            min(extraction) >= max(progressive) - 0.01,
        ),
    ]


CLAIM = Claim(
    "C7",
    "extraction reaches 100 % where one-shot stays at chance, without a checkpoint",
    "arXiv 2503.17494",
    run,
)
