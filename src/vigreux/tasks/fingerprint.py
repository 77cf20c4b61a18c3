"""A hash of all token ids and labels, with which a resumed run recognises its data."""

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

# The number of drawn samples to hash, because a file of rules can change under its name.
HASHED_EXAMPLES = 256


def data_fingerprint(task: Task, source: str | None = None) -> str:
    """SHA-256 of the tokenised training and held-out rows.

    Args:
        task: all its stored rows are hashed; for drawn samples, `source` and the first ones.
        source: the name of the synthetic task that samples are drawn from.
    """
    digest = hashlib.sha256()
    for examples in (task.train, task.held_out):
        if isinstance(examples, TokenTable):
            for name, array in examples.arrays():
                if name not in ("tokens", "ends", "labels"):
                    digest.update(name.encode())
                _add(digest, array)
            continue
        if not isinstance(examples, Endless) and dataclasses.is_dataclass(examples):
            for stored in dataclasses.fields(examples):
                _add(digest, getattr(examples, stored.name))
            continue
        digest.update(str(source).encode())
        count = HASHED_EXAMPLES if isinstance(examples, Endless) else min(HASHED_EXAMPLES, len(examples))
        for i in range(count):
            example = examples.example_at(0, i) if isinstance(examples, Endless) else examples[i]
            digest.update(f"{np.asarray(example.inputs).tolist()} {example.label}\n".encode())
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Adds the bytes of a column; `None` adds nothing."""
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
