"""The linear output head of a language model, with which losses do not need all logits at once.

Only an architecture's code says what happens to the product (a scale, a soft cap). We read the scale and the
cap from the config, then check the head against the model's own logits.
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

# Vocabulary entries per matrix product on a CPU. BLAS repacks W for each product, and a long W does not fit
# into the cache: one product for the whole vocabulary is much slower than products of this size.
_TILE = 512
_ATTENTION = "attention"
_LARGEST = 50.0  # the largest logit in the check of a head: large enough for a cap to show
# Samples and tokens in the check. It holds several copies of all their logits.
_CHECKED = (slice(2), slice(64))
# Tolerance, relative to the largest logit: far above half-precision rounding, far below a wrong factor.
_CLOSE = 1e-2


@dataclass(frozen=True)
class Head:
    """The output layer: `z = scale · (h Wᵀ + b)`, with a cap `cap · tanh(z / cap)`.

    Args:
        weight: W (V, d).
        bias: b (V,).
        scale: factor on the logits (Cohere, Granite).
        cap: soft cap of the logits (Gemma).
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """The logits: (N, d) → (N, V), without gradients. Uses `out` (N, V) as the buffer where possible."""
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
    """The head of a model, by its layer, so that its current weights are used.

    Args:
        module: the layer.
        scale, cap: see `Head`.
        after: path of a module inside the last block after which the model works position by position (see
            `LogitsView.head_input`).
    """

    module: nn.Linear
    scale: float = 1.0
    cap: float | None = None
    after: str | None = None

    def now(self) -> Head:
        """The head with the current weights."""
        return Head(self.module.weight, self.module.bias, self.scale, self.cap)


def find_head(model: nn.Module, view: LogitsView, batch: Batch) -> LinearHead | None:
    """The head of a language model, checked on a part of `batch`; `None` if it is not a plain linear layer.

    Subclasses of `nn.Linear` (quantised, with adapters) do not count as plain.
    """
    module = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    if type(module) is not nn.Linear or module.weight.is_meta:  # offloaded: it has weights only while it runs
        return None
    training = model.training
    model.eval()
    # entries with one number per sample (keys of a cache) have no token dimension
    batch = {name: value[_CHECKED[: value.dim()]] for name, value in batch.items()}
    try:
        with torch.no_grad():
            hidden = view.head_input(batch, module)  # (N, d)
            factor = _LARGEST / nn.functional.linear(hidden, module.weight, module.bias).abs().max().clamp(
                min=1e-6
            )
            expected = _logits_of(view, batch, module, factor)
            for scale, cap in _candidates(model.config):
                logits = LinearHead(module, scale, cap).now().logits(hidden * factor)
                if _close(logits, expected):
                    return LinearHead(module, scale, cap, _last_mixing(model, view, batch, module))
    finally:
        model.train(training)
    return None


def _last_mixing(model: nn.Module, view: LogitsView, batch: Batch, head: nn.Linear) -> str | None:
    """The path of the last block's attention, if it returns the sum with the residual (BERT); else `None`.

    In other families the residual of all positions is added after it, so the check fails.
    """
    try:
        layout = find_layout(model)
        path = f"{layout.blocks}.{num_blocks(model, layout) - 1}.{_ATTENTION}"
        model.get_submodule(path)
        positions = batch["input_ids"] >= 0
        positions[:, ::2] = False
        expected = view.head_input(batch, head, positions)
        selected = view.head_input(batch, head, positions, after=path)
    except (ConfigError, AttributeError, RuntimeError, ValueError, IndexError):
        return None
    return path if selected.shape == expected.shape and _close(selected, expected) else None


def _close(values: Tensor, expected: Tensor) -> bool:
    return bool((values - expected).abs().max() <= _CLOSE * expected.abs().max())


def _logits_of(view: LogitsView, batch: Batch, head: nn.Linear, factor: Tensor) -> Tensor:
    """The model's own logits (N, V) for `factor` times its hidden states."""
    handle = head.register_forward_pre_hook(lambda module, args: (args[0] * factor,))
    try:
        return view(batch).flatten(0, 1)
    finally:
        handle.remove()


def _candidates(config: Any) -> Iterator[tuple[float, float | None]]:
    """Possible pairs (scale, cap), those that the config names first."""
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    cap = getattr(text_config, "final_logit_softcapping", None)
    if cap:
        yield 1.0, float(cap)
    for name in ("logit_scale", "logits_scaling"):
        value = getattr(text_config, name, None)
        if isinstance(value, (int, float)) and value:
            yield float(value), None
            yield 1 / value, None
    yield 1.0, None
