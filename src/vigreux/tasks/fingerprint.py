"""By what the rows of a task are known again: a hash of all token ids and labels."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vigreux.tasks.stream import Endless
from vigreux.tasks.table import TokenTable
from vigreux.tasks.task import Task

LOOKED_AT = 256  # examples of a law, by which it is known: a file of rules may have changed under its name


def data_fingerprint(task: Task, source: str | None = None) -> str:
    """SHA-256 of the training and held-out rows as they are tokenised.

    Args:
        task: stored rows are hashed whole; samples that are drawn from a law are known by `source` and the first ones.
        source: the name of the law.
    """
    digest = hashlib.sha256()
    for part in (task.train, task.held_out):
        if isinstance(part, TokenTable):
            for name, array in part.arrays():
                if name not in ("tokens", "ends", "labels"):
                    digest.update(name.encode())
                _add(digest, array)
            continue
        if not isinstance(part, Endless) and dataclasses.is_dataclass(part):
            for stored in dataclasses.fields(part):
                _add(digest, getattr(part, stored.name))
            continue
        digest.update(str(source).encode())
        count = LOOKED_AT if isinstance(part, Endless) else min(LOOKED_AT, len(part))
        for i in range(count):
            example = part.example_at(0, i) if isinstance(part, Endless) else part[i]
            digest.update(f"{np.asarray(example.inputs).tolist()} {example.label}\n".encode())
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Columns by their bytes; what is none adds nothing."""
    if isinstance(value, Tensor):
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray):
        digest.update(np.ascontiguousarray(value).data)
    elif isinstance(value, dict):
        for key in sorted(value):
            digest.update(str(key).encode())
            _add(digest, value[key])
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _add(digest, entry)
    elif isinstance(value, (str, int, float)):
        digest.update(f"{value!r}\n".encode())
