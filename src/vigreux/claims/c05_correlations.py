"""C5: inside the phase transition the teacher's logits hang on single support variables; before and after they do not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import SETTINGS, ParitySettings, curve
from vigreux.claims.common.transition import around, checkpoints
from vigreux.run.checkpoints import checkpoint_path
from vigreux.run.folder import RunFolder

# fresh inputs of a probe; at the other scales as many as in the paper
SAMPLES: dict[Preset, int] = {"smoke": 5000, "laptop": 100_000, "paper": 100_000}
RATIO = 5  # a spike: so many times the largest correlation outside the support, and the final one inside


def run(lab: Lab, preset: Preset) -> Outcome:
    """Degree-1 correlations of the teacher's probability at every checkpoint."""
    from vigreux.report.plot_correlations import save_correlations

    settings = SETTINGS[preset]
    teacher = lab.teacher(settings.teacher())
    place = around(teacher)
    # every checkpoint about the transition, every fourth elsewhere
    reach = 2 * (place.end - place.start)
    kept = checkpoints(teacher)
    steps = [s for i, s in enumerate(kept) if i % 4 == 3 or place.start - reach <= s <= place.end + reach] + [
        settings.teacher_steps
    ]
    records = [_probe(teacher, settings, step, SAMPLES[preset]) for step in steps]
    inside = {r["step"]: r["summary"]["in_mean"] for r in records}
    outside = {r["step"]: r["summary"]["out_max"] for r in records}
    peak = max(inside, key=lambda step: inside[step])
    final = inside[settings.teacher_steps]
    checks = [
        Check(f"the largest correlation in the support, at step {peak:,}, lies in [{place.start:,.0f}, {place.end:,.0f}]",
              place.start <= peak <= place.end),
        Check(f"there it is {RATIO} × the largest outside the support: {inside[peak]:.4f} and {outside[peak]:.4f}",
              inside[peak] >= RATIO * outside[peak]),
        Check(f"it fades: the final teacher's is at most 1 / {RATIO} of it: {final:.4f}", final <= inside[peak] / RATIO),
    ]  # fmt: skip
    paths = save_correlations(
        records, lab.results / "figures", f"C5.{preset}", transition=(round(place.start), round(place.end))
    )
    return Outcome(
        numbers={"transition": place.plain(), "peak": peak, "probes": [_short(record) for record in records]},
        checks=checks,
        seeds=(0,),
        config=settings.plain() | {"samples": SAMPLES[preset], "readout": "probability"},
        figures=[str(path.relative_to(lab.results)) for path in paths],
        notes=["one teacher; intervals are over the fresh inputs of each probe"],
    )


def _probe(teacher: RunFolder, parity: ParitySettings, step: int, samples: int) -> dict[str, Any]:
    from vigreux.models.two_layer import TwoLayer
    from vigreux.probes.monomials import MonomialSettings, probe_monomials
    from vigreux.tasks.generated.parity import Parity

    network = TwoLayer.load(checkpoint_path(teacher.stage_dir(0, "labels"), step))
    settings = MonomialSettings(readout="probability", degree=1, feature_degree=1, samples=samples)
    probe = probe_monomials(network, Parity.draw(parity.n, parity.k, parity.task_seed), settings)
    accuracies = dict(zip(curve(teacher)["steps"], curve(teacher)["accuracy"]))
    return {
        "step": step,
        "accuracy": accuracies.get(step),
        "correlations": [asdict(correlation) for correlation in probe.correlations],
        "summary": asdict(probe.summary(1)),
    }


def _short(record: dict[str, Any]) -> dict[str, Any]:
    """A record with the support's correlations only: those outside are in the summary."""
    support = [c for c in record["correlations"] if c["where"] == "in"]
    return record | {
        "correlations": [{key: c[key] for key in ("subset", "value", "low", "high")} for c in support]
    }


CLAIM = Claim(
    "C5",
    "a spike of degree-1 correlations inside the transition, that fades after it",
    "arXiv 2410.05464, figure 2b",
    run,
)
