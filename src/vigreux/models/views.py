"""Views of a network: its first blocks, its logits where a loss counts, its pooled embedding. All share its parameters.

A view is a shallow copy of the modules on the way from the model to its list of blocks. The blocks themselves, the
embeddings and everything else are the same objects, so training a view trains the model, and the model is left as it was.
Train and eval mode of the copied modules are the view's own, those of everything else are shared.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from vigreux.curriculum import Pooling
from vigreux.errors import ConfigError
from vigreux.models.layout import Layout, block_list, find_layout, num_blocks, parents
from vigreux.models.placed import without_hook_

Batch = dict[str, Tensor]


class _Left(Exception):  # noqa: N818 - not an error, but the way out of a forward pass
    """Carries a hidden state out of the forward pass: from where the first dropped block would have been, or from before a head."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


class _Exit(nn.Module):
    """Stands where the first dropped block stood: leaves with what that block would have been given.

    Hidden state `s` is by definition the input of block `s + 1`, so nothing about what an architecture does after its blocks
    (T5 applies dropout after its last norm, ViT pools) can change it. Carries the dropped block's plain attributes, which some
    models read to choose its arguments (ModernBERT's `attention_type`).
    """

    def __init__(self, dropped: nn.Module) -> None:
        super().__init__()
        self.__dict__.update(
            {
                name: value
                for name, value in vars(dropped).items()
                if name not in self.__dict__ and name[0] != "_" and name != "forward"  # accelerate's
            }
        )

        self._dropped_class = type(dropped)

    def __getattr__(self, name: str) -> Any:
        """A method of the dropped block that sets something up (BigBird's kind of attention) does nothing here."""
        dropped = self.__dict__.get("_dropped_class")
        if name[0] != "_" and callable(getattr(dropped, name, None)):
            return lambda *args, **kwargs: None
        return super().__getattr__(name)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise _Left(args[0] if args else kwargs["hidden_states"])


class _Last(_Exit):
    """Stands where the last block stood, where nothing may follow it: runs the block, and leaves with its output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        self.block = block

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise _Left(_first(self.block(*args, **kwargs)))


class _Checkpointed:
    """Passes on the request to recompute the blocks' activations in the backward pass, by both of its names in `Trainer`."""

    module: Any

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """See `PreTrainedModel.activation_checkpointing_enable`."""
        self.module.activation_checkpointing_enable(*args, **kwargs)

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """See `PreTrainedModel.gradient_checkpointing_enable`."""
        self.module.gradient_checkpointing_enable(*args, **kwargs)


def inputs_of(module: nn.Module, batch: Batch) -> Batch:
    """What of a batch a model's `forward` names; never the labels."""
    return _inputs(inspect.signature(type(module).forward).parameters.keys(), batch)


def _inputs(names: Collection[str], batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name in names and name != "labels"}


class _Called(_Checkpointed, nn.Module):
    """A module called with our batches: with what its `forward` names, never with labels, never with a cache."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        parameters = inspect.signature(type(module).forward).parameters
        self._plain = not isinstance(module, PreTrainedModel)
        self._named = frozenset(parameters)
        self._constants = {"use_cache": False} if "use_cache" in parameters else {}

    def call(self, batch: Batch) -> Any:
        """The module's own output; a torch module is called as `module(batch["inputs"])`."""
        if self._plain:
            return self.module(batch["inputs"])
        return self.module(**_inputs(self._named, batch), **self._constants)


def input_names(model: nn.Module) -> frozenset[str]:
    """The inputs that the whole model and its part with the blocks take by name, so that every view is given them."""
    path = _base_path(model)
    base = model.get_submodule(path) if path else getattr(model, "base_model", model)
    return _Called(model)._named & _Called(base)._named - {"self", "args", "kwargs", "labels"}


class HiddenView(_Called):
    """`view(batch)` is hidden state `depth`, (B, T, H) or (B, ..., H) for a torch module; made by `cut`."""

    def __init__(self, module: nn.Module, depth: int) -> None:
        super().__init__(module)
        self.depth = depth

    def forward(self, batch: Batch) -> Tensor:
        try:
            output = self.call(batch)
        except _Left as left:
            return left.hidden
        return output if isinstance(output, Tensor) else output[0]


