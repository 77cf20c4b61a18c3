"""Freezes the first blocks of a model."""

from __future__ import annotations

from torch import nn

from vigreux.errors import ConfigError
from vigreux.models.layout import Layout, find_layout, num_blocks
from vigreux.models.views import cut


def freeze_first_blocks(model: nn.Module, blocks: int, layout: Layout | None = None) -> None:
    """Freezes the embeddings and the first `blocks` blocks, so they only run forward. 0 freezes nothing."""
    if not blocks:
        return
    layout = layout or find_layout(model)
    if blocks > num_blocks(model, layout):
        raise ConfigError(
            f"model.freeze_blocks: {blocks}; accepted: 0 to {num_blocks(model, layout)}, the model's blocks"
        )
    for parameter in cut(model, blocks, layout).parameters():
        parameter.requires_grad_(False)
