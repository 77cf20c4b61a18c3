"""A slow check that views by a layout are what they claim, with hooks on a full forward pass of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vigreux.errors import ConfigError
from vigreux.models.calling import Batch, CalledModel, first_tensor
from vigreux.models.hidden_states import unused_parameters
from vigreux.models.layout import Layout, block_list, num_blocks
from vigreux.models.views import cut


def verify_layout(model: nn.Module, layout: Layout, batch: Batch) -> None:
    """Raises `ConfigError` unless views by `layout` are what they claim on `batch`.

    The blocks must run once each and in order, the deepest views must equal what forward hooks see of the
    blocks (same random state, so also under dropout), and no view may hold a parameter that it does not use.
    """
    last = num_blocks(model, layout)
    order, outputs = _watch(model, layout, batch)
    where = f"teacher.blocks: {layout.blocks!r}"
    if order != list(range(last)):
        raise ConfigError(f"{where}: these blocks run in the order {order}, not one after another")
    for depth in [last - 1, last] if last > 1 else [last]:
        with _same_random_state(), torch.no_grad():
            differs = not torch.equal(cut(model, depth, layout)(batch), outputs[depth - 1])
        if differs and not (depth == last and layout.after):
            raise ConfigError(
                f"{where}: hidden state {depth} is not the output of block {depth}; name what runs between as"
                " a block"
            )
    for depth in (0, last - 1, last):
        if idle := unused_parameters(cut(model, depth, layout), batch):
            names = ", ".join(name.removeprefix("module.") for name in idle[:4])
            raise ConfigError(
                f"{where}: hidden state {depth} does not depend on {names}; name their modules in"
                " teacher.after_blocks"
            )


def _watch(model: nn.Module, layout: Layout, batch: Batch) -> tuple[list[int], list[Tensor]]:
    """The order in which the blocks run in a full forward pass, and their outputs."""
    order: list[int] = []
    outputs: list[Tensor] = []

    def see(index: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            order.append(index)
            outputs.append(first_tensor(output))

        return hook

    handles = [
        block.register_forward_hook(see(index)) for index, block in enumerate(block_list(model, layout))
    ]
    try:
        with _same_random_state(), torch.no_grad():
            CalledModel(model.get_submodule(layout.base)).call(batch)
    finally:
        for handle in handles:
            handle.remove()
    return order, outputs


@contextmanager
def _same_random_state() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
