"""Checks a model folder before transformers opens it, so that it cannot hang or exhaust the process.

Only regular files are opened. The sizes in the config are compared with the weight files, through a model on
the meta device.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from vigreux.errors import CheckpointError, unknown
from vigreux.models.families import model_class

ACCEPTED = "model.safetensors, model.safetensors.index.json with its shards, one .gguf file"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")

LARGEST_JSON = 200_000_000  # bytes; the largest tokenizers have 40 MB
# Blocks that a config may have whatever the weights hold, because blocks of a family may share weights.
_DEEP = 1000
_NEVER = 2**62
_RANGES = {  # the ranges of numbers in a config, by patterns of their names
    # the number of modules or entries to build
    r"(^|_)(layers?|blocks?|depth|heads?|experts?|groups?)$": (-_NEVER, 20_000),
    r"^(num_labels|num_classes)$": (0, 1_000_000),
    # a probability
    r"drop(out)?(_prob|_p|_rate)?$|pdrop$": (0, 1),
    r"(^|_)eps(ilon)?$": (0, 1),
    r"theta$": (1e-6, 1e30),
    # the size of the chunks in which a layer is computed; other values work only for some lengths
    r"^chunk_size_feed_forward$": (0, 1),
}
_SPARE = 10_000_000  # parameters that any weights may lack, for a new head
_BUFFERS = 2**28  # elements of buffers, which weight files may omit (tables of positions)


class Stored(NamedTuple):
    """One tensor of a weight file."""

    dtype: str  # as safetensors names it: F32, BF16, I64, …
    shape: tuple[int, ...]


# --- files --------------------------------------------------------------------------------------------------


def is_local(where: str) -> bool:
    """Whether `where` is a path rather than a hub id `name` or `organisation/name`."""
    try:
        exists = Path(where).exists()
    except OSError:  # the name is too long, or a folder may not be entered
        exists = True
    return exists or where.startswith((".", "/", "~")) or where.count("/") > 1


def model_directory(path: Path) -> Path:
    """Returns `path` after checking that it is a folder whose files are safe to open.

    Raises:
        CheckpointError: `path` is not a readable folder, or it contains a pipe, socket or device, or a JSON
            file larger than `LARGEST_JSON`.
    """
    try:
        if not path.is_dir():
            raise CheckpointError(
                f"{path}: no such directory; accepted: a directory made by save_pretrained, or a hub id"
            )
        for entry in sorted(path.iterdir()):
            _check_entry(entry)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    return path


def _check_entry(entry: Path) -> None:
    try:
        status = entry.stat()
    except FileNotFoundError:  # a link to nothing
        return
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise CheckpointError(f"{entry}: is a pipe, a socket or a device; accepted: regular files")
    if entry.suffix == ".json" and status.st_size > LARGEST_JSON:
        raise CheckpointError(f"{entry}: has {status.st_size:,} bytes; accepted: at most {LARGEST_JSON:,}")


def check_directory(path: Path, allow_pickle: bool, gguf_file: str | None) -> str | None:
    """Checks that the weights can be read. Returns the name of the GGUF file to load, if there is one."""
    model_directory(path)
    if gguf_file is not None or not (
        (path / "model.safetensors").exists() or (path / "model.safetensors.index.json").exists()
    ):
        chosen = gguf_file or only_gguf(path)
        if chosen is not None:
            if not (path / chosen).is_file():
                raise CheckpointError(
                    unknown(f"{path}: GGUF file", chosen, [file.name for file in path.glob("*.gguf")])
                )
            return chosen
    files = safetensors_files(path)
    for file in files:
        tensor_names(file)
    if not files and any((path / name).exists() for name in PICKLED):
        if not allow_pickle:
            raise CheckpointError(
                f"{path}: only pickled weights, which can run code; accepted: {ACCEPTED};"
                " or allow_pickle: true beside this model"
            )
    elif not files:
        raise CheckpointError(f"{path}: no weights; accepted: {ACCEPTED}")
    if not (path / "config.json").is_file():
        raise CheckpointError(
            f"{path}: no config.json beside the weights; accepted: a directory made by save_pretrained"
        )
    return None


def only_gguf(path: Path) -> str | None:
    """The GGUF file of a directory, or `None`. Raises `CheckpointError` if there are several."""
    names = sorted(file.name for file in path.glob("*.gguf"))
    if len(names) > 1:
        raise CheckpointError(f"{path}: several GGUF files, name one as gguf_file: {', '.join(names)}")
    return names[0] if names else None


def safetensors_files(path: Path) -> list[Path]:
    """The safetensors files of a directory. Raises `CheckpointError` if a shard is missing."""
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return [file for file in [path / "model.safetensors"] if file.exists()]
    try:
        shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        outside = [shard for shard in shards if Path(shard).name != shard]
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index}: not an index of safetensors shards ({error})") from error
    if outside:
        raise CheckpointError(f"{index}: names the shard {outside[0]!r}; accepted: files beside it")
    if missing := [shard for shard in shards if not (path / shard).is_file()]:
        raise CheckpointError(
            f"{path / missing[0]}: this shard of the weights is missing (named in {index.name})"
        )
    return [path / shard for shard in shards]


def tensor_names(file: Path) -> list[str]:
    """The names of the tensors in a safetensors file. Raises `CheckpointError` if the file is damaged."""
    return list(stored_tensors(file))


def stored_tensors(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file by name, from its header. A damaged file raises `CheckpointError`."""
    try:
        with safe_open(file, framework="pt") as opened:
            slices = ((name, opened.get_slice(name)) for name in opened.keys())  # noqa: SIM118  (no mapping)
            return {name: Stored(view.get_dtype(), tuple(view.get_shape())) for name, view in slices}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: truncated or corrupted safetensors ({error}); copy or download it again"
        ) from error