class PooledView(_Checkpointed, nn.Module):
    """`view(batch)` is one vector a sample, (B, H): the last hidden states pooled; poolers and heads are not held.

    `mean` averages over the positions of `attention_mask`, `cls` takes position 0, `last` the last position that is not padding.
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


class LogitsView(_Called):
    """The whole model's logits; for language models only at the positions where a loss counts.

    With `positions` the last hidden states (B, T, H) are replaced by the selected (1, N, H) *before* the output head, by a hook on
    the base model that lives for the one call, so any head that works position by position does N rows of work instead of B·T.

    Args:
        model: the model with its head; a torch module's output is taken as its logits.
        layout: where the base model is; default found. Without any (an architecture that is not recognised, a torch module) the
            positions are selected after the head: the same logits, dearer.
    """

    def __init__(self, model: nn.Module, layout: Layout | None = None) -> None:
        super().__init__(model)
        self._base_path = layout.base if layout else _base_path(model)

    def forward(self, batch: Batch, positions: Tensor | None = None) -> Tensor:
        """Logits (B, ..., V), or (N, V) at `positions`: a BoolTensor (B, T), or N flat indices into B·T."""
        if positions is None:
            return _first(self.call(batch))
        index = (
            positions.flatten().nonzero().squeeze(1) if positions.dtype == torch.bool else positions
        )  # (N,)
        if not self._base_path:  # no head of its own
            return _rows(_first(self.call(batch)), index)
        handle = _selecting_hook(self.module.get_submodule(self._base_path), index)
        try:
            logits = _first(self.call(batch)).flatten(0, 1)  # (1, N, V) -> (N, V)
        finally:
            handle.remove()
        assert len(logits) == len(index), "the head did not read what the base model returned"
        return logits

    def head_input(
        self, batch: Batch, head: nn.Module, positions: Tensor | None = None, *, after: str | None = None
    ) -> Tensor:
        """(N, d) what `head`, the last layer, is given at the positions that count (`None`: at all of B · T); it does not run.

        `after` is a module inside the last block from which on everything goes position by position: the others are dropped there.
        """
        index = None
        if positions is not None:
            index = positions.flatten().nonzero().squeeze(1) if positions.dtype == torch.bool else positions
        selected = index is not None and bool(self._base_path)
        handles = [head.register_forward_pre_hook(_leave)]
        if selected:
            assert index is not None
            place = self._base_path if after is None or _recomputes(self.module) else after
            handles.append(_selecting_hook(self.module.get_submodule(place), index))
        try:
            self.call(batch)
        except _Left as left:
            rows = left.hidden.flatten(0, 1)
        else:
            raise AssertionError("the head did not run")
        finally:
            for handle in handles:
                handle.remove()
        return rows if selected or index is None else rows.index_select(0, index)


class JointView(LogitsView):
    """`view(batch, positions)` is what `LogitsView` gives and hidden state `depth` (B, T, H), of one forward pass."""

    def __init__(
        self, model: nn.Module, depth: int, layout: Layout | None = None, *, final_norm: bool = True
    ) -> None:
        layout = layout or find_layout(model)
        super().__init__(model, layout)
        self._layout, self._state = layout, (depth, final_norm)

    def forward(self, batch: Batch, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The logits (see `LogitsView.forward`), and the hidden states of all positions."""
        with tapped(self.module, [self._state], self._layout) as kept:
            logits = super().forward(batch, positions)
        return logits, kept[self._state]


