"""C2: the final teacher alone barely helps a narrow student; the checkpoints of its run take it to 100 %."""

from __future__ import annotations

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import SETTINGS, all_at_chance, all_learned, cost, curve, final_accuracy
from vigreux.claims.common.transition import budget
from vigreux.claims.common.two_layer_students import Method, compare


def run(lab: Lab, preset: Preset) -> Outcome:
    """One-shot and progressive students of all widths and seeds, with the same budget."""
    settings = SETTINGS[preset]
    teacher = lab.teacher(settings.teacher())
    steps = budget(settings, teacher)
    series = list(range(settings.progressive_every, settings.teacher_steps, settings.progressive_every))
    methods: dict[str, Method] = {
        "one-shot": lambda width, seed: settings.student("one-shot", width, seed, steps),
        "progressive": lambda width, seed: settings.student(
            "progressive", width, seed, steps, checkpoints=series
        ),
    }
    comparison = compare(lab, settings, teacher, methods)
    checks = []
    for width in settings.widths:
        one, many = comparison.accuracies("one-shot", width), comparison.accuracies("progressive", width)
        checks += [
            Check(
                f"width {width}: one-shot at 55 % or less in every seed: {_percent(one)}", all_at_chance(one)
            ),
            Check(
                f"width {width}: progressive at 99 % or more in every seed: {_percent(many)}",
                all_learned(many),
            ),
        ]
    panels = {
        f"teacher of width {settings.teacher_width:,}": {"labels": [curve(teacher)]}
    } | comparison.panels()
    return Outcome(
        numbers={
            "teacher": {"accuracy": final_accuracy(teacher), "cost": cost(teacher), "curve": curve(teacher)},
            "students": comparison.numbers(),
        },
        checks=checks,
        seeds=settings.seeds,
        config=settings.plain() | {"steps": steps},
        figures=[save(accuracy_figure(panels, chance=0.5), lab.results, f"C2.{preset}")],
    )


def _percent(accuracies: list[float]) -> str:
    return ", ".join(f"{100 * accuracy:.1f} %" for accuracy in accuracies)


CLAIM = Claim(
    "C2",
    "one-shot stays at chance where progressive reaches 100 %",
    "arXiv 2410.05464, section 3.1 and figure 2",
    run,
)
