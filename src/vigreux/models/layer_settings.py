"""Settings that differ by block: which teacher block a student's block follows, and its config.

A family may give its blocks different kinds: sliding or full attention, attention or a state space, experts
or a dense feed-forward part. Its config says which in a list with one value for each block, a list of block
numbers, a count, or a rule with a period. `follow_layers_` gives a student's config the settings of the
teacher blocks that it follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from vigreux.errors import ConfigError

# Lists whose values are block numbers.
_BLOCK_NUMBERS = (
    "mlp_only_layers",
    "attn_layer_indices",
    "moe_layers",
    "full_attn_idxs",
    "hybrid_layer_ids",
    "cross_attention_layers",
    "local_layer_ids",
    "ple_layer_ids",
    "global_attn_indexes",
    "fullatt_block_indexes",
    "window_block_indices",
    "residual_block_indices",
)
# Numbers of blocks at the start, or at the end, that differ from the others.
_FIRST = (
    "max_window_layers",
    "first_k_dense_replace",
    "num_dense_layers",
    "num_first_full_attention_layers",
)
_LAST = ("num_kv_shared_layers", "num_last_full_attention_layers")
# Block i is of the other kind where i % period == offset.
_PERIODS = (("attn_layer_period", "attn_layer_offset"), ("expert_layer_period", "expert_layer_offset"))
# Lists that are no settings of blocks, even where they happen to be as long as there are blocks.
_OTHER_LISTS = (
    "architectures",
    "pos_att_type",
    "languages",
    "time_step_limit",
    "ssm_multipliers",
    "mlp_multipliers",
    "block_types",
    "attention_types",
    "depths",
    "suppress_tokens",
    "begin_suppress_tokens",
    "patch_size",
    "image_size",
    "summary_idxs",
    "quantiles",
    "keys_to_ignore_at_inference",
)
_OTHER_NAMES = (
    "_token_id",
    "_token_ids",
    "conv_",
    "tdnn_",
    "out_",
    "mtp_",
    "stage_",
    "resblock_",
    "upsample_",
)
# What a block knows of its own place, and T5's positions, which its first block keeps for all.
_PLACE = frozenset(
    {
        "layer_idx",
        "layer_id",
        "layer_index",
        "layer_number",
        "block_idx",
        "idx",
        "has_relative_attention_bias",
    }
)


def spread_layers(teacher_layers: int, student_layers: int) -> list[int]:
    """Teacher blocks (0-based) for each student block, evenly spread, first and last included.

    Raises:
        ConfigError: more student blocks than teacher blocks.

    >>> spread_layers(12, 6)
    [0, 2, 4, 7, 9, 11]
    """
    if student_layers > teacher_layers:
        raise ConfigError(
            f"student.layers: {student_layers} cannot be copied from a teacher of {teacher_layers};"
            " accepted: at most that"
        )
    if student_layers == 1:
        return [0]
    return [round(i * (teacher_layers - 1) / (student_layers - 1)) for i in range(student_layers)]


def evenly_copied_layers(teacher: PreTrainedConfig, layers: int) -> list[int]:
    """The teacher blocks that are copied where none are named: `paired_layers`, each at most once.

    Raises:
        ConfigError: more student blocks than teacher blocks.
    """
    spread_layers(teacher.num_hidden_layers, layers)
    return paired_layers(teacher, layers)


def paired_layers(config: PreTrainedConfig, layers: int) -> list[int]:
    """The teacher block (0-based) that each of a student's `layers` blocks follows.

    They are evenly spread (`spread_layers`). A student with more blocks than the teacher repeats the
    teacher's blocks in turn. Where blocks are of several kinds, each kind gets at least one block as far as
    there are blocks. Attention comes first: without it a hybrid cannot run.
    """
    count = config.num_hidden_layers
    if layers >= count:
        return [index % count for index in range(layers)]
    chosen = spread_layers(count, layers)
    kinds = _kinds(config)
    for kind in sorted(
        set(kinds), key=lambda kind: (not _attends(kind), -kinds.count(kind), kinds.index(kind))
    ):
        present = [kinds[layer] for layer in chosen]
        if kind in present:
            continue
        attention = _attends(kind) and not any(map(_attends, present))
        movable = [slot for slot in range(layers) if attention or present.count(present[slot]) > 1]
        swaps = []
        for slot in reversed(movable):
            for layer in range(count):
                swapped = [*chosen[:slot], layer, *chosen[slot + 1 :]]
                if kinds[layer] == kind and swapped == sorted(set(swapped)):
                    swaps.append((abs(layer - chosen[slot]), swapped))
        if swaps:
            chosen = min(swaps, key=lambda swap: swap[0])[
                1
            ]  # the smallest move, of equal ones the last block's
    return chosen


def follow_layers_(student: PreTrainedConfig, teacher: PreTrainedConfig, layers: Sequence[int]) -> None:
    """Gives a student's config the settings of the teacher blocks `layers`, and their number.

    Args:
        student: a copy of the teacher's config; changed.
        teacher: of the family.
        layers: the teacher block (0-based) for each student block.

    Raises:
        ConfigError: a block outside the teacher, or a config that describes each block by itself.
    """
    count = teacher.num_hidden_layers
    if outside := [layer for layer in layers if not 0 <= layer < count]:
        raise ConfigError(
            f"student.from_layers: {outside[0]} is outside the teacher; accepted: 0 to {count - 1}"
        )
    if list(layers) == list(range(count)):
        return
    if getattr(teacher, "is_heterogeneous", False):
        raise ConfigError(
            "student.layers: the teacher's config describes each block by itself; accepted: student.model"
        )
    for name, value in vars(teacher).items():
        if name in _BLOCK_NUMBERS and isinstance(value, (list, tuple)):
            setattr(student, name, [index for index, layer in enumerate(layers) if layer in value])
        elif name in _FIRST and isinstance(value, int):
            setattr(student, name, sum(layer < value for layer in layers))
        elif name in _LAST and isinstance(value, int):
            setattr(student, name, sum(layer >= count - value for layer in layers))
        elif _is_by_block(name, value, count):
            picked = [value[layer] for layer in layers]
            setattr(student, name, "".join(picked) if isinstance(value, str) else type(value)(picked))
    _follow_rules_(student, teacher, layers)
    if getattr(teacher, "num_decoder_layers", None) == count:  # T5: symmetric
        student.num_decoder_layers = len(layers)
    student.num_hidden_layers = len(layers)


def _follow_rules_(student: Any, teacher: Any, layers: Sequence[int]) -> None:
    """Settings that are a rule: a repeated pattern, a period with an offset, every so many blocks."""
    if pattern := getattr(teacher, "block_types", None):  # RecurrentGemma
        student.block_types = [pattern[layer % len(pattern)] for layer in layers]
    if hasattr(teacher, "attention_types") and hasattr(teacher, "attention_layers"):  # GPT-Neo
        student.attention_types = [[[teacher.attention_layers[layer]], 1] for layer in layers]
    for period_name, offset_name in _PERIODS:  # Jamba
        period, offset = getattr(teacher, period_name, None), getattr(teacher, offset_name, None)
        if not (isinstance(period, int) and isinstance(offset, int)) or _is_property(teacher, period_name):
            continue
        found = _period([layer % period == offset for layer in layers])
        if found is not None:
            setattr(student, period_name, found[0])
            setattr(student, offset_name, found[1])
    step = getattr(teacher, "decoder_sparse_step", None)
    if isinstance(step, int) and step > 1 and hasattr(teacher, "mlp_only_layers"):  # Qwen's experts
        dense = teacher.mlp_only_layers or []
        student.mlp_only_layers = [
            index for index, layer in enumerate(layers) if layer in dense or (layer + 1) % step
        ]
        student.decoder_sparse_step = 1


def _period(wanted: Sequence[bool]) -> tuple[int, int] | None:
    """The shortest (period, offset) whose rule is true at exactly the wanted places."""
    for period in range(1, len(wanted) + 2):
        for offset in range(period):
            if all((index % period == offset) == true for index, true in enumerate(wanted)):
                return period, offset
    return None


# --- kinds of blocks ----------------------------------------------------------------------------------------


def check_same_kinds(
    student: nn.ModuleList | nn.Sequential,
    teacher: nn.ModuleList | nn.Sequential,
    layers: Sequence[int],
    configs: tuple[Any, Any],
) -> None:
    """Raises `ConfigError` where a student block is not of the kind of the teacher block copied into it.

    Two blocks are of one kind if their modules have the same classes and plain attributes, and if the configs
    say the same of both.

    Args:
        student: its blocks.
        teacher: its blocks.
        layers: the teacher block for each student block.
        configs: the student's and the teacher's, the text part.
    """
    own, theirs = (_settings(config) for config in configs)
    by_place = any(getattr(config, "scale_attn_by_inverse_layer_idx", False) for config in configs)
    for index, layer in enumerate(layers):
        differs = _difference(student[index], teacher[layer])
        for name in sorted(own.keys() & theirs.keys()):
            if own[name][index] != theirs[name][layer]:
                differs = f"{name} is {own[name][index]!r}, not {theirs[name][layer]!r}"
        if by_place and index != layer:
            differs = "scale_attn_by_inverse_layer_idx scales by the block's place"
        if differs:
            raise ConfigError(
                f"student.from_layers: block {index} of the student is not of the kind of the teacher's block"
                f" {layer}"
                f" ({differs});"
                " accepted: blocks that the family can have in that order, or student.init: random"
            )


def _difference(student: nn.Module, teacher: nn.Module) -> str | None:
    own, theirs = dict(student.named_modules()), dict(teacher.named_modules())
    for name in sorted(own.keys() | theirs.keys()):
        if "relative_attention_bias" in name:
            continue
        if name not in own or name not in theirs:
            return f"{name} is {'missing' if name not in own else 'there'}"
        classes = type(own[name]).__name__, type(theirs[name]).__name__
        if classes[0] != classes[1]:
            return f"{name or 'the block'} is a {classes[0]}, not a {classes[1]}"
        mine, other = _plain_attributes(own[name]), _plain_attributes(theirs[name])
        for attribute in sorted(mine.keys() | other.keys()):
            if mine.get(attribute) != other.get(attribute):
                path = f"{name}.{attribute}" if name else attribute
                return f"{path} is {mine.get(attribute)!r}, not {other.get(attribute)!r}"
    return None


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    skipped = _PLACE | {"training", "gradient_checkpointing"}
    return {
        name: value
        for name, value in vars(module).items()
        if name[0] != "_" and name not in skipped and isinstance(value, (bool, int, float, str, type(None)))
    }


def _settings(config: Any) -> dict[str, list[Any]]:
    """What a config says of each block, by name: one value for each block."""
    count = config.num_hidden_layers
    found: dict[str, list[Any]] = {}
    for name, value in vars(config).items():
        if name in _BLOCK_NUMBERS and isinstance(value, (list, tuple)):
            found[name] = [index in value for index in range(count)]
        elif name in _FIRST and isinstance(value, int):
            found[name] = [index < value for index in range(count)]
        elif _is_by_block(name, value, count):
            found[name] = list(value)
    for name in ("layers_block_type", "layer_types", "layers_num_experts"):  # those that a class computes
        value = getattr(config, name, None)
        if isinstance(value, (list, tuple)) and len(value) == count:
            found[name] = list(value)
    step = getattr(config, "decoder_sparse_step", None)
    if isinstance(step, int) and hasattr(config, "mlp_only_layers"):  # one setting in two names
        dense = found.pop("mlp_only_layers", [False] * count)
        found["experts"] = [not dense[index] and (index + 1) % step == 0 for index in range(count)]
    if not getattr(config, "use_sliding_window", True) or "layer_types" in found:
        found.pop("max_window_layers", None)  # without effect
    return found


def _kinds(config: Any) -> list[tuple[Any, ...]]:
    """Of each block what is a word or a yes or no; sizes that differ do not make a kind."""
    words = [
        values
        for _, values in sorted(_settings(config).items())
        if all(isinstance(value, (str, bool)) or value in (0, 1) for value in values)
    ]
    return [tuple(values[index] for values in words) for index in range(config.num_hidden_layers)]


def _attends(kind: tuple[Any, ...]) -> bool:
    words = [value for value in kind if isinstance(value, str)]
    return any(("attention" in word and "linear" not in word) or word in ("*", "hybrid") for word in words)


def _is_by_block(name: str, value: Any, count: int) -> bool:
    if name[0] == "_" or name in _OTHER_LISTS or any(part in name for part in _OTHER_NAMES):
        return False
    if isinstance(value, str):
        return name.endswith("_pattern") and len(value) == count
    return isinstance(value, (list, tuple)) and len(value) == count


def _is_property(config: Any, name: str) -> bool:
    return isinstance(getattr(type(config), name, None), property)
