"""Views of a network that share its parameters: its first blocks, its logits, its pooled embedding.

A view is a shallow copy of the modules on the path from the model to its list of blocks. The blocks, the
embeddings and everything else are the same objects, so training a view trains the model. The structure of the
model does not change. The copied modules have their own train and eval modes; all other modules share theirs.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from vigreux.curriculum import Pooling
from vigreux.errors import ConfigError
from vigreux.models.calling import Batch, CalledModel, Recomputing, first_tensor
from vigreux.models.hidden_states import tapped
from vigreux.models.layout import Layout, block_list, find_layout, num_blocks, parents
from vigreux.models.placed import without_hook_


class _Exit(Exception):  # noqa: N818 - not an error: it ends a forward pass
    """Carries a hidden state out of the forward pass."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


class _ExitBefore(nn.Module):
    """Replaces the first dropped block, and ends the forward pass with that block's input.

    Hidden state `s` is by definition the input of block `s + 1`. Nothing that an architecture does after its
    blocks can change it (T5 applies dropout after its last norm, ViT pools). The module has the plain
    attributes of the dropped block, because some models read them to choose the block's arguments
    (ModernBERT's `attention_type`).
    """

    def __init__(self, dropped: nn.Module) -> None:
        super().__init__()
        for name, value in vars(dropped).items():
            is_hooked = name == "forward"  # set on an instance by accelerate's hook
            if name not in self.__dict__ and not name.startswith("_") and not is_hooked:
                self.__dict__[name] = value
        self._dropped_class = type(dropped)

    def __getattr__(self, name: str) -> Any:
        """Makes set-up methods of the dropped block do nothing (BigBird sets the kind of attention)."""
        dropped = self.__dict__.get("_dropped_class")
        if name[0] != "_" and callable(getattr(dropped, name, None)):
            return lambda *args, **kwargs: None
        return super().__getattr__(name)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise _Exit(args[0] if args else kwargs["hidden_states"])


