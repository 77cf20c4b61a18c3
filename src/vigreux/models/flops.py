"""FLOPs of a view, counted by torch's formulas on the meta device, without weights or computation.

A multiplication and an addition are 2 FLOPs. Only matrix products and convolutions count; see `FlopCounter`.
Models are built with eager attention, which uses plain matrix products on all devices. The counter knows only
some fused attention kernels, and device and mask decide which one runs; on a CPU, none of it would count.
Products that a causal mask hides count, because they are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from vigreux.models.flop_counter import FlopCounter
from vigreux.models.layout import named_layout
from vigreux.models.student import build
from vigreux.models.text_config import text_config
from vigreux.models.views import LogitsView, cut


def count_flops(run: Callable[[], Any]) -> int:
    """The FLOPs that `run` makes torch do, forward and backward, on any device."""
    with FlopCounter() as counter:
        run()
    return counter.flops


def view_flops(
    config: PreTrainedConfig,
    auto_class: str,
    depth: int | None = None,
    *,
    batch: int = 1,
    seq: int = 128,
    positions_share: float | None = None,
    backward: bool = False,
    frozen: int | None = None,
    final_norm: bool = True,
    blocks: str | None = None,
    after: Sequence[str] | None = None,
) -> int:
    """FLOPs of one batch through the first `depth` blocks of a model, or through all of it with its head.

    Args:
        config: config of a student or a teacher.
        auto_class: the model class by name; see `build`.
        depth: number of blocks; None is the whole model with its head.
        batch: number of samples.
        seq: tokens per sample. Vision models use their image size instead.
        positions_share: share of the positions that reach the head of a language model (`depth=None`). With
            None, all positions do.
        backward: also count the backward pass, as for a student in training.
        frozen: depth of a hidden state. Parameters that it depends on are not trained (see `Stage.frozen`).
        final_norm: whether the last hidden state includes the final norm.
        blocks, after: paths of the blocks in an unrecognised architecture; see `find_layout`.
    """
    with torch.device("meta"):
        model = build(config, auto_class, attn_implementation="eager")
        inputs = _inputs(config, batch, seq)
    index: tuple[Tensor, ...] = ()
    if depth is None and positions_share is not None:
        index = (torch.zeros(round(positions_share * batch * seq), dtype=torch.long, device="meta"),)
    layout = named_layout(model, blocks, after)
    if frozen is not None:
        cut(model, frozen, layout).requires_grad_(False)
    view = LogitsView(model, layout) if depth is None else cut(model, depth, layout, final_norm=final_norm)
    try:
        return count_flops(lambda: _run(view(inputs, *index), backward))
    except RuntimeError:
        # many encoders read the mask for padding, and meta tensors have no values, so they get no mask
        without_mask = {name: value for name, value in inputs.items() if name != "attention_mask"}
        return count_flops(lambda: _run(view(without_mask, *index), backward))


def _inputs(config: PreTrainedConfig, batch: int, seq: int) -> dict[str, Tensor]:
    if hasattr(config, "image_size") and not hasattr(text_config(config), "vocab_size"):
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {"pixel_values": torch.zeros(batch, config.num_channels, height, width)}
    ids = torch.zeros(batch, seq, dtype=torch.long)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _run(output: Tensor, backward: bool) -> None:
    if backward and output.requires_grad:
        output.sum().backward()
