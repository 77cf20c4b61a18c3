"""Peak memory of the loss on logits beyond hidden states, heads and their gradients, at a vocabulary of 131,072: fused and plain.

    python benchmarks/loss_memory.py
    python benchmarks/loss_memory.py --save results/loss-memory.json

Each in a process of its own; forward and backward of soft cross-entropy from hidden states of 256 (student) and 384 (teacher).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from vigreux.curriculum.stages import Logits
from vigreux.distillation.fused import fused_loss
from vigreux.distillation.losses import logits_loss
from vigreux.models.heads import Head

VOCABULARY, ROWS, STUDENT, TEACHER = 131_072, (512, 2048), 256, 384


def measure(which: str, rows: int) -> dict[str, Any]:
    """In this process: megabytes beyond what must be there, and seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    own, theirs = torch.randn(rows, STUDENT, requires_grad=True), torch.randn(rows, TEACHER)
    weight, teacher = torch.randn(VOCABULARY, STUDENT) / 16, torch.randn(VOCABULARY, TEACHER) / 20
    weight.requires_grad_(True)
    weight.grad, own.grad = torch.ones_like(weight), torch.ones_like(own)  # what must be there, touched
    extra = torch.ones_like(weight)  # a second gradient of the head, which autograd adds to the first
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del extra
    start = time.process_time()
    if which == "fused":
        head = Head(teacher)
        loss = fused_loss(own, Head(weight), Logits(), teacher=lambda part: head.logits(theirs[part]))
    else:
        with torch.no_grad():
            signal = theirs @ teacher.T
        loss = (
            logits_loss(own @ weight.T, Logits(), signal).sum()
            if which == "plain"
            else _textbook(own @ weight.T, signal)
        )
    loss.backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"megabytes": (peak - before) / 1024, "seconds": time.process_time() - start}


def _textbook(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return F.kl_div(F.log_softmax(student, -1), F.softmax(teacher, -1), reduction="sum")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    results = []
    for rows in ROWS:
        full = rows * VOCABULARY * 4 / 2**20
        for which in ("fused", "plain", "textbook"):
            command = [sys.executable, __file__, "--one", which, str(rows)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            results.append({"rows": rows, "loss": which, "full_logits_megabytes": full, **found})
            share = f"{100 * found['megabytes'] / full:>4.0f} % of {full:.0f} MB"
            print(
                f"{rows:>5} rows  {which:<9} {found['megabytes']:>7.0f} MB, {share}  {found['seconds']:.2f} s"
            )
    if options.save:
        options.save.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
