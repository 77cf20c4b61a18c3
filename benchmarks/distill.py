"""One-shot distillation beside the peers: tokens a CPU-second, and memory beyond the models, on one thread.

    pip install '.[peers]'                             # in an environment of their own
    python benchmarks/distill.py                       # table
    python benchmarks/distill.py --save results/distill.json --plot results/figures/distill.png

Each contender runs in a separate process with the same models, batch and optimiser (fused AdamW). The
contenders take turns, and the best round of each counts. Before the timing, each contender's gradient is
compared with that of plain torch. Peers that are not installed are skipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distill_report import plot, table

from vigreux.claims.common.claim import machine

KINDS = ("causal-lm", "masked-lm", "classification")
ROUNDS, STEPS, WARM_UP = 3, 6, 2


def measure(contender: str, kind: str) -> dict[str, Any]:
    """Measures, in this process, tokens per CPU-second of a whole step: forward, backward and optimiser."""
    import torch
    from distill_cases import BATCH, LENGTH, make_case
    from distill_peers import CONTENDERS, plain_torch

    torch.set_num_threads(1)
    case = make_case(kind)
    loss = CONTENDERS[contender]()
    optimizer = torch.optim.AdamW(case.student.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss(case).backward()
        optimizer.step()
        optimizer.zero_grad()

    error = _gradient_error(case, loss, plain_torch())
    for _ in range(WARM_UP):
        step()
    start = time.process_time()
    for _ in range(STEPS):
        step()
    seconds = (time.process_time() - start) / STEPS
    return {"tokens_per_cpu_second": BATCH * LENGTH / seconds, "gradient_error": error}


def memory(contender: str, kind: str) -> dict[str, Any]:
    """Measures, in this process, the peak of a forward and backward pass, in MB above the level between
    steps.
    """
    import torch
    from distill_cases import make_case
    from distill_peers import CONTENDERS

    torch.set_num_threads(1)
    case = make_case(kind)
    loss = CONTENDERS[contender]()
    loss(case).backward()  # imports and other work of the first call
    case.student.zero_grad()
    Path("/proc/self/clear_refs").write_text("5")  # resets the recorded peak to the present size
    between_steps = _peak()
    loss(case).backward()
    return {"megabytes": _peak() - between_steps}


def _peak() -> float:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def _gradient_error(case: Any, loss: Any, plain: Any) -> float:
    """The relative distance of the student's gradient from that of plain torch."""
    import torch

    gradients = []
    for compute_loss in (plain, loss):
        case.student.zero_grad()
        compute_loss(case).backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in case.student.parameters() if p.grad is not None])
        )
    case.student.zero_grad()
    return float((gradients[1] - gradients[0]).norm() / gradients[0].norm())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--contenders", nargs="+")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "CONTENDER", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, contender, kind = options.one
        print(json.dumps((memory if what == "memory" else measure)(contender, kind)))
        return
    results = {
        "versions": _versions(),
        "machine": machine(),
        "rows": compare(options.kinds, options.contenders, options.rounds),
    }
    if options.save:
        options.save.write_text(json.dumps(results, indent=1) + "\n")
    if options.plot:
        plot(results, options.plot)
    print(table(results))


def compare(kinds: Any, contenders: Any, rounds: int) -> list[dict[str, Any]]:
    """The best round of each contender for each kind of task, one row each."""
    from distill_peers import CAUSAL_ONLY, CONTENDERS, LANGUAGE_ONLY, PACKAGES

    rows = []
    for kind in kinds:
        names = [
            name
            for name in contenders or CONTENDERS
            if importlib.util.find_spec(_module(PACKAGES[name]))
            and not (kind != "causal-lm" and name in CAUSAL_ONLY)
            and not (kind == "classification" and name in LANGUAGE_ONLY)
        ]
        timings: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                timings[name].append(_in_new_process("speed", name, kind))
        for name in names:
            best = max(timings[name], key=lambda timing: timing["tokens_per_cpu_second"])
            rows.append({"kind": kind, "contender": name, **best, **_in_new_process("memory", name, kind)})
            print(rows[-1], file=sys.stderr)
    return rows


def _module(package: str) -> str:
    return {"liger-kernel": "liger_kernel", "nvidia-modelopt": "modelopt"}.get(package, package)


def _in_new_process(what: str, contender: str, kind: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", what, contender, kind]
    # For the memory measurement, malloc returns freed blocks at once and does not keep them for later
    # allocations.
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "65536"} if what == "memory" else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{contender}, {kind}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _versions() -> dict[str, str]:
    from distill_peers import PACKAGES

    return {
        package: version(package)
        for package in sorted(set(PACKAGES.values()))
        if importlib.util.find_spec(_module(package))
    }


if __name__ == "__main__":
    main()
