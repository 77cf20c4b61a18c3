"""One-shot distillation beside the peers: tokens a CPU-second, and memory beyond the models, on one thread.

    pip install '.[peers]'                             # in an environment of their own
    python benchmarks/distill.py                       # table
    python benchmarks/distill.py --save results/distill.json --plot results/figures/distill.png

Every contender is a process of its own that takes the same models, batch and optimiser (fused AdamW); rounds are interleaved and
the best of each counts. Before it is timed, its gradient is held against plain torch's. A peer that is not installed is left out.
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
    """In this process: tokens a second of CPU time, forward, backward and optimiser."""
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
    """In this process: megabytes at the peak of a step (forward and backward) beyond what is there between steps."""
    import torch
    from distill_cases import make_case
    from distill_peers import CONTENDERS

    torch.set_num_threads(1)
    case = make_case(kind)
    loss = CONTENDERS[contender]()
    loss(case).backward()  # imports and first-time work
    case.student.zero_grad()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is there
    before = _peak()
    loss(case).backward()
    return {"megabytes": _peak() - before}


def _peak() -> float:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def _gradient_error(case: Any, loss: Any, plain: Any) -> float:
    """Relative distance of the student's gradient from plain torch's."""
    import torch

    gradients = []
    for each in (plain, loss):
        case.student.zero_grad()
        each(case).backward()
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
    found = {
        "versions": _versions(),
        "machine": machine(),
        "rows": compare(options.kinds, options.contenders, options.rounds),
    }
    if options.save:
        options.save.write_text(json.dumps(found, indent=1) + "\n")
    if options.plot:
        plot(found, options.plot)
    print(table(found))


def compare(kinds: Any, wanted: Any, rounds: int) -> list[dict[str, Any]]:
    """Best of the rounds, a row a kind and contender."""
    from distill_peers import CAUSAL_ONLY, CONTENDERS, LANGUAGE_ONLY, PACKAGES

    rows = []
    for kind in kinds:
        names = [
            name
            for name in wanted or CONTENDERS
            if importlib.util.find_spec(_module(PACKAGES[name]))
            and not (kind != "causal-lm" and name in CAUSAL_ONLY)
            and not (kind == "classification" and name in LANGUAGE_ONLY)
        ]
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                found[name].append(_elsewhere("speed", name, kind))
        for name in names:
            best = max(found[name], key=lambda each: each["tokens_per_cpu_second"])
            rows.append({"kind": kind, "contender": name, **best, **_elsewhere("memory", name, kind)})
            print(rows[-1], file=sys.stderr)
    return rows


def _module(package: str) -> str:
    return {"liger-kernel": "liger_kernel", "nvidia-modelopt": "modelopt"}.get(package, package)


def _elsewhere(what: str, contender: str, kind: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", what, contender, kind]
    # for memory: what is freed goes back at once, rather than being kept for the next allocation
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
