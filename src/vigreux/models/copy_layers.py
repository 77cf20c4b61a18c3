"""Initialises a student with whole blocks of its teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vigreux.errors import ConfigError
from vigreux.models.initialise import check_same_family, copy_rows
from vigreux.models.layer_settings import check_same_kinds
from vigreux.models.layout import Layout, block_list, find_layout, hidden_size, num_blocks
from vigreux.models.placed import in_memory, state_in_memory
from vigreux.models.text_config import text_config


@torch.no_grad()
def copy_layers_(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    layers: Sequence[int],
    *,
    student_layout: Layout | None = None,
    teacher_layout: Layout | None = None,
) -> list[str]:
    """Copies blocks, embeddings, final norm and head from a teacher of the same width.

    Args:
        student: changed in place.
        teacher: a model of the same family and sizes; only the number of blocks may differ.
        layers: the teacher block (0-based) for each student block, for instance from `spread_layers`.
        student_layout: default: `find_layout`.
        teacher_layout: default: `find_layout`.

    Returns:
        Notes for the user about tables of different lengths.

    Raises:
        ConfigError: the family or the width differs, a block is outside the teacher, or the number of blocks
            is not the student's.
    """
    check_same_family(student, teacher)
    layout_s = student_layout or find_layout(student)
    layout_t = teacher_layout or find_layout(teacher)
    blocks_s, blocks_t = block_list(student, layout_s), block_list(teacher, layout_t)
    _check_copy(
        hidden_size(student, layout_s),
        hidden_size(teacher, layout_t),
        layers,
        len(blocks_s),
        num_blocks(teacher, layout_t),
    )
    # only T5's first block holds the relative positions; the student's first block gets them
    first = state_in_memory(blocks_t[0])
    pairs = []
    for target, layer in zip(blocks_s, layers):
        source = first | state_in_memory(blocks_t[layer])
        weights = target.state_dict(keep_vars=True)
        pairs += [(name, value, source[name]) for name, value in weights.items() if name in source]
    for name, value, original in pairs:
        _check_shape(name, value, original)
    check_same_kinds(blocks_s, blocks_t, layers, (text_config(student), text_config(teacher)))
    for _, value, original in pairs:
        value.copy_(original)
    notes: list[str] = []
    teacher_outside = _outside(teacher, layout_t)
    for name, parameter in _outside(student, layout_s).items():
        if name in teacher_outside:
            if parameter.shape[1:] != teacher_outside[name].shape[1:]:  # the number of rows may differ
                _check_shape(name, parameter, teacher_outside[name])
            notes += copy_rows(name, parameter, teacher_outside[name])
    return notes


def _check_copy(
    width: int, teacher_width: int, layers: Sequence[int], student_blocks: int, teacher_blocks: int
) -> None:
    if width != teacher_width:
        raise ConfigError(
            f"student.hidden: {width}; layers can only be copied from a teacher of the same width,"
            f" {teacher_width}"
        )
    if outside := [layer for layer in layers if not 0 <= layer < teacher_blocks]:
        raise ConfigError(
            f"student.from_layers: {outside[0]} is outside the teacher; accepted: 0 to {teacher_blocks - 1}"
        )
    if len(layers) != student_blocks:
        raise ConfigError(
            f"student.from_layers: {len(layers)} layers for {student_blocks} student blocks;"
            " give one for each block"
        )


def _check_shape(name: str, target: Tensor, source: Tensor) -> None:
    if target.shape != source.shape:
        shapes = f"{tuple(target.shape)} in the student, {tuple(source.shape)} in the teacher"
        raise ConfigError(
            f"student.init: {name} is {shapes}; teacher-layers needs the same heads and intermediate size"
        )


def _outside(model: nn.Module, layout: Layout) -> dict[str, Tensor]:
    """The parameters outside the blocks, by path in the base model, or in the whole model if outside it."""
    prefix = f"{layout.base}." if layout.base else ""
    outside: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if path == layout.blocks or path.startswith(f"{layout.blocks}."):
            continue
        for name, parameter in in_memory(module)._parameters.items():
            if parameter is not None:
                outside[(f"{path}.{name}" if path else name).removeprefix(prefix)] = parameter
    return outside
