"""The output head of a language model, where it is linear: losses then do not need all logits at once.

What an architecture does with the product (a factor, a soft cap) stands in its code alone. So a head is found
by what the config says, and then tried: the model's own logits have to come out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vigreux.errors import ConfigError
from vigreux.models.calling import Batch
from vigreux.models.layout import find_layout, num_blocks
from vigreux.models.views import LogitsView

# Tokens in one matrix product on a CPU. BLAS repacks W for each, and falls out of the cache where W is long:
# one product for a whole vocabulary is much slower than products of so many tokens each.
_TILE = 512
_ATTENTION = "attention"
_LARGEST = 50.0  # logits at which a head is tried: where a cap shows
_TRIED = (
    slice(2),
    slice(64),
)  # samples and tokens of the trial, which holds all of their logits several times over
_CLOSE = 1e-2  # of the largest logit: far above the rounding of half precision, far below a wrong factor


@dataclass(frozen=True)
class Head:
    """The last step to the logits: `z = scale · (h Wᵀ + b)`, and with a cap `cap · tanh(z / cap)`.

    Args:
        weight: W (V, d).
        bias: b (V,).
        scale: a factor of the logits (Cohere, Granite).
        cap: soft cap of the logits (Gemma).
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """(N, d) → (N, V), without gradients; written to `out` (N, V) where it is given and can be."""
        product = self._product(hidden, out)
        if self.scale != 1:
            product *= self.scale
        return product if self.cap is None else product.div_(self.cap).tanh_().mul_(self.cap)

    def _product(self, hidden: Tensor, out: Tensor | None) -> Tensor:
        if hidden.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return nn.functional.linear(hidden, self.weight, self.bias)
        out = hidden.new_empty(len(hidden), len(self.weight)) if out is None else out
        for first in range(0, len(self.weight), _TILE):
            tile = slice(first, first + _TILE)
            if self.bias is None:
                torch.mm(hidden, self.weight[tile].T, out=out[:, tile])
            else:
                torch.addmm(self.bias[tile], hidden, self.weight[tile].T, out=out[:, tile])
        return out

    def slope(self, logits: Tensor) -> Tensor | float:
        """d logits / d (h Wᵀ + b), from the logits: `scale · (1 − (z / cap)²)`."""
        return (
            self.scale if self.cap is None else (logits / self.cap).square_().neg_().add_(1).mul_(self.scale)
        )


@dataclass(frozen=True)
class LinearHead:
    """Where a model's head is.

    Args:
        module: the layer itself, so that its weights are read when they are used.
        scale, cap: see `Head`.
        after: a module inside the last block from which on a model goes position by position (see
            `LogitsView.head_input`).
    """

    module: nn.Linear
    scale: float = 1.0
    cap: float | None = None
    after: str | None = None

    def now(self) -> Head:
        """The head with its weights as they are."""
        return Head(self.module.weight, self.module.bias, self.scale, self.cap)


def find_head(model: nn.Module, view: LogitsView, batch: Batch) -> LinearHead | None:
    """The head of a language model, tried on a corner of `batch`; `None` where it is no plain linear layer.

    Layers of a subclass (quantised, with adapters) are more than that.
    """
    module = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    if type(module) is not nn.Linear or module.weight.is_meta:  # offloaded: there while it runs alone
        return None
    training = model.training
    model.eval()
    batch = {
        name: value[_TRIED[: value.dim()]] for name, value in batch.items()
    }  # one number a sample: its key in a cache
    try:
        with torch.no_grad():
            hidden = view.head_input(batch, module)  # (N, d)
            factor = _LARGEST / nn.functional.linear(hidden, module.weight, module.bias).abs().max().clamp(
                min=1e-6
            )
            expected = _logits_of(view, batch, module, factor)
            for scale, cap in _candidates(model.config):
                found = LinearHead(module, scale, cap).now().logits(hidden * factor)
                if _close(found, expected):
                    return LinearHead(module, scale, cap, _last_mixing(model, view, batch, module))
    finally:
        model.train(training)
    return None


def _last_mixing(model: nn.Module, view: LogitsView, batch: Batch, head: nn.Linear) -> str | None:
    """The attention of the last block where nothing after it mixes positions (BERT: residual included).

    Elsewhere the residual of all positions is added behind it; then the trial fails, or gives something else.
    """
    try:
        layout = find_layout(model)
        path = f"{layout.blocks}.{num_blocks(model, layout) - 1}.{_ATTENTION}"
        model.get_submodule(path)
        positions = batch["input_ids"] >= 0
        positions[:, ::2] = False
        expected = view.head_input(batch, head, positions)
        found = view.head_input(batch, head, positions, after=path)
    except (ConfigError, AttributeError, RuntimeError, ValueError, IndexError):
        return None
    return path if found.shape == expected.shape and _close(found, expected) else None


def _close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= _CLOSE * expected.abs().max())


def _logits_of(view: LogitsView, batch: Batch, head: nn.Linear, factor: Tensor) -> Tensor:
    """(N, V) what the model makes of `factor` times its hidden states."""
    handle = head.register_forward_pre_hook(lambda module, args: (args[0] * factor,))
    try:
        return view(batch).flatten(0, 1)
    finally:
        handle.remove()


def _candidates(config: Any) -> Iterator[tuple[float, float | None]]:
    """(scale, cap) that the config may mean, what it names first."""
    own = config.get_text_config() if hasattr(config, "get_text_config") else config
    cap = getattr(own, "final_logit_softcapping", None)
    if cap:
        yield 1.0, float(cap)
    for name in ("logit_scale", "logits_scaling"):
        value = getattr(own, name, None)
        if isinstance(value, (int, float)) and value:
            yield float(value), None
            yield 1 / value, None
    yield 1.0, None
