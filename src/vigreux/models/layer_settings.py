"""Settings that differ by block: the teacher block that each student block follows, and its config.

The blocks of a family may be of different kinds: sliding or full attention, attention or a state space,
experts or a dense feed-forward network. The config states this as a list with one value per block, a list of
block numbers, a count, or a periodic rule. `follow_layers_` gives a student's config the settings of the
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
# How many blocks at the start or at the end differ from the others.
_FIRST = (
    "max_window_layers",
    "first_k_dense_replace",
    "num_dense_layers",
    "num_first_full_attention_layers",
)
_LAST = ("num_kv_shared_layers", "num_last_full_attention_layers")
# Block i is of the other kind if i % period == offset.
_PERIODS = (("attn_layer_period", "attn_layer_offset"), ("expert_layer_period", "expert_layer_offset"))
# Lists that are not settings of blocks, even if their length equals the number of blocks.
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
# A block's own index, and T5's relative positions, which only its first block holds.
_INDEX_ATTRIBUTES = frozenset(
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
    """The teacher block (0-based) for each student block, evenly spaced, including the first and last.

    Raises:
        ConfigError: more student blocks than teacher blocks.

    >>> spread_layers(12, 6)
    [0, 2, 4, 7, 9, 11]
    """
    if student_layers > teacher_layers:
        raise ConfigError(
            f"student.layers: {student_layers} cannot be copied from a teacher of {teacher_layers};"
            f" accepted: at most {teacher_layers}"
        )
    if student_layers == 1:
        return [0]
    return [round(i * (teacher_layers - 1) / (student_layers - 1)) for i in range(student_layers)]


def evenly_copied_layers(teacher: PreTrainedConfig, layers: int) -> list[int]:
    """The teacher blocks that are copied by default: `paired_layers`, without repetition.

    Raises:
        ConfigError: more student blocks than teacher blocks.
    """
    spread_layers(teacher.num_hidden_layers, layers)
    return paired_layers(teacher, layers)


def paired_layers(config: PreTrainedConfig, layers: int) -> list[int]:
    """The teacher block (0-based) that each of a student's `layers` blocks follows.

    They are evenly spaced (`spread_layers`). A student with more blocks than the teacher repeats the
    teacher's blocks in order. If there are several kinds of blocks, each kind gets at least one block while
    blocks remain. Attention comes first, because a hybrid cannot run without it.
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
            _, chosen = min(swaps, key=lambda swap: swap[0])  # the smallest move; on a tie, of the last block
    return chosen


