"""C5: the teacher's logits depend on single support variables inside the phase transition, and only there."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import curve
from vigreux.claims.common.parity import SCALES, ParityScale
from vigreux.claims.common.transition import Rise, checkpoints, rise_of
from vigreux.run.folder import RunFolder

# fresh inputs of a probe; laptop and paper have the paper's number
SAMPLES: dict[Preset, int] = {"smoke": 5000, "laptop": 100_000, "paper": 100_000}
RATIO = 5  # a spike is this many times the largest correlation outside the support, and the final one inside


def run(lab: Lab, preset: Preset) -> Outcome:
    """Measures the degree-1 correlations of the teacher's probability at many checkpoints."""
    from vigreux.report.plot_correlations import save_correlations

    scale = SCALES[preset]
    teacher = lab.teacher(scale.teacher())
    rise = rise_of(teacher)
    records = [_probe(teacher, scale, step, SAMPLES[preset]) for step in _probed_steps(teacher, scale, rise)]
    inside = {record["step"]: record["summary"]["in_mean"] for record in records}
    outside = {record["step"]: record["summary"]["out_max"] for record in records}
    peak = max(inside, key=lambda step: inside[step])
    final = inside[scale.teacher_steps]
    window = f"[{rise.start:,.0f}, {rise.end:,.0f}]"
    checks = [
        Check(
            f"the largest correlation in the support, at step {peak:,}, lies in {window}",
            rise.start <= peak <= rise.end,
        ),
        Check(
            f"there it is {RATIO} × the largest outside the support: {inside[peak]:.4f} and"
            f" {outside[peak]:.4f}",
            inside[peak] >= RATIO * outside[peak],
        ),
        Check(
            f"it fades: the final teacher's is at most 1 / {RATIO} of it: {final:.4f}",
            final <= inside[peak] / RATIO,
        ),
    ]
    paths = save_correlations(
        records, lab.results / "figures", f"C5.{preset}", transition=(round(rise.start), round(rise.end))
    )
    return Outcome(
        numbers={
            "transition": rise.plain(),
            "peak": peak,
            "probes": [_support_only(record) for record in records],
        },
        checks=checks,
        seeds=(0,),
        config=scale.plain() | {"samples": SAMPLES[preset], "readout": "probability"},
        figures=[str(path.relative_to(lab.results)) for path in paths],
        notes=["one teacher; intervals are over the fresh inputs of each probe"],
    )


def _probed_steps(teacher: RunFolder, scale: ParityScale, rise: Rise) -> list[int]:
    """Every checkpoint near the transition, every fourth of the others, and the final teacher."""
    margin = 2 * (rise.end - rise.start)
    steps = []
    for index, step in enumerate(checkpoints(teacher)):
        is_near = rise.start - margin <= step <= rise.end + margin
        if is_near or index % 4 == 3:
            steps.append(step)
    return [*steps, scale.teacher_steps]


def _probe(teacher: RunFolder, scale: ParityScale, step: int, samples: int) -> dict[str, Any]:
    from vigreux.models.two_layer import TwoLayer
    from vigreux.probes.monomials import MonomialSettings, probe_monomials
    from vigreux.tasks.synthetic.parity import Parity

    (path,) = (checkpoint.path for checkpoint in teacher.checkpoints() if checkpoint.global_step == step)
    task = Parity.draw(scale.n, scale.k, scale.task_seed)
    settings = MonomialSettings(readout="probability", degree=1, feature_degree=1, samples=samples)
    probe = probe_monomials(TwoLayer.load(path), task, settings)
    points = curve(teacher)
    accuracies = dict(zip(points["steps"], points["accuracy"]))
    return {
        "step": step,
        "accuracy": accuracies.get(step),
        "correlations": [asdict(correlation) for correlation in probe.correlations],
        "summary": asdict(probe.summary(1)),
    }


def _support_only(record: dict[str, Any]) -> dict[str, Any]:
    """The record without the correlations outside the support, which its summary covers."""
    support = [
        {key: correlation[key] for key in ("subset", "value", "low", "high")}
        for correlation in record["correlations"]
        if correlation["where"] == "in"
    ]
    return record | {"correlations": support}


CLAIM = Claim(
    "C5",
    "a spike of degree-1 correlations inside the transition, that fades after it",
    "arXiv 2410.05464, figure 2b",
    run,
)