# --- the config against the weights -------------------------------------------------------------------------


def check_config_file(path: Path, names: list[str]) -> None:
    """Reads a config.json as plain JSON, and rejects values that no model has.

    Args:
        path: the file.
        names: names of the tensors in the weight files, if known.

    Raises:
        CheckpointError: the file is not a JSON object, or `check_values` rejects a value.
    """
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is damaged ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(plain, dict):
        raise CheckpointError(f"{path}: found {type(plain).__name__}; accepted: a JSON object")
    check_values(path, plain, names)


def check_values(path: Path, plain: dict[str, Any], names: list[str]) -> None:
    """Raises `CheckpointError` for impossible counts or probabilities, NaN, and blocks without weights."""
    blocks = 1 + max((int(i) for name in names for i in re.findall(r"\.(\d{1,6})\.", name)), default=-1)
    for name in ("id2label", "label2id"):
        if not isinstance(plain.get(name, {}) or {}, dict):
            raise CheckpointError(f"{path}: {name} is {type(plain[name]).__name__}; accepted: a JSON object")
    for key, value in _leaves(plain):
        if type(value) not in (int, float):
            continue
        for pattern, (low, high) in _RANGES.items():
            if re.search(pattern, key) and not low <= value <= high:
                raise CheckpointError(f"{path}: {key} is {value:,}; accepted: {low:,} to {high:,}")
        if math.isnan(value):
            raise CheckpointError(f"{path}: {key} is nan; accepted: a number")
        if re.search(r"(layers?|block_count)$", key) and value > max(_DEEP, blocks):
            limit = f"the weights hold {blocks} blocks" if names else f"accepted: at most {_DEEP:,}"
            raise CheckpointError(f"{path}: {key} is {value:,}; {limit}")


def _leaves(plain: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys and values of a JSON object and of nested objects. Values in a list have the list's key."""
    pending: list[tuple[str, Any]] = list(plain.items())
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict):
            pending += value.items()
        elif isinstance(value, list):
            pending += [(key, entry) for entry in value]
        else:
            yield key, value


def check_sizes(path: Path, auto_class: str, config: PreTrainedConfig) -> None:
    """Compares the model that the config describes with the weights, before memory is allocated.

    The model is built on the meta device, where tensors have only shapes.

    Raises:
        CheckpointError: the config describes several times the parameters that the files hold, or weights are
            stored as integers.
    """
    stored: dict[str, Stored] = {}
    for file in safetensors_files(path):
        stored |= stored_tensors(file)
    check_values(path, config.to_dict(), list(stored))
    model = _meta_model(auto_class, config)
    if model is None:
        return
    quantised = _is_quantised(path, config)
    if stored and not quantised:
        stored_count = sum(math.prod(tensor.shape) for tensor in stored.values())
    else:  # packed: at least 1.5 bits per parameter
        files = [*path.glob("*.safetensors"), *path.glob("*.gguf"), *path.glob("pytorch_model*.bin")]
        stored_count = 5 * sum(file.stat().st_size for file in files)
    parameters = dict(model.named_parameters())
    described = sum(parameter.numel() for parameter in parameters.values())
    if described > 3 * stored_count + _SPARE:
        raise CheckpointError(
            f"{path}: config.json describes a model of {described:,} parameters,"
            f" and the weights hold {stored_count:,}"
        )
    buffers = sum(buffer.numel() for buffer in model.buffers())
    if buffers > max(_BUFFERS, 3 * stored_count):
        raise CheckpointError(
            f"{path}: config.json describes tables of {buffers:,} numbers; accepted: {_BUFFERS:,}"
        )
    if quantised:
        return
    for name, tensor in stored.items():
        if name in parameters and tensor.dtype.startswith(("I", "U", "B")) and tensor.dtype != "BF16":
            raise CheckpointError(
                f"{path}: {name} is stored as {tensor.dtype}; accepted: floating-point weights"
            )


def _is_quantised(path: Path, config: PreTrainedConfig) -> bool:
    plain = getattr(config, "quantization_config", None)
    if plain is None:
        return False
    method = plain.get("quant_method") if isinstance(plain, dict) else getattr(plain, "quant_method", None)
    if str(getattr(method, "value", method)) not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        # transformers would ignore the method and read the packed numbers as weights
        raise CheckpointError(
            f"{path}: quantization_config: method {method!r}; accepted: one that transformers has"
        )
    return True


def _meta_model(auto_class: str, config: PreTrainedConfig) -> PreTrainedModel | None:
    """The model on the meta device; `None` if its class comes with the code in the folder."""
    factory = model_class(auto_class)
    if hasattr(factory, "_model_mapping") and type(config) not in factory._model_mapping:
        return None
    make = getattr(factory, "from_config", None) or factory._from_config
    with torch.device("meta"), no_init_weights():
        model: PreTrainedModel = make(config)
    return model


def check_finite(where: str, model: PreTrainedModel) -> None:
    """Raises `CheckpointError` if a weight is NaN or infinite, because nothing can be learned from it."""
    for name, parameter in model.named_parameters():
        if parameter.is_meta or not parameter.is_floating_point() or parameter.numel() == 0:
            continue
        values = parameter.detach()
        if values.element_size() == 1:  # fp8 has no comparisons
            values = values.float()
        low, high = values.aminmax()
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CheckpointError(f"{where}: {name} holds weights that are not finite (nan or inf)")
