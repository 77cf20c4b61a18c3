"""Shards a model's weights over the processes (FSDP2): every block is gathered when it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def spread_(model: nn.Module, units: Iterable[nn.Module], device: torch.device) -> None:
    """Leaves each process a part of every weight of `model`, in place.

    Args:
        model: what is called, and gathers what no unit holds.
        units: modules inside that are gathered by themselves, while they run.
        device: where the weights are to be; a unit at a time is moved there whole.
    """
    mesh = init_device_mesh(device.type, (PartialState().num_processes,))
    for unit in (*units, model):
        fully_shard(unit, mesh=mesh)


class Spread(nn.Module):
    """A sharded model. Any view of it can run inside `forward`, where the weights are gathered.

    A view is a copy of the modules on its way (see `views`), so that the model's own `forward` need not run.
    """

    def __init__(self, model: nn.Module, blocks: Iterable[nn.Module], device: torch.device) -> None:
        super().__init__()
        self.model = model
        spread_(self, blocks, device)

    def forward(self, view: Callable[..., Any], *args: Any) -> Any:
        return view(*args)
