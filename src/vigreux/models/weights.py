"""A hash that identifies weights. This module does not import transformers."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_in_memory(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers. Offloaded tensors count by name and shape only."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not isinstance(value, torch.Tensor):
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        if value.device.type != "meta":
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