@contextmanager
def tapped(
    model: nn.Module, states: Iterable[tuple[int, bool]], layout: Layout | None = None
) -> Iterator[dict[tuple[int, bool], Tensor]]:
    """Keeps hidden states of the forward passes inside: (depth, whether with the final norm) → (B, T, H), of the last one.

    Hidden state `s` is what block `s + 1` is given; the last is what the base model gives, or its last block where no norm is
    wanted or there is none.
    """
    layout = layout or find_layout(model)
    blocks, kept, handles = block_list(model, layout), {}, []

    def tap(state: tuple[int, bool]) -> RemovableHandle:
        depth, final_norm = state
        if depth < len(blocks):

            def before(module: nn.Module, args: Any, named: Any) -> None:
                kept[state] = args[0] if args else named["hidden_states"]

            return blocks[depth].register_forward_pre_hook(before, with_kwargs=True)

        def after(module: nn.Module, args: Any, output: Any) -> None:
            kept[state] = _first(output)

        source = model.get_submodule(layout.base) if layout.after and final_norm else blocks[-1]
        return source.register_forward_hook(after)

    try:
        handles += [tap(state) for state in dict.fromkeys(states)]
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _base_path(model: nn.Module) -> str:
    try:
        return find_layout(model).base
    except ConfigError:
        return ""


def _selecting_hook(base: nn.Module, index: Tensor) -> RemovableHandle:
    def select(module: nn.Module, args: Any, output: Any) -> Any:
        rows = _rows(_first(output), index).unsqueeze(0)  # (1, N, H)
        if isinstance(output, Tensor):
            return rows
        if isinstance(output, tuple):
            return (rows, *output[1:])
        output["last_hidden_state"] = rows
        return output

    return base.register_forward_hook(select)


def _recomputes(model: nn.Module) -> bool:
    """Whether blocks run again in the backward pass, when a hook that lived for the forward pass is gone."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def _leave(module: nn.Module, args: Any) -> None:
    raise _Left(args[0])


def _first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _rows(states: Tensor, index: Tensor) -> Tensor:
    return states.flatten(0, 1).index_select(0, index)


# --- cutting --------------------------------------------------------------------------------------------------------


def cut(model: nn.Module, depth: int, layout: Layout | None = None, *, final_norm: bool = True) -> HiddenView:
    """The view after `depth` blocks: its output is hidden state `depth` of the full model, bit for bit.

    After all blocks, and without `final_norm`, it is what the final norm (or whatever comes after the blocks) is given.

    The view shares the parameters, and neither runs nor holds later blocks, heads, poolers, or norms that the hidden state does not
    pass: every parameter it holds gets a gradient, as distributed data parallel demands.

    Raises:
        ConfigError: `depth` is outside 0..L; the layout is not found (`find_layout`); there is no final norm to leave out.
    """
    layout = layout or find_layout(model)
    blocks = block_list(model, layout)
    if not 0 <= depth <= len(blocks):
        raise ConfigError(f"depth: {depth} is outside the model; accepted: 0 (embeddings) to {len(blocks)}")
    without_norm = not final_norm and depth == len(blocks)
    if without_norm and not layout.after:
        raise ConfigError(
            f"hidden.final_norm: {type(model).__name__} has no norm after its last block; accepted: true"
        )
    whole = depth == len(blocks) and bool(
        layout.after
    )  # then the norm must run, and so the base model's own ending
    kept = copy.copy(blocks)
    kept._modules = dict(list(blocks._modules.items())[:depth])
    inside_another = not isinstance(model, PreTrainedModel) and any(
        isinstance(model.get_submodule(path), PreTrainedModel) for path in parents(layout.blocks)
    )
    if inside_another and depth == len(blocks) and depth and not whole:
        # it may count its blocks, and so never reach one behind them
        kept._modules[str(depth - 1)] = _Last(blocks[-1])
    elif not whole:
        kept._modules[str(depth)] = _Exit(blocks[min(depth, len(blocks) - 1)])
    edits: dict[str, nn.Module | None] = dict.fromkeys(layout.unused)
    if without_norm:
        edits |= {path: _Exit(model.get_submodule(path)) for path in layout.after}
    elif not whole:  # a norm without parameters may run before the blocks as well (nanochat)
        edits |= {path: None for path in layout.after if list(model.get_submodule(path).parameters())}
    edits |= (
        {path: _without_parameters(model.get_submodule(path)) for path in layout.between}
        if depth == 0
        else {}
    )
    edits[layout.blocks] = kept
    prefix = f"{layout.base}." if layout.base else ""
    inside = {path.removeprefix(prefix): module for path, module in edits.items()}
    return HiddenView(_edited(model.get_submodule(layout.base), inside), depth)


def _edited(module: nn.Module, edits: dict[str, nn.Module | None]) -> nn.Module:
    """A shallow copy of `module` in which the named submodules are replaced, and all else is the same objects."""
    if "" in edits:
        replacement = edits[""]
        assert replacement is not None
        return replacement
    edited = copy.copy(module)
    without_hook_(edited)
    edited._modules = dict(module._modules)
    for child in {path.partition(".")[0] for path in edits}:
        inner = {
            path.partition(".")[2]: new for path, new in edits.items() if path.partition(".")[0] == child
        }
        edited._modules[child] = None if inner == {"": None} else _edited(module.get_submodule(child), inner)
    return edited


def _without_parameters(module: nn.Module) -> nn.Module:
    """The same module with its parameters as constants: what it computes is thrown away at depth 0, but still asked for."""
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


# --- checking -------------------------------------------------------------------------------------------------------


def unused_parameters(view: nn.Module, batch: Batch, *args: Any) -> list[str]:
    """The trainable parameters of `view` that its output on `batch` does not depend on, by name. Leaves `.grad` alone."""
    named = [(name, parameter) for name, parameter in view.named_parameters() if parameter.requires_grad]
    output = view(batch, *args)
    if not output.requires_grad:
        return [name for name, _ in named]
    gradients = torch.autograd.grad(
        output.float().sum(), [parameter for _, parameter in named], allow_unused=True
    )
    return [name for (name, _), gradient in zip(named, gradients) if gradient is None]


def verify_layout(model: nn.Module, layout: Layout, batch: Batch) -> None:
    """Raises `ConfigError` unless views by `layout` are what they claim on `batch`: for layouts that were named by hand.

    The blocks must run once each and in order, the deepest views must equal what forward hooks see of the blocks (same random
    state, so also under dropout), and no view may hold a parameter that it does not use.
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
                f"{where}: hidden state {depth} is not the output of block {depth}; name what runs between as a block"
            )
    for depth in (0, last - 1, last):
        if idle := unused_parameters(cut(model, depth, layout), batch):
            names = ", ".join(name.removeprefix("module.") for name in idle[:4])
            raise ConfigError(
                f"{where}: hidden state {depth} does not depend on {names}; name their modules in teacher.after_blocks"
            )


