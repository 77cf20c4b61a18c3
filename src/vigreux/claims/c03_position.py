"""C3 and C4: one checkpoint is enough if it lies inside the phase transition, with soft and with hard targets."""

from __future__ import annotations

from functools import partial

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import HARD, SETTINGS, ParitySettings, all_at_chance, all_learned, curve
from vigreux.claims.common.transition import around, budget
from vigreux.claims.common.two_layer_students import Method, compare
from vigreux.config.shared import LossConfig
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.curriculum import Duration, Logits
from vigreux.curriculum.recipes import p_shot
from vigreux.curriculum.serialize import to_plain


def two_shot(
    settings: ParitySettings, steps: int, checkpoint: int, loss: LossConfig, width: int, seed: int
) -> TwoLayerConfig:
    """`shot` steps from the checkpoint, the rest of the budget from the final teacher."""
    stages = p_shot(
        [checkpoint],
        target=Logits(loss.temperature),
        stage=Duration.steps(settings.shot),
        final=Duration.steps(steps - settings.shot),
    )
    return settings.student(to_plain(stages), width, seed, steps, loss=loss)


def run_positions(lab: Lab, preset: Preset) -> Outcome:
    """2-shot from the checkpoints before, inside and after the transition."""
    settings = SETTINGS[preset]
    teacher = lab.teacher(settings.teacher())
    place, steps = around(teacher), budget(settings, teacher)
    positions = {
        "before": place.before,
        "inside": place.selected,
        "after": place.after,
        "long after": place.long_after,
    }
    methods: dict[str, Method] = {
        f"2-shot, {name}": partial(two_shot, settings, steps, step, LossConfig())
        for name, step in positions.items()
    }
    comparison = compare(lab, settings, teacher, methods)
    checks = []
    for width in settings.widths:
        for name, step in positions.items():
            accuracies = comparison.accuracies(f"2-shot, {name}", width)
            wanted, holds = (
                ("99 % or more", all_learned) if name == "inside" else ("55 % or less", all_at_chance)
            )
            shown = ", ".join(f"{100 * a:.1f} %" for a in accuracies)
            checks.append(
                Check(
                    f"width {width}: checkpoint {step:,} ({name}): {wanted} in every seed: {shown}",
                    holds(accuracies),
                )
            )
    panels = {
        f"teacher of width {settings.teacher_width:,}": {"labels": [curve(teacher)]}
    } | comparison.panels()
    return Outcome(
        numbers={"transition": place.plain(), "students": comparison.numbers()},
        checks=checks,
        seeds=settings.seeds,
        config=settings.plain() | {"steps": steps},
        figures=[save(accuracy_figure(panels, chance=0.5), lab.results, f"C3.{preset}")],
        notes=[
            "The checkpoint long after the rise was added once the others had been seen: right after it the teacher still gave more"
            " than its labels (see the correlations of C5), and the question was how soon that ends.",
        ],
    )


def run_hard(lab: Lab, preset: Preset) -> Outcome:
    """One-shot and 2-shot at τ = 1e-4, where the teacher's distribution is a hard label."""
    settings = SETTINGS[preset]
    teacher = lab.teacher(settings.teacher())
    place, steps = around(teacher), budget(settings, teacher)
    methods: dict[str, Method] = {
        "one-shot, hard": lambda width, seed: settings.student("one-shot", width, seed, steps, loss=HARD),
        "2-shot, hard": partial(two_shot, settings, steps, place.selected, HARD),
    }
    comparison = compare(lab, settings, teacher, methods)
    checks = []
    for width in settings.widths:
        one, two = (
            comparison.accuracies("one-shot, hard", width),
            comparison.accuracies("2-shot, hard", width),
        )
        shown = [", ".join(f"{100 * a:.1f} %" for a in own) for own in (one, two)]
        checks += [
            Check(f"width {width}: one-shot at 55 % or less in every seed: {shown[0]}", all_at_chance(one)),
            Check(f"width {width}: 2-shot at 99 % or more in every seed: {shown[1]}", all_learned(two)),
        ]
    return Outcome(
        numbers={"transition": place.plain(), "students": comparison.numbers()},
        checks=checks,
        seeds=settings.seeds,
        config=settings.plain() | {"steps": steps, "temperature": HARD.temperature},
        figures=[save(accuracy_figure(comparison.panels(), chance=0.5), lab.results, f"C4.{preset}")],
    )


POSITIONS = Claim(
    "C3",
    "only a checkpoint inside the phase transition helps",
    "arXiv 2410.05464, section 3.1 and figure 2",
    run_positions,
)
HARD_TARGETS = Claim("C4", "the same with hard targets (τ = 1e-4)", "arXiv 2410.05464, section 3.1", run_hard)