class _ExitAfter(_ExitBefore):
    """Replaces the last block: runs it, and ends the forward pass with its output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        self.block = block

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise _Exit(first_tensor(self.block(*args, **kwargs)))


def input_names(model: nn.Module) -> frozenset[str]:
    """The inputs that both the whole model and its base model accept, and therefore every view."""
    path = _base_path(model)
    base = model.get_submodule(path) if path else getattr(model, "base_model", model)
    names = CalledModel(model).input_names & CalledModel(base).input_names
    return names - {"self", "args", "kwargs", "labels"}


class HiddenView(CalledModel):
    """`view(batch)` is hidden state `depth`: (B, T, H), or (B, ..., H) for a torch module. Made by `cut`."""

    def __init__(self, module: nn.Module, depth: int) -> None:
        super().__init__(module)
        self.depth = depth

    def forward(self, batch: Batch) -> Tensor:
        try:
            return first_tensor(self.call(batch))
        except _Exit as exit_:
            return exit_.hidden


class PooledView(Recomputing, nn.Module):
    """`view(batch)` is one vector per sample, (B, H): the pooled last hidden states, without pooler or head.

    Args:
        model: The model.
        pooling: `mean` averages over the positions of `attention_mask`, `cls` takes position 0, `last` takes
            the last position that is not padding.
        layout: The layout of the model. Default: `find_layout`.
    """

    def __init__(self, model: nn.Module, pooling: Pooling = "mean", layout: Layout | None = None) -> None:
        super().__init__()
        layout = layout or find_layout(model)
        self.module = cut(model, num_blocks(model, layout), layout)
        self.pooling = pooling

    def forward(self, batch: Batch) -> Tensor:
        hidden = self.module(batch)  # (B, T, H)
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = batch.get("attention_mask", torch.ones(hidden.shape[:2], device=hidden.device))  # (B, T)
        if self.pooling == "last":
            last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(dim=1)  # (B,)
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
        weights = mask.to(hidden.dtype).unsqueeze(-1)  # (B, T, 1)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


class LogitsView(CalledModel):
    """The whole model's logits. For language models, optionally only at the positions that a loss uses.

    With `positions`, a hook on the base model replaces the last hidden states (B, T, H) by the selected ones
    (1, N, H) *before* the output head. A head that works position by position then processes N rows instead
    of B·T. The hook exists only during the call.

    Args:
        model: The model with its head. The output of a torch module counts as its logits.
        layout: The layout of the model. Default: `find_layout`. If there is none (an unrecognised
            architecture, a torch module), the positions are selected after the head, which gives the same
            logits at a higher cost.
    """

    def __init__(self, model: nn.Module, layout: Layout | None = None) -> None:
        super().__init__(model)
        self._base_path = layout.base if layout else _base_path(model)

    def forward(self, batch: Batch, positions: Tensor | None = None) -> Tensor:
        """Logits (B, ..., V), or (N, V) at `positions`: a BoolTensor (B, T), or N flat indices into B·T."""
        if positions is None:
            return first_tensor(self.call(batch))
        index = _flat_index(positions)  # (N,)
        if not self._base_path:
            return _rows(first_tensor(self.call(batch)), index)
        handle = _selecting_hook(self.module.get_submodule(self._base_path), index)
        try:
            logits = first_tensor(self.call(batch)).flatten(0, 1)  # (1, N, V) -> (N, V)
        finally:
            handle.remove()
        assert len(logits) == len(index), "the head did not read what the base model returned"
        return logits

    def head_input(
        self, batch: Batch, head: nn.Module, positions: Tensor | None = None, *, after: str | None = None
    ) -> Tensor:
        """The input (N, d) of `head`, the last layer. The head itself does not run.

        Args:
            batch: The batch.
            head: The output head.
            positions: The selected positions; `None` selects all of B·T.
            after: A module inside the last block after which the model works position by position. The other
                positions are dropped there.
        """
        index = None if positions is None else _flat_index(positions)
        handles = [head.register_forward_pre_hook(_exit_with_input)]
        selects_early = index is not None and bool(self._base_path)
        if index is not None and self._base_path:
            path = self._base_path if after is None or _recomputes(self.module) else after
            handles.append(_selecting_hook(self.module.get_submodule(path), index))
        try:
            self.call(batch)
        except _Exit as exit_:
            rows = exit_.hidden.flatten(0, 1)
        else:
            raise AssertionError("the head did not run")
        finally:
            for handle in handles:
                handle.remove()
        return rows if selects_early or index is None else rows.index_select(0, index)


class JointView(LogitsView):
    """`view(batch, positions)`: the logits of `LogitsView`, and hidden state `depth` (B, T, H)."""

    def __init__(
        self, model: nn.Module, depth: int, layout: Layout | None = None, *, final_norm: bool = True
    ) -> None:
        layout = layout or find_layout(model)
        super().__init__(model, layout)
        self._layout = layout
        self._state = (depth, final_norm)

    def forward(  # type: ignore[override]
        self, batch: Batch, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The logits (see `LogitsView.forward`), and the hidden states of all positions."""
        with tapped(self.module, [self._state], self._layout) as recorded:
            logits = super().forward(batch, positions)
        return logits, recorded[self._state]


def _base_path(model: nn.Module) -> str:
    """The path of the base model; empty if the blocks are not found or the model has no head."""
    try:
        return find_layout(model).base
    except ConfigError:
        return ""


def _flat_index(positions: Tensor) -> Tensor:
    """Positions as N indices into B·T."""
    return positions.flatten().nonzero().squeeze(1) if positions.dtype == torch.bool else positions


def _rows(states: Tensor, index: Tensor) -> Tensor:
    return states.flatten(0, 1).index_select(0, index)


def _selecting_hook(base: nn.Module, index: Tensor) -> RemovableHandle:
    """Makes a module return only the hidden states at `index`, as (1, N, H)."""

    def select(module: nn.Module, args: Any, output: Any) -> Any:
        rows = _rows(first_tensor(output), index).unsqueeze(0)
        if isinstance(output, Tensor):
            return rows
        if isinstance(output, tuple):
            return (rows, *output[1:])
        output["last_hidden_state"] = rows
        return output

    return base.register_forward_hook(select)


def _exit_with_input(module: nn.Module, args: Any) -> None:
    raise _Exit(args[0])


