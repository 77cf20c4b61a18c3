"""The place of a network's blocks: detected by structure, or named by the user with a dotted path.

Hidden states are numbered as in Hugging Face `hidden_states`: 0 is the input of the first block, `s` is the
output of block `s`, and the last one, `L`, includes the final norm if the architecture's `hidden_states[L]`
does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from vigreux.errors import ConfigError, unknown
from vigreux.models.text_config import text_config

# Names of the modules around a list of blocks, looked up beside the list and beside each of its parents.
# These run after the blocks and are part of hidden_states[L]:
AFTER_BLOCKS = (
    "norm",  # Llama, Mistral, Qwen, Gemma, OLMo
    "ln_f",  # GPT-2, GPT-J, Bloom, Falcon
    "final_layer_norm",  # OPT, GPT-NeoX, T5
    "final_layernorm",  # Phi
    "final_norm",  # ModernBERT
    "norm_f",  # MPT
    "layernorm",  # ViT and its relatives
    "layer_norm",  # Whisper, XGLM
    "project_out",  # OPT 350M
    "emb_layer_norm_after",  # ESM
    "ln",  # Megatron-BERT
    "ln_out",  # RWKV
    "LayerNorm",  # RoBERTa-PreLayerNorm; DeBERTa's is for its relative positions
    "embedding_norm",  # LFM2
)
POOLERS = ("pooler",)  # never part of a hidden state
ONLY_FOR_BLOCKS = (
    "rel_embeddings",  # DeBERTa: relative positions, an argument of every block
    "conv",  # DeBERTa-v2 XL: beside the first block
    "relative_attention_bias",  # MPNet
)


@dataclass(frozen=True)
class Layout:
    """Dotted paths, relative to the model, of the modules that a view is cut from.

    Args:
        base: the module whose first output is the last hidden state; "" is the model itself.
        blocks: the `nn.ModuleList` or `nn.Sequential` of blocks; "" is the model itself.
        after: modules that run after the blocks and belong to hidden state `L` alone: final norm, output
            projection.
        unused: modules inside `base` that no hidden state needs: poolers, the final norm of vision models
            (their `hidden_states[L]` precedes it), and all modules after the blocks of a torch module (its
            hidden state `L` is the output of the last block).
        between: modules that only the blocks use, so that hidden state 0 does not depend on their parameters.
    """

    base: str
    blocks: str
    after: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    between: tuple[str, ...] = ()


def find_layout(model: nn.Module, *, blocks: str | None = None, after: Sequence[str] | None = None) -> Layout:
    """The layout of a transformer, detected by structure, or of a torch module whose blocks the user names.

    Args:
        model: a Hugging Face model with or without its head, or a torch module.
        blocks: dotted path from `model` to its list of blocks; "" is the model itself (an `nn.Sequential`).
        after: modules that run after the blocks: dotted paths from `model`, or names beside the blocks.
            Default: the modules with the names in `AFTER_BLOCKS`.

    Raises:
        ConfigError: the blocks are not found, are not one list, or are shared between layers, or a path does
            not exist.
    """
    if blocks is None:
        blocks = _find_blocks(model)
    else:
        _check_blocks(model, blocks)
    base = _base_of(model, blocks)
    around = [path for path in parents(blocks) if _within(path, base)]
    if after is None:
        after_paths = list(_existing(model, around, AFTER_BLOCKS))
    else:
        after_paths = [_resolve(model, around, name) for name in after]
    unused = list(_existing(model, around, POOLERS))
    between = list(_existing(model, around, ONLY_FOR_BLOCKS))
    for path in [path for path in after_paths if path.endswith("LayerNorm")]:
        # DeBERTa: the norm of its relative positions
        if f"{path.removesuffix('LayerNorm')}rel_embeddings" in between:
            after_paths.remove(path)
            between.append(path)
    vision = after is None and getattr(model, "main_input_name", "input_ids") != "input_ids"
    if vision or not isinstance(model, PreTrainedModel):
        unused += after_paths
        after_paths = []
    return Layout(base, blocks, tuple(after_paths), tuple(unused), tuple(between))


def named_layout(model: nn.Module, blocks: str | None, after: Sequence[str] | None) -> Layout:
    """The layout by the user's names if `model` has a module `blocks`, otherwise by structure."""
    if blocks is None or blocks not in dict(model.named_modules()):
        return find_layout(model)
    return find_layout(model, blocks=blocks, after=after)


def block_list(model: nn.Module, layout: Layout | None = None) -> nn.ModuleList | nn.Sequential:
    """The list of blocks."""
    blocks = model.get_submodule((layout or find_layout(model)).blocks)
    assert isinstance(blocks, (nn.ModuleList, nn.Sequential))
    return blocks


def num_blocks(model: nn.Module, layout: Layout | None = None) -> int:
    """`L`, the number of blocks."""
    return len(block_list(model, layout))


