"""Batch-1 SGD of a two-layer network, in µs per step.

The contenders are Vigreux, eager PyTorch, `torch.compile` and a jitted `jax.lax.scan`.

    pip install jax            # optional: without it the column of JAX stays empty
    python benchmarks/online_sgd.py                    # table and docs/images/online-sgd.png
    python benchmarks/online_sgd.py --json             # one line per case
    python benchmarks/online_sgd.py --widths 100,1000 --threads 1
    python benchmarks/online_sgd.py --save results/online-sgd.json     # the table of README and
    docs/parity.md

Every contender trains the same network, n = 100 inputs and 2 logits, in float32 on the same ±1 samples with
random labels. Each runs in a separate process that may use only the cores that the case names, and the
contenders of a case take turns. The best of several rounds counts, because other work on the machine can only
slow a round down. Random labels keep the gradients alive. The learning rate is small, so that no network
diverges.

`vigreux_share_of_peak` compares two rates. The first is 2 multiply-adds per weight and step (one for the
product, one for the update), which the plain step needs. The second is the multiply-adds per second of a
large matrix product. Vigreux needs only a quarter of the multiply-adds (`kernels/signs.py`), so the share
could in principle exceed 1. Memory is the growth of a process's peak above its size after all imports and
compilation: the network, the samples of one call of the kernel, and the kernel's buffers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONTENDERS = ("vigreux", "torch", "torch_compile", "jax_scan")
N_INPUTS, CLASSES, RATE = 100, 2, 1e-4
SECONDS = 2.0  # the approximate length of one round
ROUNDS = 5
CALL = 16_384  # samples of a call of the kernel, as in the engine
ROOT = Path(__file__).resolve().parent.parent

Run = Callable[[int], float]  # trains so many steps, gives the seconds they took


def parameters(width: int):
    """(W, b, A, c) as numpy arrays, PyTorch's default ranges."""
    import numpy as np

    draw = np.random.default_rng(0)
    inner, outer = N_INPUTS**-0.5, width**-0.5
    shapes = [((width, N_INPUTS), inner), ((width,), inner), ((CLASSES, width), outer), ((CLASSES,), outer)]
    return [draw.uniform(-bound, bound, shape).astype(np.float32) for shape, bound in shapes]


def samples(count: int):
    """(count, n) ±1 and (count,) labels."""
    import numpy as np

    draw = np.random.default_rng(1)
    return (2 * draw.integers(0, 2, (count, N_INPUTS)) - 1).astype(np.float32), draw.integers(
        0, CLASSES, count
    )


def vigreux(width: int, threads: int) -> Run:
    import numpy as np
    import torch

    from vigreux.kernels.sgd import OnlineSGD

    torch.set_num_threads(threads)
    kernel = OnlineSGD(*map(torch.from_numpy, parameters(width)), threads=threads)

    def run(steps: int) -> float:
        X, y = samples(steps)
        inputs = torch.from_numpy(X.astype(np.int8))  # as the engine draws them
        targets, rate = torch.eye(CLASSES)[torch.from_numpy(y)], np.full(steps, RATE)
        began = time.perf_counter()
        for start in range(0, steps, CALL):
            span = slice(start, start + CALL)
            kernel.fit_logits(inputs[span], targets[span], rate[span])
        return time.perf_counter() - began

    return run


def torch_eager(width: int, threads: int, *, compiled: bool = False) -> Run:
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(threads)
    W, b, A, c = (torch.from_numpy(p).requires_grad_() for p in parameters(width))
    optimizer = torch.optim.SGD([W, b, A, c], lr=RATE)

    def loss_of(x, y):
        return cross_entropy((x @ W.T + b).relu() @ A.T + c, y)

    forward = torch.compile(loss_of) if compiled else loss_of

    def run(steps: int) -> float:
        X, y = map(torch.from_numpy, samples(steps))
        began = time.perf_counter()
        for i in range(steps):
            optimizer.zero_grad()
            forward(X[i : i + 1], y[i : i + 1]).backward()
            optimizer.step()
        return time.perf_counter() - began

    return run


def torch_compile(width: int, threads: int) -> Run:
    return torch_eager(width, threads, compiled=True)


def jax_scan(width: int, threads: int) -> Run:
    import jax
    import jax.numpy as jnp

    def loss_of(p, x, y):
        W, b, A, c = p
        o = A @ jax.nn.relu(W @ x + b) + c
        return jax.nn.logsumexp(o) - o[y]

    def step(p, sample):
        loss, gradient = jax.value_and_grad(loss_of)(p, *sample)
        return jax.tree.map(lambda value, g: value - RATE * g, p, gradient), loss

    scan = jax.jit(lambda p, X, y: jax.lax.scan(step, p, (X, y)), donate_argnums=0)
    state = {"p": tuple(map(jnp.asarray, parameters(width)))}

    def run(steps: int) -> float:
        X, y = map(jnp.asarray, samples(steps))
        scan.lower(state["p"], X, y).compile()
        state["p"], losses = scan(state["p"], X, y)  # compiles, once a length
        losses.block_until_ready()
        began = time.perf_counter()
        state["p"], losses = scan(state["p"], X, y)
        losses.block_until_ready()
        return time.perf_counter() - began

    return run