def _watch(model: nn.Module, layout: Layout, batch: Batch) -> tuple[list[int], list[Tensor]]:
    """The order in which the blocks run in a full forward pass, and their outputs."""
    order: list[int] = []
    outputs: list[Tensor] = []

    def see(index: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            order.append(index)
            outputs.append(_first(output))

        return hook

    handles = [
        block.register_forward_hook(see(index)) for index, block in enumerate(block_list(model, layout))
    ]
    try:
        with _same_random_state(), torch.no_grad():
            _Called(model.get_submodule(layout.base)).call(batch)
    finally:
        for handle in handles:
            handle.remove()
    return order, outputs


def watched_states(
    model: nn.Module, layout: Layout, batch: Batch, states: Iterable[tuple[int, bool]]
) -> tuple[list[int], dict[tuple[int, bool], Tensor]]:
    """Hidden states (depth, final norm) as a full forward pass of the model's own has them, without any view.

    State `s` is what block `s + 1` is given. The last is what a language model's base gives, else the last block's output.

    Returns:
        The order in which the blocks run, and the states.
    """
    last, order = num_blocks(model, layout), []
    handles = [
        block.register_forward_pre_hook(lambda module, args, index=index: order.append(index))
        for index, block in enumerate(block_list(model, layout))
    ]
    states = list(states)
    ends = [state for state in states if state[0] == last]
    try:
        with (
            tapped(model, [*(s for s in states if s[0] < last), (last, False)], layout) as seen,
            torch.no_grad(),
        ):
            output = _first(_Called(model.get_submodule(layout.base)).call(batch))
    finally:
        for handle in handles:
            handle.remove()
    by_base = isinstance(model, PreTrainedModel) and "input_ids" in batch
    found = {
        state: seen[state] for state in states if state in seen
    }  # not where a block is called past its hooks
    for state in ends:
        found[state] = output if state[1] and by_base else seen.get((last, False), output)
    return order, found


@contextmanager
def _same_random_state() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
