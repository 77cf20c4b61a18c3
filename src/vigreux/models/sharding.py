"""Shards a model's weights over the processes (FSDP2). Each block is gathered when it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def spread_(model: nn.Module, units: Iterable[nn.Module], device: torch.device) -> None:
    """Shards every weight of `model` over the processes, in place.

    Args:
        model: the module that is called. It gathers the weights that are in no unit.
        units: submodules that are gathered separately, while they run.
        device: the device of the shards. Whole units are moved to it, one at a time.
    """
    mesh = init_device_mesh(device.type, (PartialState().num_processes,))
    for unit in (*units, model):
        fully_shard(unit, mesh=mesh)


class Spread(nn.Module):
    """A sharded model. Any view of it can run inside `forward`, where the weights are gathered.

    A view copies the modules on its path (see `views`), so the `forward` of the model itself does not run.
    """

    def __init__(self, model: nn.Module, blocks: Iterable[nn.Module], device: torch.device) -> None:
        super().__init__()
        self.model = model
        spread_(self, blocks, device)

    def forward(self, view: Callable[..., Any], *args: Any) -> Any:
        return view(*args)