def follow_layers_(student: PreTrainedConfig, teacher: PreTrainedConfig, layers: Sequence[int]) -> None:
    """Gives a student's config the settings and the number of the teacher blocks `layers`.

    Args:
        student: a copy of the teacher's config; changed.
        teacher: the teacher's config.
        layers: the teacher block (0-based) for each student block.

    Raises:
        ConfigError: a block is outside the teacher, or the config describes each block separately.
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
            "student.layers: the teacher's config describes each block separately; use student.model"
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
    """Sets the settings that are rules: a repeated pattern, a period with an offset, a step."""
    if pattern := getattr(teacher, "block_types", None):  # RecurrentGemma
        student.block_types = [pattern[layer % len(pattern)] for layer in layers]
    if hasattr(teacher, "attention_types") and hasattr(teacher, "attention_layers"):  # GPT-Neo
        student.attention_types = [[[teacher.attention_layers[layer]], 1] for layer in layers]
    for period_name, offset_name in _PERIODS:  # Jamba
        period, offset = getattr(teacher, period_name, None), getattr(teacher, offset_name, None)
        if not (isinstance(period, int) and isinstance(offset, int)) or _is_property(teacher, period_name):
            continue
        rule = _period([layer % period == offset for layer in layers])
        if rule is not None:
            setattr(student, period_name, rule[0])
            setattr(student, offset_name, rule[1])
    step = getattr(teacher, "decoder_sparse_step", None)
    if isinstance(step, int) and step > 1 and hasattr(teacher, "mlp_only_layers"):  # Qwen's experts
        dense = teacher.mlp_only_layers or []
        student.mlp_only_layers = [
            index for index, layer in enumerate(layers) if layer in dense or (layer + 1) % step
        ]
        student.decoder_sparse_step = 1


def _period(flags: Sequence[bool]) -> tuple[int, int] | None:
    """The shortest (period, offset) with `flags[i] == (i % period == offset)` for all i."""
    for period in range(1, len(flags) + 2):
        for offset in range(period):
            if all((index % period == offset) == flag for index, flag in enumerate(flags)):
                return period, offset
    return None


# --- kinds of blocks ----------------------------------------------------------------------------------------


def check_same_kinds(
    student: nn.ModuleList | nn.Sequential,
    teacher: nn.ModuleList | nn.Sequential,
    layers: Sequence[int],
    configs: tuple[Any, Any],
) -> None:
    """Raises `ConfigError` if a student block is not of the kind of the teacher block that it copies.

    Two blocks are of one kind if their modules have the same classes and plain attributes, and the configs
    have the same settings for both.

    Args:
        student: the student's blocks.
        teacher: the teacher's blocks.
        layers: the teacher block for each student block.
        configs: the text configs of student and teacher.
    """
    student_settings, teacher_settings = (_settings(config) for config in configs)
    scales_by_index = any(getattr(config, "scale_attn_by_inverse_layer_idx", False) for config in configs)
    for index, layer in enumerate(layers):
        differs = _difference(student[index], teacher[layer])
        for name in sorted(student_settings.keys() & teacher_settings.keys()):
            value, expected = student_settings[name][index], teacher_settings[name][layer]
            if value != expected:
                differs = f"{name} is {value!r}, not {expected!r}"
        if scales_by_index and index != layer:
            differs = "scale_attn_by_inverse_layer_idx scales by the block's index"
        if differs:
            raise ConfigError(
                f"student.from_layers: block {index} of the student is not of the kind of the teacher's block"
                f" {layer} ({differs});"
                " accepted: blocks that the family can have in that order, or student.init: random"
            )


def _difference(student: nn.Module, teacher: nn.Module) -> str | None:
    """The first difference in kind between two blocks, in words, or `None`."""
    student_modules = dict(student.named_modules())
    teacher_modules = dict(teacher.named_modules())
    for name in sorted(student_modules.keys() | teacher_modules.keys()):
        if "relative_attention_bias" in name:
            continue
        if name not in student_modules:
            return f"{name} is missing"
        if name not in teacher_modules:
            return f"{name} is only in the student"
        student_class = type(student_modules[name]).__name__
        teacher_class = type(teacher_modules[name]).__name__
        if student_class != teacher_class:
            return f"{name or 'the block'} is a {student_class}, not a {teacher_class}"
        attributes = _plain_attributes(student_modules[name])
        expected = _plain_attributes(teacher_modules[name])
        for attribute in sorted(attributes.keys() | expected.keys()):
            if attributes.get(attribute) != expected.get(attribute):
                path = f"{name}.{attribute}" if name else attribute
                return f"{path} is {attributes.get(attribute)!r}, not {expected.get(attribute)!r}"
    return None


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    skipped = _INDEX_ATTRIBUTES | {"training", "gradient_checkpointing"}
    return {
        name: value
        for name, value in vars(module).items()
        if name[0] != "_" and name not in skipped and isinstance(value, (bool, int, float, str, type(None)))
    }


def _settings(config: Any) -> dict[str, list[Any]]:
    """The settings of a config that differ by block, by name, with one value per block."""
    count = config.num_hidden_layers
    settings: dict[str, list[Any]] = {}
    for name, value in vars(config).items():
        if name in _BLOCK_NUMBERS and isinstance(value, (list, tuple)):
            settings[name] = [index in value for index in range(count)]
        elif name in _FIRST and isinstance(value, int):
            settings[name] = [index < value for index in range(count)]
        elif _is_by_block(name, value, count):
            settings[name] = list(value)
    for name in ("layers_block_type", "layer_types", "layers_num_experts"):  # properties of config classes
        value = getattr(config, name, None)
        if isinstance(value, (list, tuple)) and len(value) == count:
            settings[name] = list(value)
    step = getattr(config, "decoder_sparse_step", None)
    if isinstance(step, int) and hasattr(config, "mlp_only_layers"):  # one setting in two names
        dense = settings.pop("mlp_only_layers", [False] * count)
        settings["experts"] = [not dense[index] and (index + 1) % step == 0 for index in range(count)]
    if not getattr(config, "use_sliding_window", True) or "layer_types" in settings:
        settings.pop("max_window_layers", None)  # without effect
    return settings


def _kinds(config: Any) -> list[tuple[Any, ...]]:
    """The kind of each block: its settings that are words or booleans. Sizes do not make a kind."""
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
    if name[0] == "_" or name in _OTHER_LISTS or any(fragment in name for fragment in _OTHER_NAMES):
        return False
    if isinstance(value, str):
        return name.endswith("_pattern") and len(value) == count
    return isinstance(value, (list, tuple)) and len(value) == count


def _is_property(config: Any, name: str) -> bool:
    return isinstance(getattr(type(config), name, None), property)
