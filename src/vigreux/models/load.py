"""Loads models and tokenizers from a directory or the hub, with errors of one line that say what to do."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from vigreux.downloads.hub import hub_or_cache
from vigreux.errors import CheckpointError, ConfigError, VigreuxError, unknown
from vigreux.files.digest import file_sha256
from vigreux.models.families import model_class
from vigreux.models.model_folder import (
    ACCEPTED,
    check_config_file,
    check_directory,
    check_finite,
    check_sizes,
    is_local,
    model_directory,
    only_gguf,
    safetensors_files,
    tensor_names,
)
from vigreux.models.sentence_folder import transformer_folder

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)
DTYPES = ("float32", "bfloat16", "float16")
# The kind of output is chosen at each call, whatever the config says.
_OUTPUT_SETTINGS = {"return_dict": True, "output_hidden_states": False, "output_attentions": False}


def load_model(
    path_or_id: str | Path,
    auto_class: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    gguf_file: str | None = None,
    allow_missing: bool = False,
    **kwargs: Any,
) -> PreTrainedModel:
    """Loads a model, in evaluation mode. All parameters come from the checkpoint.

    Args:
        path_or_id: a directory written by `save_pretrained`, a directory with a `.gguf` file (dequantised),
            or a hub id.
        auto_class: the name of an `AutoModel…` class or of a model class of transformers.
        revision: branch, tag or commit of a hub model.
        dtype: float32, bfloat16 or float16.
        allow_pickle: accept pickled weights; they are loaded weights-only.
        trust_remote_code: run the Python code that comes with the model.
        gguf_file: the GGUF file to load, if there are several.
        allow_missing: initialise the head at random if the checkpoint lacks it or has another size. Poolers,
            which no view runs, may always be missing from a headless model.
        kwargs: passed on to `from_pretrained` (`num_labels`, `attn_implementation`).

    Raises:
        CheckpointError: the weights are absent, damaged, pickled without `allow_pickle`, incomplete or of
            another shape, or the model needs remote code without `trust_remote_code`.
        ConfigError: the class or dtype does not exist.
    """
    if dtype not in DTYPES:
        raise ConfigError(unknown("dtype", dtype, DTYPES))
    where = str(path_or_id)
    if is_local(where):
        where = str(transformer_folder(Path(where)))
        gguf_file = check_directory(Path(where), allow_pickle, gguf_file)
    if allow_pickle:
        kwargs |= {"weights_only": True}
    else:
        kwargs |= {} if gguf_file else {"use_safetensors": True}
    kwargs |= {"revision": revision} if revision else {}
    with _one_line(where), _quiet(also_stderr=gguf_file is not None), hub_or_cache():
        if is_local(where) and not trust_remote_code:
            check_sizes(Path(where), auto_class, load_config(where, gguf_file=gguf_file))
        model, info = model_class(auto_class).from_pretrained(
            where,
            dtype=getattr(torch, dtype),
            trust_remote_code=trust_remote_code,
            gguf_file=gguf_file,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            **_OUTPUT_SETTINGS | kwargs,
        )
    _check_complete(where, model, info, allow_missing)
    if not any("layer" in name for name in kwargs):  # the caller may request only some blocks
        _check_blocks(where, model, info)
    check_finite(where, model)
    if gguf_file:  # the weights are dequantised, so the model can be saved
        model.hf_quantizer = None
        del model.config.quantization_config
    return model


def load_config(
    path_or_id: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    gguf_file: str | None = None,
) -> PreTrainedConfig:
    """Loads the config of a model. The weights may be absent.

    Args:
        path_or_id: a directory with a `config.json` or one `.gguf` file (only its header is read), or a hub
            id.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run the Python code that comes with the model.
        gguf_file: the GGUF file to read, if there are several.

    Raises:
        CheckpointError: the config is absent or damaged, or transformers does not have its family.
    """
    where = str(path_or_id)
    kwargs: dict[str, Any] = {"revision": revision} if revision else {}
    if is_local(where):
        where = str(transformer_folder(Path(where)))
        path = model_directory(Path(where))
        if gguf_file is None and (path / "config.json").is_file():
            names = [name for file in safetensors_files(path) for name in tensor_names(file)]
            check_config_file(path / "config.json", names)
        else:
            gguf_file = gguf_file or only_gguf(path)
            if gguf_file is None:
                raise CheckpointError(
                    f"{path}: no config.json;"
                    " accepted: a directory made by save_pretrained, or one .gguf file"
                )
            kwargs["gguf_file"] = gguf_file
    with _one_line(where), _quiet(also_stderr="gguf_file" in kwargs), hub_or_cache():
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            where, trust_remote_code=trust_remote_code, **_OUTPUT_SETTINGS, **kwargs
        )
    return config


def load_tokenizer(
    path_or_id: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    gguf_file: str | None = None,
) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a model directory, of a GGUF file in it, or of a hub model.

    Raises:
        CheckpointError: the tokenizer is absent or damaged.
    """
    where = str(path_or_id)
    if is_local(where):
        where = str(transformer_folder(Path(where)))
        path = model_directory(Path(where))
        if not any((path / name).is_file() for name in TOKENIZER_FILES):
            gguf_file = gguf_file or only_gguf(path)
            if gguf_file is None:
                raise CheckpointError(
                    f"{path}: no tokenizer; accepted: {', '.join(TOKENIZER_FILES)}, or one .gguf file"
                )
    kwargs = {"revision": revision} if revision else {}
    kwargs |= {"gguf_file": gguf_file} if gguf_file else {}
    with _one_line(where), _quiet(also_stderr=gguf_file is not None), hub_or_cache():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            where, trust_remote_code=trust_remote_code, **kwargs
        )
        tokenizer("a text")  # a damaged tokenizer may load, and fail on its first text
    return tokenizer


