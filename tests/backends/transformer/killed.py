"""Runs a curriculum of `test_resume.py` in a process that kills itself.

The command is `python -m tests.backends.transformer.killed ROOT POINT`.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from tests.backends.transformer.test_resume import KILLS, case
from tests.backends.transformer.tiny import killed_at, run


def die() -> None:
    """As the kernel's out-of-memory killer would: no handler, no clean-up, nothing flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    root, point = Path(sys.argv[1]), sys.argv[2]
    owner, name, call, after = KILLS[point]
    with killed_at(owner, name, call, after=after, die=die):
        run(case("per-stage"), root, resume=(root / "run.json").exists())