def hidden_size(model: nn.Module, layout: Layout | None = None, depth: int | None = None) -> int:
    """The width of hidden state `depth`, or of the blocks' outputs if no depth is given.

    For a Hugging Face model it is `config.hidden_size`, unless the model ends with an output projection (OPT
    350M). In a torch module the width may differ from block to block. It is the output size of the last
    `nn.Linear` before that state; at depth 0, the input size of the first one.

    Raises:
        ConfigError: the blocks of a torch module contain no `nn.Linear`.
    """
    layout = layout or find_layout(model)
    if isinstance(model, PreTrainedModel):
        projection = next(
            (model.get_submodule(path) for path in layout.after if path.endswith("project_out")), None
        )
        if isinstance(projection, nn.Linear) and depth == num_blocks(model, layout):
            return projection.out_features
        return int(text_config(model).hidden_size)
    blocks = list(block_list(model, layout))
    preceding = [m for block in blocks[:depth] for m in block.modules() if isinstance(m, nn.Linear)]
    linears = [m for block in blocks for m in block.modules() if isinstance(m, nn.Linear)]
    if not linears:
        raise ConfigError(f"teacher.blocks: {layout.blocks!r} contains no nn.Linear, so its width is unknown")
    return preceding[-1].out_features if preceding else linears[0].in_features


# --- finding ------------------------------------------------------------------------------------------------


def _base_of(model: nn.Module, blocks: str) -> str:
    """The innermost Hugging Face model that contains the blocks and accepts the inputs of the whole model.

    OPT's head calls its decoder, not its base model. DINOv2's encoder accepts hidden states, so the base is
    the model around it. A torch module around a Hugging Face model is called as a whole.
    """
    if not isinstance(model, PreTrainedModel):
        return ""
    models = [path for path in parents(blocks) if isinstance(model.get_submodule(path), PreTrainedModel)]
    takers = [path for path in models if model.main_input_name in _named_inputs(model.get_submodule(path))]
    return (takers or models)[-1]


def _named_inputs(module: nn.Module) -> frozenset[str]:
    return frozenset(inspect.signature(type(module).forward).parameters)


def _find_blocks(model: nn.Module) -> str:
    if isinstance(model, nn.Sequential):
        return ""
    candidates = _candidates(model)
    if not isinstance(model, PreTrainedModel):
        raise ConfigError(_by_hand(model, "is not a Hugging Face model", candidates))
    config = text_config(model)
    layers = getattr(config, "num_hidden_layers", None)
    groups = getattr(config, "num_hidden_groups", layers)
    if groups != layers:
        raise ConfigError(
            f"{type(model).__name__} runs {groups} block(s) {layers} times (shared weights): no separate"
            " blocks to cut a view from"
        )
    inside = {id(module) for module in model.base_model.modules()}
    paths = [
        path
        for path, count in candidates.items()
        if count == layers and id(model.get_submodule(path)) in inside
    ]
    if len(paths) > 1 and config is not model.config:
        # a vision model beside the text model may have the same depth by chance
        paths = [path for path in paths if model.get_submodule(_base_of(model, path)).config is config]
    if len(paths) > 1:
        paths = [
            path
            for path in paths
            if len({type(block) for block in model.get_submodule(path).children()}) == 1
        ]
    if len(paths) != 1:
        problem = "has several lists" if paths else "has no list"
        raise ConfigError(_by_hand(model, f"{problem} of {layers} blocks", candidates))
    return paths[0]


def _candidates(model: nn.Module) -> dict[str, int]:
    """The outermost lists of modules, by dotted path, with their lengths."""
    lengths: dict[str, int] = {}
    for path, module in model.named_modules():
        inside_another = any(outer == "" or path.startswith(f"{outer}.") for outer in lengths)
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) and not inside_another:
            lengths[path] = len(module)
    return lengths


def _by_hand(model: nn.Module, reason: str, candidates: dict[str, int]) -> str:
    listed = ", ".join(f"{path!r} ({count})" for path, count in candidates.items()) or "none"
    return (
        f"{type(model).__name__} {reason}: name its blocks by hand in teacher.blocks, a dotted path;"
        f" lists in it: {listed}"
    )


def _check_blocks(model: nn.Module, path: str) -> None:
    module = dict(model.named_modules()).get(path)
    if module is None:
        raise ConfigError(unknown("teacher.blocks", path, _candidates(model)))
    if not isinstance(module, (nn.ModuleList, nn.Sequential)):
        accepted = ", ".join(repr(candidate) for candidate in _candidates(model)) or "none in this model"
        raise ConfigError(
            f"teacher.blocks: {path!r} is a {type(module).__name__}, not a list of blocks;"
            f" accepted: {accepted}"
        )


def parents(path: str) -> list[str]:
    """The paths of all modules that contain `path`, outermost first: "a.b.c" -> "", "a", "a.b"."""
    names = path.split(".")
    return [".".join(names[:count]) for count in range(len(names))]


def _within(path: str, base: str) -> bool:
    return base in ("", path) or path.startswith(f"{base}.")


def _join(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def _existing(model: nn.Module, parents: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    for parent in parents:
        children = model.get_submodule(parent)._modules
        yield from (_join(parent, name) for name in names if children.get(name) is not None)


def _resolve(model: nn.Module, parents: Sequence[str], name: str) -> str:
    modules = dict(model.named_modules())
    for path in (name, *(_join(parent, name) for parent in parents)):
        if path in modules:
            return path
    beside = [
        _join(parent, child)
        for parent in parents
        for child, _ in model.get_submodule(parent).named_children()
    ]
    raise ConfigError(unknown("teacher.after_blocks", name, beside))
