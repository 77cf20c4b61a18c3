"""A student of the teacher's family: the teacher's config with smaller sizes, and random weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedModel

from vigreux.errors import ConfigError
from vigreux.models.families import model_class
from vigreux.models.layer_settings import follow_layers_, paired_layers
from vigreux.models.text_config import text_config

# The names of the feed-forward size in different families. The attribute_map of a config covers the names of
# hidden size, layers and heads.
INTERMEDIATE = ("intermediate_size", "ffn_dim", "d_ff", "n_inner", "hidden_dim", "ffn_hidden_size")
# Sizes that follow the hidden size if they equal it in the teacher. Otherwise (an embedding narrower than the
# blocks, with a projection between) the student keeps the teacher's.
FOLLOW_HIDDEN = ("embedding_size", "word_embed_proj_dim", "pooler_hidden_size", "pooler_output_size")
# Errors of transformers for impossible configs: attributes without a setter, failed checks, wrong sizes.
_IMPOSSIBLE = (
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
    RuntimeError,
    StrictDataclassError,
)


def make_student(
    teacher: PreTrainedConfig,
    auto_class: str,
    *,
    layers: int | None = None,
    hidden: int | None = None,
    heads: int | None = None,
    intermediate: int | None = None,
    from_layers: Sequence[int] | None = None,
    seed: int = 0,
) -> PreTrainedModel:
    """A student with random weights: `build(student_config(teacher, ...), auto_class, seed)`."""
    config = student_config(
        teacher,
        layers=layers,
        hidden=hidden,
        heads=heads,
        intermediate=intermediate,
        from_layers=from_layers,
    )
    return build(config, auto_class, seed)


def build(config: PreTrainedConfig, auto_class: str, seed: int = 0, **kwargs: Any) -> PreTrainedModel:
    """Builds a float32 model with random weights that depend only on `seed`. Keeps the global random state.

    Args:
        config: the model's config; not changed.
        auto_class: the name of an `AutoModel…` class or of a model class of transformers.
        seed: seed of the weights.
        kwargs: passed on to `from_config` (`attn_implementation`).

    Raises:
        ConfigError: the class does not exist or does not have this family, or the config is impossible.
    """
    factory = model_class(auto_class)
    make = getattr(factory, "from_config", None) or factory._from_config
    if hasattr(factory, "_model_mapping") and type(config) not in factory._model_mapping:
        raise ConfigError(f"{auto_class}: transformers has none for the family {config.model_type!r}")
    with torch.random.fork_rng(), cannot_be(config):
        torch.manual_seed(seed)
        model: PreTrainedModel = make(copy.deepcopy(config), dtype=torch.float32, **kwargs)
    return model


@contextmanager
def cannot_be(config: PreTrainedConfig) -> Iterator[None]:
    """Turns the errors of transformers for impossible sizes into a `ConfigError` of one line."""
    try:
        yield
    except _IMPOSSIBLE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(
            f"student: a model of the family {config.model_type!r} cannot be made in these sizes"
            f" ({reason}); accepted: other sizes, or student.model, a model of your own"
        ) from error


def student_config(
    config: PreTrainedConfig,
    *,
    layers: int | None = None,
    hidden: int | None = None,
    heads: int | None = None,
    intermediate: int | None = None,
    from_layers: Sequence[int] | None = None,
) -> PreTrainedConfig:
    """The teacher's config with other sizes. Unset sizes stay the teacher's, or follow the hidden size.

    For a model of text and images, the result is based on its text config.

    Args:
        config: the teacher's config; not changed.
        layers: number of blocks.
        hidden: hidden size.
        heads: attention heads. Default: the number that keeps the teacher's head size, or else the largest
            divisor of `hidden` that is at most the teacher's number. Key-value heads keep the teacher's
            grouping if it divides the number of heads.
        intermediate: feed-forward size. Default: the teacher's ratio to the hidden size, rounded.
        from_layers: the teacher block (0-based) whose settings each student block takes. Default: evenly
            spaced blocks of all kinds (`paired_layers`).

    Raises:
        ConfigError: hidden is not divisible by heads, rotary positions cannot halve the head size, or the
            family has no feed-forward size to set or cannot be made smaller this way.
    """
    teacher = text_config(config)
    if {"encoder_layers", "decoder_layers"} <= vars(teacher).keys():
        raise ConfigError(
            f"student: the family {teacher.model_type!r} has an encoder and a decoder, and these sizes"
            " describe only one of them; accepted: student.model, a model of your own"
        )
    with cannot_be(config):
        student = copy.deepcopy(teacher)
        width = teacher.hidden_size if hidden is None else hidden
        _set_layers(student, teacher, layers, from_layers)
        _set_heads(student, teacher, width, heads)
        _set_intermediate(student, teacher, width, intermediate)
        for name in FOLLOW_HIDDEN:
            if getattr(teacher, name, None) == teacher.hidden_size:
                setattr(student, name, width)
        student.hidden_size = width
        _set_initial_std(student, width)
        student._name_or_path = ""
        if teacher is not config:
            _take_outer_settings(student, config)
        if hasattr(student, "quantization_config"):
            del student.quantization_config
        if hasattr(student, "validate"):
            student.validate()
    return student


def _take_outer_settings(student: PreTrainedConfig, config: PreTrainedConfig) -> None:
    """Copies settings of the outer config: missing token ids, tied embeddings, classes."""
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(student, name, None) is None and getattr(config, name, None) is not None:
            setattr(student, name, getattr(config, name))
    student.tie_word_embeddings = config.tie_word_embeddings
    student.id2label, student.label2id = copy.copy(config.id2label), copy.copy(config.label2id)


def _set_initial_std(student: PreTrainedConfig, width: int) -> None:
    """Sets the standard deviation of random weights to `max(teacher's, 1 / √width)`.

    This is a gain of at least 1 (LeCun et al. 1998, section 4.6).

    The usual 0.02 of transformers was chosen for wide models. In a narrow model, a block's output is then so
    small beside the residual that the output of attention has no effect (results/defaults.json, "random
    weights of std 0.02").
    """
    for name in ("initializer_range", "init_std"):
        if (usual := getattr(student, name, None)) is not None:
            setattr(student, name, max(usual, width**-0.5))


def _set_layers(
    student: PreTrainedConfig,
    teacher: PreTrainedConfig,
    layers: int | None,
    from_layers: Sequence[int] | None,
) -> None:
    if from_layers is None:
        from_layers = paired_layers(teacher, teacher.num_hidden_layers if layers is None else layers)
    elif layers is not None and layers != len(from_layers):
        raise ConfigError(
            f"student.from_layers: {len(from_layers)} layers for {layers} student blocks;"
            " accepted: one for each"
        )
    follow_layers_(student, teacher, from_layers)


def _set_heads(student: PreTrainedConfig, teacher: PreTrainedConfig, hidden: int, heads: int | None) -> None:
    if heads is None and (hidden == teacher.hidden_size or not hasattr(teacher, "num_attention_heads")):
        return
    if not hasattr(teacher, "num_attention_heads"):
        raise ConfigError(
            f"student.heads: the family {teacher.model_type!r} has no attention heads; leave it out"
        )
    by_block = [
        name for name in vars(teacher) if "heads" in name and isinstance(getattr(teacher, name), list)
    ]
    if by_block:
        raise ConfigError(
            f"student.hidden: the family {teacher.model_type!r} has heads by block ({by_block[0]});"
            f" accepted: {teacher.hidden_size}, the teacher's, without student.heads"
        )
    head_dim = getattr(teacher, "head_dim", None)
    # Gemma, Qwen3, T5-11B: heads times head size is not the hidden size.
    decoupled = head_dim is not None and head_dim != teacher.hidden_size // teacher.num_attention_heads
    heads = _number_of_heads(teacher, hidden, heads, decoupled=decoupled)
    student.num_attention_heads = heads
    if head_dim is not None and not isinstance(getattr(type(teacher), "head_dim", None), property):
        student.head_dim = head_dim if decoupled else hidden // heads
    if getattr(teacher, "query_pre_attn_scalar", None) == head_dim and head_dim is not None:  # Gemma 2
        student.query_pre_attn_scalar = student.head_dim
    for name in ("num_key_value_heads", "num_kv_heads"):
        teacher_groups = getattr(teacher, name, None)
        if teacher_groups is None:
            continue
        heads_per_group = teacher.num_attention_heads // teacher_groups
        groups = heads // heads_per_group if heads % heads_per_group == 0 else heads
        setattr(student, name, 1 if teacher_groups == 1 else groups)


def _number_of_heads(teacher: PreTrainedConfig, hidden: int, heads: int | None, *, decoupled: bool) -> int:
    """The student's number of heads: `heads` if the hidden size allows it, else the default."""
    possible = []
    for count in range(1, hidden + 1):
        if hidden % count == 0 and (decoupled or _rotates(teacher, hidden // count)):
            possible.append(count)
    if heads is None:
        most = teacher.num_attention_heads
        if decoupled or hidden % (teacher.hidden_size // most) == 0:
            most = max(1, most * hidden // teacher.hidden_size)  # keeps the head size where it divides
        heads = max((count for count in possible if count <= most), default=None)
    if heads is not None and heads in possible:
        return heads
    target = heads or 1
    nearest = min(possible, key=lambda count: abs(count - target), default=None)
    message = f"student.heads: hidden size {hidden} does not divide into {heads or 'any number of'} heads"
    if heads and hidden % heads == 0:
        message += " of an even rotary size"
    if nearest is None:
        raise ConfigError(f"{message}; no number of heads works: choose another student.hidden")
    raise ConfigError(f"{message}; nearest that works: {nearest}")


def _rotates(config: PreTrainedConfig, head_size: int) -> bool:
    """Whether rotary positions work with this head size: they rotate an even number of coordinates."""
    rope = getattr(config, "rope_parameters", None)
    if not rope:
        return True
    settings = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    share = min(entry.get("partial_rotary_factor", 1.0) for entry in settings)
    rotated = int(head_size * share)
    return rotated > 0 and rotated % 2 == 0


def _set_intermediate(
    student: PreTrainedConfig, teacher: PreTrainedConfig, hidden: int, intermediate: int | None
) -> None:
    name = next((name for name in INTERMEDIATE if hasattr(teacher, name)), None)
    size = getattr(teacher, name) if name else None
    if intermediate is None and size is None:  # GPT-2's n_inner: None is 4 × hidden
        return
    if name is None:
        raise ConfigError(
            f"student.intermediate: the family {teacher.model_type!r} has no feed-forward size to set"
        )
    if isinstance(size, (list, tuple)):  # one size per block; `_set_layers` has selected the student's blocks
        sizes = [
            intermediate or round(block_size * hidden / teacher.hidden_size)
            for block_size in getattr(student, name)
        ]
        setattr(student, name, sizes)
        return
    if intermediate is None and size is not None:
        intermediate = round(size * hidden / teacher.hidden_size)
    setattr(student, name, intermediate)
