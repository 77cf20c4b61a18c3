"""The hidden states of a full forward pass, read by hooks, and what a view's output depends on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from vigreux.models.calling import Batch, CalledModel, first_tensor
from vigreux.models.layout import Layout, block_list, find_layout, num_blocks

State = tuple[int, bool]  # depth, and whether the final norm is applied (at the last depth)


@contextmanager
def tapped(
    model: nn.Module, states: Iterable[State], layout: Layout | None = None
) -> Iterator[dict[State, Tensor]]:
    """Records hidden states of the last forward pass in the `with` block: state → (B, T, H).

    Hidden state `s` is the input of block `s + 1`. The last one is the output of the base model. Without a
    final norm, it is the output of the last block.
    """
    layout = layout or find_layout(model)
    blocks = block_list(model, layout)
    recorded: dict[State, Tensor] = {}
    handles: list[RemovableHandle] = []

    def tap(state: State) -> RemovableHandle:
        depth, final_norm = state
        if depth < len(blocks):

            def record_input(module: nn.Module, args: Any, kwargs: Any) -> None:
                recorded[state] = args[0] if args else kwargs["hidden_states"]

            return blocks[depth].register_forward_pre_hook(record_input, with_kwargs=True)

        def record_output(module: nn.Module, args: Any, output: Any) -> None:
            recorded[state] = first_tensor(output)

        source = model.get_submodule(layout.base) if layout.after and final_norm else blocks[-1]
        return source.register_forward_hook(record_output)

    try:
        handles += [tap(state) for state in dict.fromkeys(states)]
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def watched_states(
    model: nn.Module, layout: Layout, batch: Batch, states: Iterable[State]
) -> tuple[list[int], dict[State, Tensor]]:
    """Hidden states of a full forward pass of the model, without any view.

    State `s` is the input of block `s + 1`. The last one is the output of a language model's base model,
    otherwise of the last block.

    Returns:
        The order in which the blocks run, and the states. A state is absent if the model bypasses the hooks
        of a block.
    """
    last = num_blocks(model, layout)
    order: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda module, args, index=index: order.append(index))
        for index, block in enumerate(block_list(model, layout))
    ]
    states = list(states)
    inner_states = [state for state in states if state[0] < last]
    try:
        with tapped(model, [*inner_states, (last, False)], layout) as recorded, torch.no_grad():
            output = first_tensor(CalledModel(model.get_submodule(layout.base)).call(batch))
    finally:
        for handle in handles:
            handle.remove()
    has_final_output = isinstance(model, PreTrainedModel) and "input_ids" in batch
    result = {state: recorded[state] for state in states if state in recorded}
    for depth, final_norm in states:
        if depth == last:
            normed = final_norm and has_final_output
            result[depth, final_norm] = output if normed else recorded.get((last, False), output)
    return order, result


def unused_parameters(view: nn.Module, batch: Batch, *args: Any) -> list[str]:
    """Names of trainable parameters of `view` that its output does not depend on. `.grad` does not change."""
    trainable = [(name, parameter) for name, parameter in view.named_parameters() if parameter.requires_grad]
    output = view(batch, *args)
    if not output.requires_grad:
        return [name for name, _ in trainable]
    gradients = torch.autograd.grad(
        output.float().sum(), [parameter for _, parameter in trainable], allow_unused=True
    )
    return [name for (name, _), gradient in zip(trainable, gradients) if gradient is None]
