"""C1: wider networks learn parity from labels in fewer steps."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import spearmanr

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import curve
from vigreux.claims.common.scale import Scale
from vigreux.config.shared import BudgetConfig
from vigreux.config.two_layer import BooleanTaskConfig, NetworkConfig, SGDConfig, TwoLayerConfig
from vigreux.run.folder import RunFolder

THRESHOLD = 0.9  # from this accuracy on a network has found the parity


@dataclass(frozen=True, kw_only=True)
class WidthScale(Scale):
    """One scale: networks of several widths on labels alone.

    Args:
        n, k: Coordinates, and those that the label depends on.
        widths: Hidden units.
        steps: Steps of every network.
        rate: Learning rate, constant.
        eval_every: Steps between evaluations.
    """

    n: int
    k: int
    widths: tuple[int, ...]
    steps: int
    rate: float
    eval_every: int
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def network(self, width: int, seed: int) -> TwoLayerConfig:
        """The run of one network."""
        return TwoLayerConfig(
            task=BooleanTaskConfig(n=self.n, k=self.k),
            student=NetworkConfig(width=width),
            curriculum="supervised",
            budget=BudgetConfig(steps=self.steps),
            training=SGDConfig(learning_rate=self.rate, decay="constant", eval_every=self.eval_every),
            seed=seed,
        )


SCALES: dict[Preset, WidthScale] = {
    "smoke": WidthScale(
        n=20, k=3, widths=(50, 200, 1000), steps=20_000, rate=5e-3, eval_every=1000, seeds=(0, 1)
    ),
    "laptop": WidthScale(
        n=40, k=5, widths=(30, 100, 300, 1000, 3000), steps=1_000_000, rate=5e-3, eval_every=10_000
    ),
    "paper": WidthScale(
        n=100, k=6, widths=(100, 1000, 10_000, 50_000), steps=20_000_000, rate=5e-3, eval_every=100_000
    ),
}


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains every width and seed on labels, and counts the steps until 90 % accuracy."""
    scale = SCALES[preset]
    names = {width: {f"labels-w{width}-seed{seed}": seed for seed in scale.seeds} for width in scale.widths}
    trained = lab.students(
        {
            name: scale.network(width, seed)
            for width, by_name in names.items()
            for name, seed in by_name.items()
        }
    )
    runs = {width: [trained[name] for name in by_name] for width, by_name in names.items()}
    reached = {width: [steps_to(run, scale.steps) for run in of_width] for width, of_width in runs.items()}
    pairs = [(width, steps) for width, of_width in reached.items() for steps in of_width]
    correlation = float(spearmanr([width for width, _ in pairs], [steps for _, steps in pairs]).statistic)
    narrowest, widest = scale.widths[0], scale.widths[-1]
    checks = [
        Check(
            f"rank correlation of width and steps to {THRESHOLD:.0%} accuracy at most -0.8:"
            f" {correlation:.2f}",
            correlation <= -0.8,
        ),
        Check(
            f"every seed of width {widest} gets there before any of width {narrowest}",
            max(reached[widest]) < min(reached[narrowest]),
        ),
    ]
    curves = {width: [curve(run) for run in of_width] for width, of_width in runs.items()}
    title = f"labels alone, n = {scale.n}, k = {scale.k}"
    panel = {f"width {width:,}": of_width for width, of_width in curves.items()}
    return Outcome(
        numbers={
            "steps_to_90": {str(width): steps for width, steps in reached.items()},
            "rank_correlation": correlation,
            "curves": {str(width): of_width for width, of_width in curves.items()},
        },
        checks=checks,
        seeds=scale.seeds,
        config=scale.plain(),
        figures=[save(accuracy_figure({title: panel}, chance=0.5), lab.results, f"C1.{preset}")],
        notes=[f"a run that does not get there in {scale.steps:,} steps counts as {2 * scale.steps:,}"],
    )


def steps_to(run: RunFolder, budget: int, threshold: float = THRESHOLD) -> int:
    """Steps until the accuracy first reaches `threshold`; twice the budget if it never does."""
    points = curve(run)
    for step, accuracy in zip(points["steps"], points["accuracy"]):
        if accuracy >= threshold:
            return int(step)
    return 2 * budget


CLAIM = Claim(
    "C1", "wider networks learn parity in fewer steps from labels", "arXiv 2410.05464, section 3", run
)
