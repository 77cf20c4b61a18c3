"""Where the time of a one-shot step goes, and how close its matrix products are to the peak: one thread.

    python benchmarks/distill_profile.py
    python benchmarks/distill_profile.py --save results/distill-profile.json

The models and batches are those of `benchmarks/distill.py`. A share is the part of the CPU time of all
operators, as torch's profiler counts it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from distill_cases import STUDENT, TEACHER, make_case
from distill_peers import CONTENDERS
from distill_report import profile_table
from torch.profiler import ProfilerActivity, profile

STEPS, WARM_UP = 5, 3
PRODUCTS = ("aten::addmm", "aten::mm", "aten::addmm_")


def measure(kind: str) -> dict[str, Any]:
    """Share of each kind of work, and multiply-adds a second of the products in it."""
    case = make_case(kind)
    loss = CONTENDERS["Vigreux"]()
    optimizer = torch.optim.AdamW(case.student.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss(case).backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(WARM_UP):
        step()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(STEPS):
            step()
    seconds: dict[str, float] = defaultdict(float)
    flops: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages(group_by_input_shape=True):
        work = _work(event.key, event.input_shapes, case.student.config.vocab_size)
        seconds[work] += event.self_cpu_time_total / 1e6
        flops[work] += event.count * _flops(event.input_shapes) if event.key in PRODUCTS else 0
    total = sum(seconds.values())
    rows = {
        work: {"share": spent / total, "gflops": flops[work] / spent / 1e9 if flops[work] else None}
        for work, spent in sorted(seconds.items(), key=lambda item: -item[1])
    }
    return {"kind": kind, "seconds_a_step": total / STEPS, "work": rows}


def _work(name: str, shapes: list[Any], vocabulary: int) -> str:
    """The kind of work of an operator.

    Products of the heads have the vocabulary, or a tile of it, as a size.
    """
    sizes = {size for shape in shapes if isinstance(shape, list) for size in shape if isinstance(size, int)}
    if name in PRODUCTS:
        rest = vocabulary % 512
        if vocabulary in sizes or (len(sizes) > 2 and (rest in sizes or _is_tile(shapes))):
            return "output heads, products"
        return f"{'teacher' if TEACHER[1] in sizes else 'student'}'s blocks, products"
    if "scaled_dot_product" in name:
        return "attention"
    if "adamw" in name:
        return "optimiser"
    return "everything else"


def _flops(shapes: list[Any]) -> int:
    """2 m k n of the two matrices that fit; an addend may come before them, and the output after."""
    matrices = [shape for shape in shapes if isinstance(shape, list) and len(shape) == 2]
    return next(2 * a[0] * a[1] * b[1] for a, b in pairwise(matrices) if a[1] == b[0])


def _is_tile(shapes: list[Any]) -> bool:
    """(N, d) times (d, 512), and a bias of 512."""
    matrices = [shape for shape in shapes if isinstance(shape, list) and len(shape) == 2]
    return len(matrices) > 1 and matrices[1][-1] == 512 and matrices[1][0] in (STUDENT[1], TEACHER[1])


def peak() -> float:
    """GFLOP/s of one large square product, the best of some."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * 1024**3 / min(times) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {"peak_gflops": peak(), "kinds": [measure(kind) for kind in ("causal-lm", "masked-lm")]}
    if options.save:
        options.save.write_text(json.dumps(results, indent=1) + "\n")
    print(profile_table(results))


if __name__ == "__main__":
    main()
