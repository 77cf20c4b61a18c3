"""When a teacher of hierarchical parity has learned each of its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vigreux.claims.common.transition import checkpoints
from vigreux.claims.common.tree import HierarchicalSettings
from vigreux.run.checkpoints import checkpoint_path
from vigreux.run.folder import RunFolder

PROBES = 40  # checkpoints that are probed
SAMPLES = 50_000


def emergence(teacher: RunFolder, settings: HierarchicalSettings) -> dict[str, Any]:
    """Correlations of the teacher's probabilities with its features, at evenly spaced checkpoints.

    Returns:
        `steps`; `correlation`: a list a feature, in heap order, of the whole product's correlation, the largest over the classes;
        `variables`: the same of the mean over the feature's single coordinates; `half_way`: when the product has made half its way.
    """
    from vigreux.models.two_layer import TwoLayer
    from vigreux.probes.monomials import MonomialSettings, probe_monomials
    from vigreux.tasks.generated.parity import HierarchicalParity

    task = HierarchicalParity.draw(settings.n, settings.k, settings.classes, settings.task_seed)
    kept = checkpoints(teacher)
    steps = kept[:: max(1, len(kept) // PROBES)]
    probe = MonomialSettings(readout="probability", degree=1, samples=SAMPLES, outside=1)
    found = [
        probe_monomials(
            TwoLayer.load(checkpoint_path(teacher.stage_dir(0, "labels"), step)), task, probe
        ).summary(1)
        for step in steps
    ]
    products, variables = ([[at[i] or 0.0 for at in every] for i in range(len(task.features))]
                           for every in ([s.products for s in found], [s.features for s in found]))  # fmt: skip
    return {
        "steps": steps,
        "correlation": products,
        "variables": variables,
        "half_way": half_way(steps, products),
    }


def half_way(steps: Sequence[int], curves: Sequence[Sequence[float]]) -> list[int]:
    """Of each curve, the first step at which it has half of its largest value."""
    return [next(step for step, value in zip(steps, values) if value >= max(values) / 2) for values in curves]
