"""Peak memory of the fused and the plain loss on logits, at a vocabulary of 131,072.

The peak is counted above the hidden states, the heads and their gradients.

    python benchmarks/loss_memory.py
    python benchmarks/loss_memory.py --save results/loss-memory.json

Each case runs in a separate process: forward and backward of soft cross-entropy, from hidden states of size
256 (student) and 384 (teacher).
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

from vigreux.curriculum import Logits
from vigreux.distillation.fused import fused_loss
from vigreux.distillation.losses import logits_loss
from vigreux.models.heads import Head

VOCABULARY, ROWS, STUDENT, TEACHER = 131_072, (512, 2048), 256, 384


def measure(which: str, rows: int) -> dict[str, Any]:
    """Measures, in this process, MB above the unavoidable tensors, and seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    student_states = torch.randn(rows, STUDENT, requires_grad=True)
    teacher_states = torch.randn(rows, TEACHER)
    weight = torch.randn(VOCABULARY, STUDENT) / 16
    teacher = torch.randn(VOCABULARY, TEACHER) / 20
    weight.requires_grad_(True)
    weight.grad = torch.ones_like(weight)  # `ones` touches the pages, so that they count before the loss
    student_states.grad = torch.ones_like(student_states)
    extra = torch.ones_like(weight)  # a second gradient of the head, which autograd adds to the first
    peak_before_loss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del extra
    start = time.process_time()
    if which == "fused":
        head = Head(teacher)
        loss = fused_loss(
            student_states, Head(weight), Logits(), teacher=lambda rows: head.logits(teacher_states[rows])
        )
    else:
        with torch.no_grad():
            signal = teacher_states @ teacher.T
        logits = student_states @ weight.T
        loss = logits_loss(logits, Logits(), signal).sum() if which == "plain" else _textbook(logits, signal)
    loss.backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"megabytes": (peak - peak_before_loss) / 1024, "seconds": time.process_time() - start}


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
            measured = json.loads(done.stdout.splitlines()[-1])
            results.append({"rows": rows, "loss": which, "full_logits_megabytes": full, **measured})
            share = f"{100 * measured['megabytes'] / full:>4.0f} % of {full:.0f} MB"
            megabytes = f"{measured['megabytes']:>7.0f} MB"
            print(f"{rows:>5} rows  {which:<9} {megabytes}, {share}  {measured['seconds']:.2f} s")
    if options.save:
        options.save.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
