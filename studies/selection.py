"""How often `vigreux.selection` is right: synthetic training curves with known phase transitions.

    python studies/selection.py            # about five minutes on one core; writes results/selection.json
    python studies/selection.py --table    # results/selection.json as a table

Beside it, for comparison, the plainest use of change points: a piecewise-constant fit (PELT, the same penalty
and noise), breaks closer than five evaluations joined, each rise above three noise standard deviations a
transition.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from vigreux.claims.common.claim import write_document
from vigreux.report.layout import markdown_table
from vigreux.selection import Curve, find_transitions, select_checkpoints
from vigreux.selection.line import PENALTY, local_noise

Array = NDArray[np.float64]
RESULTS = Path(__file__).resolve().parent.parent / "results" / "selection.json"
SEEDS = 500
EVAL = 4096  # held-out samples of the papers' parity runs
STEPS = np.arange(1, 81) * 100_000.0  # 8M steps, evaluated every 0.1M


@dataclass(frozen=True)
class Case:
    """A family of curves, and where their transitions are.

    Args:
        name: in words.
        draw: one curve.
        middles: steps of half way, of each transition.
        tolerance: steps by which a middle may be off.
        way: the share of the way made at a step, for cases with one transition from which a checkpoint is
        chosen.
    """

    name: str
    draw: Callable[[Generator], Curve]
    middles: tuple[float, ...] = ()
    tolerance: float = 0.0
    way: Callable[[float], float] | None = None


# --- curves
# -----------------------------------------------------------------------------------------------------------


def sigmoid(steps: Array | float, middle: float, width: float) -> Array:
    """From 0 to 1, from 10 % to 90 % of the way within `width`; a width of 0 is a jump after `middle`."""
    scaled = np.clip((np.asarray(steps) - middle) * 2 * math.log(9) / max(width, 1e-9), -500, 500)
    return 1 / (1 + np.exp(-scaled))


def staircase(steps: Array, middles: tuple[float, ...], width: float, levels: tuple[float, ...]) -> Array:
    """From level to level, a sigmoid each."""
    rises = (high - low for low, high in pairwise(levels))
    return levels[0] + sum(rise * sigmoid(steps, middle, width) for rise, middle in zip(rises, middles))


def accuracy(chance: Array) -> Callable[[Generator], Curve]:
    """Measured on `EVAL` samples: binomial noise, none where the accuracy is 1."""
    return lambda rng: Curve(STEPS, rng.binomial(EVAL, np.clip(chance, 0, 1)) / EVAL, rises=True)


def noisy(
    values: Array, noise: float, *, rises: bool = True, steps: Array = STEPS
) -> Callable[[Generator], Curve]:
    """With normal noise."""
    return lambda rng: Curve(steps, values + rng.normal(0, noise, len(values)), rises)


def noisy_stairs(height: float, plateau: int, count: int = 3) -> Case:
    """Jumps of `height` noise standard deviations, plateaus of `plateau` evaluations."""
    steps = np.arange(1.0, plateau * (count + 1) + 1)
    middles = tuple(plateau * (i + 1) + 0.5 for i in range(count))
    values = sum(np.where(steps > middle, height, 0.0) for middle in middles)
    return Case(
        f"{count} jumps of {height:g} σ, plateaus of {plateau}", noisy(values, 1.0, steps=steps), middles, 1.5
    )


def parity(middle: float, width: float, name: str) -> Case:
    """Accuracy from 50 % to 100 %, in M steps."""
    middle, width = middle * 1e6, width * 1e6
    return Case(
        f"parity, {name}",
        accuracy(0.5 + 0.5 * sigmoid(STEPS, middle, width)),
        (middle,),
        max(1.5e5, width / 8),
        (lambda step: float(sigmoid(step, middle, width))) if width >= 3e5 else None,
    )


def hierarchical(width: float, middles: tuple[float, ...] = (2e6, 4e6, 6.5e6)) -> Case:
    """Accuracy 1/8 → 1/4 → 1/2 → 1."""
    steps = ", ".join(f"{middle / 1e6:g}" for middle in middles)
    name = f"hierarchical parity at {steps}M, each {width / 1e5:g} evaluations long"
    return Case(
        name,
        accuracy(staircase(STEPS, middles, width, (1 / 8, 1 / 4, 1 / 2, 1.0))),
        middles,
        max(1.5e5, width / 4),
    )


def spiky(rng: Generator) -> Curve:
    """A transition, with a spike before it and a dip after it."""
    values = 0.5 + 0.5 * sigmoid(STEPS, 4.5e6, 4e5) + rng.normal(0, 0.005, 80)
    values[[20, 21]], values[[60, 61, 70]] = 0.68, 0.7
    return Curve(STEPS, values, rises=True)


def cases() -> list[Case]:
    """All of them; without middles no transition is there to be found."""
    t = STEPS / 1e5
    log_steps = np.unique(np.round(np.geomspace(1e3, 1e6, 120)))
    found = [
        parity(6.5, 0.6, "6M to 7M of 8M"),
        parity(6.5, 0.0, "between two evaluations"),
        parity(6.45, 0.1, "one evaluation long"),
        parity(5.0, 2.0, "20 evaluations long"),
        parity(1.0, 0.4, "at 1M of 8M"),
        parity(7.6, 0.6, "over in the last evaluations"),
        hierarchical(0.0),
        hierarchical(3e5),
        hierarchical(8e5),
        hierarchical(3e5, (2e6, 3e6, 4e6)),
        Case(
            "loss, power law and a drop",
            noisy(2 * t**-0.5 + 1 - 0.5 * sigmoid(t, 40, 4), 0.01, rises=False),
            (4e6,),
            1.5e5,
        ),
        Case(
            "loss, logarithmic and two drops",
            noisy(3 - 0.3 * np.log(t) - 0.5 * sigmoid(t, 30, 4) - 0.4 * sigmoid(t, 60, 3), 0.02, rises=False),
            (3e6, 6e6),
            1.5e5,
        ),
        Case(
            "evaluated at logarithmic steps",
            noisy(0.5 + 0.5 * sigmoid(np.log(log_steps), math.log(2e5), 0.8), 0.01, steps=log_steps),
            (2e5,),
            2e4,
        ),
        Case("a spike before, dips after", spiky, (4.5e6,), 1.5e5),
    ]
    stairs = [noisy_stairs(height, plateau) for height in (4, 5, 6, 8) for plateau in (8, 12, 20, 30)]
    flat = [
        Case(f"noise, {n} evaluations", noisy(np.full(n, 0.5), 0.01, steps=np.arange(1.0, n + 1)))
        for n in (12, 20, 80, 400)
    ]
    steady = {
        "steady: a straight line": 0.2 + 0.6 * t / 80,
        "steady: power law, exponent 0.3": -(t**-0.3),
        "steady: power law, exponent 1": -(t**-1.0),
        "steady: logarithm": 0.2 * np.log(t),
        "steady: saturating early": -0.8 * np.exp(-t / 15),
        "steady: saturating late": -0.8 * np.exp(-t / 40),
        "an S over three quarters of the run": 0.5 * sigmoid(t, 40, 60),
    }
    none = [
        Case(f"{name}, noise {noise:g}", noisy(values, noise))
        for name, values in steady.items()
        for noise in (0.003, 0.01, 0.03)
    ]
    return [*found, *stairs, *flat, *none]


# --- what is measured
# -------------------------------------------------------------------------------------------------


def constant_fit(curve: Curve) -> list[float]:
    """The comparison: middles of the rises of a piecewise-constant fit."""
    from ruptures import KernelCPD

    values = curve.values if curve.rises else -curve.values
    noise = local_noise(values)
    scaled = values / np.median(noise)
    breaks = KernelCPD(kernel="linear", min_size=1).fit_predict(
        scaled[:, None], pen=PENALTY * math.log(len(values))
    )[:-1]
    groups: list[list[int]] = []
    for at in breaks:
        if groups and at - groups[-1][-1] < 5:
            groups[-1].append(at)
        else:
            groups.append([at])
    edges = [0, *(edge for group in groups for edge in (group[0], group[-1])), len(values)]
    levels = [values[a:b].mean() for a, b in zip(edges[::2], edges[1::2])]
    middles = [(curve.steps[g[0] - 1] + curve.steps[g[-1]]) / 2 for g in groups]
    return [
        middle
        for middle, group, (low, high) in zip(middles, groups, pairwise(levels))
        if high - low > 3 * noise[group[0]]
    ]


def right(case: Case, middles: list[float]) -> bool:
    """Whether exactly the true transitions were found."""
    return len(middles) == len(case.middles) and all(
        abs(a - b) <= case.tolerance for a, b in zip(middles, case.middles)
    )


def hits(case: Case, middles: list[float]) -> float:
    """The share of the true transitions that were found."""
    return (
        float(np.mean([any(abs(a - b) <= case.tolerance for a in middles) for b in case.middles]))
        if case.middles
        else math.nan
    )


def measure(case: Case, seeds: int = SEEDS, *, compare: bool = True) -> dict[str, object]:
    """Over `seeds` curves: how many are right, transitions found, and where the chosen checkpoint lies."""
    exact, compared, found, ways = [], [], [], []
    for seed in range(seeds):
        curve = case.draw(default_rng(seed))
        middles = [transition.middle for transition in find_transitions(curve)]
        exact.append(right(case, middles))
        found.append(hits(case, middles))
        compared.append(compare and right(case, constant_fit(curve)))
        if case.way is not None and exact[-1]:
            ways.append(case.way(select_checkpoints(curve, [int(step) for step in curve.steps])[0].step))
    record: dict[str, object] = {
        "case": case.name,
        "transitions": len(case.middles),
        "right": float(np.mean(exact)),
    }
    record |= {
        "found": None if not case.middles else float(np.mean(found)),
        "constant_fit_right": float(np.mean(compared)),
    }
    return record | {"way_5_95": [float(q) for q in np.quantile(ways, (0.05, 0.95))] if ways else None}


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """The records as a Markdown table."""
    rows = []
    for record in results["cases"]:
        each = "" if record["found"] is None else f"{100 * record['found']:.1f} %"
        way = ""
        if record["way_5_95"] is not None:
            way = " to ".join(f"{100 * share:.0f} %" for share in record["way_5_95"])
        exact = f"{100 * record['right']:.1f} %"
        compared = f"{100 * record['constant_fit_right']:.1f} %"
        rows.append([record["case"], str(record["transitions"]), exact, each, way, compared])
    header = ["curve", "transitions", "all found, none false", "each found", "way at the checkpoint"]
    return markdown_table([*header, "piecewise-constant"], rows, "llllll")


def main() -> None:
    """Measures all cases, or prints what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="print results/selection.json as a table")
    if not parser.parse_args().table:
        records = [measure(case) for case in cases()]
        plain = {"command": "python studies/selection.py", "seeds": SEEDS, "cases": records}
        write_document(plain, RESULTS)
    sys.stdout.write(table(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
