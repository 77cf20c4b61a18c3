"""C1: wider networks learn parity from labels in fewer steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from scipy.stats import spearmanr

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import ParitySettings, curve
from vigreux.config.two_layer import SGDConfig
from vigreux.run.folder import RunFolder

THRESHOLD = 0.9  # accuracy from which on parity counts as found


@dataclass(frozen=True)
class WidthStudy:
    """One scale: networks of several widths on labels alone, at a constant rate."""

    n: int
    k: int
    widths: tuple[int, ...]
    steps: int
    rate: float
    eval_every: int
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


STUDIES: dict[Preset, WidthStudy] = {
    "smoke": WidthStudy(20, 3, (50, 200, 1000), 40_000, 5e-3, 1000, seeds=(0, 1, 2)),
    "laptop": WidthStudy(40, 5, (30, 100, 300, 1000, 3000), 1_000_000, 5e-3, 10_000),
    "paper": WidthStudy(100, 6, (100, 1000, 10_000, 50_000), 20_000_000, 5e-3, 100_000),
}


def run(lab: Lab, preset: Preset) -> Outcome:
    """Every width and seed from labels; steps until 90 % accuracy."""
    study = STUDIES[preset]
    runs = {width: [_run(lab, study, width, seed) for seed in study.seeds] for width in study.widths}
    reached = {width: [steps_to(run, study.steps) for run in own] for width, own in runs.items()}
    pairs = [(width, steps) for width, own in reached.items() for steps in own]
    correlation = float(spearmanr([w for w, _ in pairs], [s for _, s in pairs]).statistic)
    widest, narrowest = reached[study.widths[-1]], reached[study.widths[0]]
    checks = [
        Check(
            f"rank correlation of width and steps to {THRESHOLD:.0%} accuracy at most -0.8: {correlation:.2f}",
            correlation <= -0.8,
        ),
        Check(
            f"every seed of width {study.widths[-1]} gets there before any of width {study.widths[0]}",
            max(widest) < min(narrowest),
        ),
    ]
    panels = {
        f"labels alone, n = {study.n}, k = {study.k}": {
            f"width {w:,}": [curve(run) for run in own] for w, own in runs.items()
        }
    }
    figure = save(accuracy_figure(panels, chance=0.5), lab.results, f"C1.{preset}")
    return Outcome(
        numbers={
            "steps_to_90": {str(width): own for width, own in reached.items()},
            "rank_correlation": correlation,
            "curves": {str(width): [curve(run) for run in own] for width, own in runs.items()},
        },
        checks=checks,
        seeds=study.seeds,
        config=asdict(study),
        figures=[figure],
        notes=[f"a run that does not get there in {study.steps:,} steps counts as {2 * study.steps:,}"],
    )


def _run(lab: Lab, study: WidthStudy, width: int, seed: int) -> RunFolder:
    settings = ParitySettings(
        study.n,
        study.k,
        width,
        study.steps,
        study.rate,
        study.steps,
        (width,),
        study.steps,
        study.rate,
        0,
        0,
        0,
        study.eval_every,
    )
    training = SGDConfig(learning_rate=study.rate, decay="constant", eval_every=study.eval_every)
    return lab.student(
        settings.student("supervised", width, seed, study.steps, training=training),
        None,
        f"labels-w{width}-seed{seed}",
    )


def steps_to(run: RunFolder, budget: int, threshold: float = THRESHOLD) -> int:
    """Steps until the accuracy first reaches `threshold`; twice the budget where it does not."""
    found = curve(run)
    return next(
        (int(step) for step, a in zip(found["steps"], found["accuracy"]) if a >= threshold), 2 * budget
    )


CLAIM = Claim(
    "C1", "wider networks learn parity in fewer steps from labels", "arXiv 2410.05464, section 3", run
)