def weights_fingerprint(path: str | Path) -> str:
    """A hash of the weights in a checkpoint directory. It does not depend on the division into shards.

    It reads one tensor at a time. Pickled and GGUF weights are hashed as files.

    Raises:
        CheckpointError: the weights are absent or damaged.
    """
    directory = model_directory(transformer_folder(Path(path)))
    digest = hashlib.sha256()
    files = safetensors_files(directory)
    if not files:
        others = sorted([*directory.glob("*.gguf"), *directory.glob("pytorch_model*.bin")])
        if not others:
            raise CheckpointError(f"{directory}: no weights; accepted: {ACCEPTED}")
        for file in others:
            digest.update(bytes.fromhex(file_sha256(file)))
        return digest.hexdigest()
    file_of = {name: file for file in files for name in tensor_names(file)}
    for name in sorted(file_of):
        with safe_open(file_of[name], framework="pt") as opened:
            tensor = opened.get_tensor(name)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


# --- loading ------------------------------------------------------------------------------------------------


def _check_complete(where: str, model: PreTrainedModel, info: dict[str, Any], allow_missing: bool) -> None:
    """Raises `CheckpointError` if parameters are missing from the weights or have another shape there."""
    mismatched = sorted(str(key[0]) for key in info["mismatched_keys"])
    if allow_missing:
        mismatched = [name for name in mismatched if not _in_head(model, name)]
    if mismatched:
        shapes = {str(key[0]): key[1:] for key in info["mismatched_keys"]}[mismatched[0]]
        raise CheckpointError(
            f"{where}: {mismatched[0]} is {tuple(shapes[0])} in the weights, {tuple(shapes[1])} by the config"
        )
    missing = sorted(info["missing_keys"])
    if model.base_model is model:
        missing = [name for name in missing if not name.startswith("pooler.")]
    if allow_missing:
        missing = [name for name in missing if not _in_head(model, name)]
    if missing:
        listed = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        saved = ", ".join(model.config.architectures or ["another class"])
        raise CheckpointError(
            f"{where}: the weights lack {listed} of {type(model).__name__}; they were saved from {saved}"
        )


def _check_blocks(where: str, model: PreTrainedModel, info: dict[str, Any]) -> None:
    """Raises `CheckpointError` if the weights have more blocks than the config, and some would be dropped."""
    templates = {re.sub(r"\.\d+\.", ".#.", name) for name in model.state_dict()}
    for name in sorted(map(str, info["unexpected_keys"])):
        if re.search(r"\.\d+\.", name) and re.sub(r"\.\d+\.", ".#.", name) in templates:
            raise CheckpointError(
                f"{where}: the weights hold {name}, a block beyond those that config.json names"
            )


def _in_head(model: PreTrainedModel, name: str) -> bool:
    """Whether a parameter is outside the base model or in its pooler, which is part of a head."""
    inside = name.startswith(f"{model.base_model_prefix}.")
    return not inside or ".pooler." in name


@contextlib.contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Turns an error of transformers for a bad checkpoint into a `CheckpointError` of one line."""
    try:
        yield
    except VigreuxError:
        raise
    except BaseException as error:
        # The folder is untrusted, so every exception is about it. A panic in Rust's tokenizers is not an
        # Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{where}: cannot be loaded: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The cause of the error, on one line."""
    text = " ".join(str(error).split())
    if "Weights only load failed" in text:
        return "its pickled weights are damaged, or hold more than tensors, which is never loaded"
    if "trust_remote_code" in text:
        return "it brings its own Python code, which is not run unless trust_remote_code: true"
    if "connect to" in text or "not a local folder" in text or "offline mode is enabled" in text:
        return "neither a directory nor a hub model that can be reached"
    if not text:
        return type(error).__name__
    # The messages of these classes are clear without the name of the class.
    clear = (OSError, ValueError, RuntimeError, ImportError, SafetensorError, StrictDataclassError)
    return text[:300] if isinstance(error, clear) else f"{type(error).__name__}: {text[:300]}"


@contextlib.contextmanager
def _quiet(*, also_stderr: bool) -> Iterator[None]:
    """Silences progress bars and warnings of transformers. Its GGUF reader writes to stderr."""
    verbosity = logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    transformers.utils.logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()) if also_stderr else contextlib.nullcontext():
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