def gemm_flops(threads: int) -> float:
    """FLOP/s of a large float32 matrix product: the multiply-add peak that the machine reaches."""
    import torch

    torch.set_num_threads(threads)
    a = torch.randn(2048, 2048)
    best = min(_timed(lambda: a @ a) for _ in range(8))
    return 2 * 2048**3 / best


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(contender: str, width: int, threads: int) -> float | None:
    """µs per step in the best round; `None` if the contender is not installed or cannot compile here."""
    makers = {"vigreux": vigreux, "torch": torch_eager, "torch_compile": torch_compile, "jax_scan": jax_scan}
    try:
        run = makers[contender](width, threads)
        run(64)
        steps = 64
        while (seconds := run(steps)) < SECONDS / 8:
            steps *= 4
        steps = max(64, int(steps * SECONDS / 4 / seconds) // 64 * 64)
        return 1e6 * min(run(steps) for _ in range(ROUNDS)) / steps
    except (ImportError, RuntimeError) as error:
        print(f"{contender}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None


def alone(threads: int, *arguments: str) -> str:
    """Runs one measurement in a process that may use `threads` cores."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    limit = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--threads", str(threads), *arguments]
    done = subprocess.run(
        command,
        env=os.environ | limit,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    sys.stderr.write(done.stderr)
    return done.stdout


def memory(width: int, threads: int) -> float:
    """MB by which the peak of this process grows when a network is made and trained."""
    import resource

    vigreux(64, threads)(64)  # compiles
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    vigreux(width, threads)(3 * CALL)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before) / 1024


def cases(widths: list[int], threads: list[int]) -> list[dict]:
    """One record a width and number of threads, and the widest network's memory."""
    records = []
    for count in threads:
        peak = float(alone(count, "--peak"))
        for width in widths:
            record: dict = {"case": f"width {width}", "unit": "us/step", "threads": count}
            for contender in CONTENDERS:
                measured = json.loads(alone(count, "--one", contender, "--widths", str(width)))
                record[contender] = None if measured is None else round(measured, 3)
            # two multiply-adds a weight: one for the product, one for the update
            record["vigreux_share_of_peak"] = round(
                4 * width * N_INPUTS / (record["vigreux"] * 1e-6) / peak, 3
            )
            records.append(record)
    used = round(float(alone(threads[-1], "--memory", "--widths", str(widths[-1]))), 1)
    parameters_mb = round(4e-6 * (widths[-1] * (N_INPUTS + 1 + CLASSES) + CLASSES), 1)
    empty = dict.fromkeys(CONTENDERS)
    case = {"case": f"width {widths[-1]}, peak memory", "unit": "MB", "threads": threads[-1]}
    records.append(case | empty | {"vigreux": used, "parameters": parameters_mb})
    return records


def show(records: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "case", "threads", *CONTENDERS, "× torch", "× compile", "× jax", "of peak", title="µs a step"
    )
    for r in timed(records):
        times = [f"{r[name]:,.2f}" if r[name] else "–" for name in CONTENDERS]
        ratios = [f"{r[name] / r['vigreux']:.1f}" if r[name] else "–" for name in CONTENDERS[1:]]
        table.add_row(
            r["case"], str(r["threads"]), *times, *ratios, f"{100 * r['vigreux_share_of_peak']:.0f} %"
        )
    Console(width=120).print(table)
    for r in records:
        if r["unit"] == "MB":
            print(f"{r['case']}: {r['vigreux']} MB; the parameters are {r['parameters']} MB")


def timed(records: list[dict]) -> list[dict]:
    """The records that are times."""
    return [r for r in records if r["unit"] == "us/step"]


def plot(records: list[dict], path: Path) -> None:
    from matplotlib.figure import Figure

    from vigreux.report.style import LIGHT, save_png

    records = timed(records)
    threads = sorted({r["threads"] for r in records})
    figure = Figure(figsize=(4.4 * len(threads), 3.4), layout="constrained")
    axes = figure.subplots(1, len(threads), squeeze=False, sharey=True)[0]
    for axis, count in zip(axes, threads):
        at_count = [r for r in records if r["threads"] == count]
        for index, name in enumerate(CONTENDERS):
            points = [(int(r["case"].split()[1]), r[name]) for r in at_count if r[name]]
            axis.loglog(
                *zip(*points), marker="o", markersize=4, label=name.replace("_", " "), **LIGHT.series(index)
            )
        axis.set_title(f"{count} thread{'s' * (count > 1)}", loc="left", fontsize=10)
        axis.set_xlabel("width")
        axis.set_xticks([point[0] for point in points], [f"{point[0]:,}" for point in points])
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter("")
        axis.grid(color=LIGHT.grid, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("µs a step")
    axes[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(figure, path, LIGHT)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", default="100,1000,10000,50000")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--json", action="store_true", help="one line a case")
    parser.add_argument("--save", type=Path, help="write the records to a file as well")
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    widths = [int(width) for width in options.widths.split(",")]
    threads = [int(count) for count in options.threads.split(",")]
    if options.peak:
        print(gemm_flops(threads[0]))
    elif options.memory:
        print(memory(widths[0], threads[0]))
    elif options.one:
        print(json.dumps(measure(options.one, widths[0], threads[0])))
    else:
        records = cases(widths, threads)
        if options.save:
            options.save.write_text(json.dumps(records, indent=1) + "\n")
        if options.json:
            print("\n".join(map(json.dumps, records)))
        else:
            show(records)
            plot(records, ROOT / "docs" / "images" / "online-sgd.png")


if __name__ == "__main__":
    main()
