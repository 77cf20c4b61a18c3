"""C7: curriculum extraction from the final teacher does what progressive distillation does, and keeps no checkpoint."""

from __future__ import annotations

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import EXTRACTION, SETTINGS, all_at_chance, all_learned
from vigreux.claims.common.two_layer_students import Method, compare


def run(lab: Lab, preset: Preset) -> Outcome:
    """One-shot, progressive and extraction with the same short budget."""
    settings = SETTINGS[preset]
    teacher = lab.teacher(settings.teacher())
    steps = settings.short_steps
    series = list(range(settings.progressive_every, settings.teacher_steps, settings.progressive_every))
    methods: dict[str, Method] = {
        "one-shot": lambda width, seed: settings.student("one-shot", width, seed, steps),
        "progressive": lambda width, seed: settings.student(
            "progressive", width, seed, steps, checkpoints=series
        ),
        "extraction": lambda width, seed: settings.student(
            "extraction", width, seed, steps, extraction=EXTRACTION
        ),
    }
    comparison = compare(lab, settings, teacher, methods)
    numbers = comparison.numbers()
    checks = []
    for width in settings.widths:
        final = {method: comparison.accuracies(method, width) for method in methods}
        shown = {method: ", ".join(f"{100 * a:.1f} %" for a in own) for method, own in final.items()}
        matches = min(final["extraction"]) >= max(final["progressive"]) - 0.01
        checks += [
            Check(
                f"width {width}: one-shot at 55 % or less in every seed: {shown['one-shot']}",
                all_at_chance(final["one-shot"]),
            ),
            Check(
                f"width {width}: extraction at 99 % or more in every seed: {shown['extraction']}",
                all_learned(final["extraction"]),
            ),
            Check(
                f"width {width}: every seed of extraction within 1 point of progressive's best: {shown['progressive']}",
                matches,
            ),
        ]
    kept = {
        method: own[f"width {settings.widths[0]}"]["cost"][0]["bytes_kept"] for method, own in numbers.items()
    }
    checks.append(
        Check(
            f"extraction keeps no more than one-shot, the final teacher: {kept}",
            kept["extraction"] == kept["one-shot"],
        )
    )
    return Outcome(
        numbers={"bytes_kept": kept, "students": numbers},
        checks=checks,
        seeds=settings.seeds,
        config=settings.plain()
        | {"hidden_share": EXTRACTION.hidden_share, "projection": EXTRACTION.projection},
        figures=[save(accuracy_figure(comparison.panels(), chance=0.5), lab.results, f"C7.{preset}")],
    )


CLAIM = Claim(
    "C7",
    "extraction reaches 100 % where one-shot stays at chance, without a checkpoint",
    "arXiv 2503.17494",
    run,
)