def _recomputes(model: nn.Module) -> bool:
    """Whether blocks run again in the backward pass, after hooks of the forward pass have been removed."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


# --- cutting ------------------------------------------------------------------------------------------------


def cut(model: nn.Module, depth: int, layout: Layout | None = None, *, final_norm: bool = True) -> HiddenView:
    """The view of the first `depth` blocks. Its output is hidden state `depth` of the model, bit for bit.

    At the last depth, without `final_norm`, the output is the input of the final norm (or of the first module
    after the blocks).

    The view shares the model's parameters. It neither runs nor contains later blocks, heads, poolers or norms
    that the hidden state does not pass. Every parameter of the view therefore gets a gradient, as distributed
    data parallel requires.

    Raises:
        ConfigError: `depth` is outside 0..L, the blocks are not found (`find_layout`), or there is no final
            norm to omit.
    """
    layout = layout or find_layout(model)
    blocks = block_list(model, layout)
    if not 0 <= depth <= len(blocks):
        raise ConfigError(f"depth: {depth} is outside the model; accepted: 0 (embeddings) to {len(blocks)}")
    is_last = depth == len(blocks)
    without_norm = not final_norm and is_last
    if without_norm and not layout.after:
        raise ConfigError(
            f"hidden.final_norm: {type(model).__name__} has no norm after its last block; accepted: true"
        )
    runs_to_the_end = is_last and bool(
        layout.after
    )  # the norm must run, and with it the end of the base model
    first_blocks = copy.copy(blocks)
    first_blocks._modules = dict(list(blocks._modules.items())[:depth])
    is_inside_another = not isinstance(model, PreTrainedModel) and any(
        isinstance(model.get_submodule(path), PreTrainedModel) for path in parents(layout.blocks)
    )
    if is_inside_another and is_last and depth and not runs_to_the_end:
        # The model may count its blocks, and then never call a block after them.
        first_blocks._modules[str(depth - 1)] = _ExitAfter(blocks[-1])
    elif not runs_to_the_end:
        first_blocks._modules[str(depth)] = _ExitBefore(blocks[min(depth, len(blocks) - 1)])
    edits: dict[str, nn.Module | None] = dict.fromkeys(layout.unused)
    if without_norm:
        edits |= {path: _ExitBefore(model.get_submodule(path)) for path in layout.after}
    elif not runs_to_the_end:
        # A norm without parameters stays: it may run before the blocks as well (nanochat).
        edits |= {path: None for path in layout.after if list(model.get_submodule(path).parameters())}
    if depth == 0:
        edits |= {path: _without_parameters(model.get_submodule(path)) for path in layout.between}
    edits[layout.blocks] = first_blocks
    prefix = f"{layout.base}." if layout.base else ""
    edits_in_base = {path.removeprefix(prefix): module for path, module in edits.items()}
    return HiddenView(_edited(model.get_submodule(layout.base), edits_in_base), depth)


def _edited(module: nn.Module, edits: dict[str, nn.Module | None]) -> nn.Module:
    """A shallow copy of `module` with the named submodules replaced (`None`: removed), all others shared."""
    if "" in edits:
        replacement = edits[""]
        assert replacement is not None
        return replacement
    edited = copy.copy(module)
    without_hook_(edited)
    edited._modules = dict(module._modules)
    edits_by_child: dict[str, dict[str, nn.Module | None]] = {}
    for path, new in edits.items():
        child, _, rest = path.partition(".")
        edits_by_child.setdefault(child, {})[rest] = new
    for child, inner in edits_by_child.items():
        is_removed = inner == {"": None}
        edited._modules[child] = None if is_removed else _edited(module.get_submodule(child), inner)
    return edited


def _without_parameters(module: nn.Module) -> nn.Module:
    """A copy with constants as parameters. At depth 0 the model calls it, but does not use its output."""
    constant = copy.copy(module)
    constant._modules = {
        name: child and _without_parameters(child) for name, child in module._modules.items()
    }
    constant._buffers = dict(module._buffers) | {
        name: p.detach() for name, p in module._parameters.items() if p is not None
    }
    constant._parameters = {name: None for name, p in module._parameters.items() if p is None}
    constant._non_persistent_buffers_set = set(constant._buffers)
    return constant
