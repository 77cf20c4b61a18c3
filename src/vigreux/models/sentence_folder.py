"""Folders of sentence-transformers: `modules.json` lists the modules that compute an embedding.

The Transformer module is a model of transformers. JSON files beside it describe the modules after it
(pooling, dense layers, normalisation) and the preprocessing (prompts, lower case, a maximum length).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigreux.curriculum import Pooling
from vigreux.downloads.hub import hub_or_cache
from vigreux.errors import CheckpointError

MODULES = "modules.json"
_LARGEST = 1_000_000  # bytes of a file that describes modules
_POOLINGS: dict[str, Pooling] = {
    "cls": "cls",
    "cls_token": "cls",
    "mean": "mean",
    "mean_tokens": "mean",
    "lasttoken": "last",
}
_WITHOUT_EFFECT = ("Normalize", "Dropout")  # modules that do not change the direction of an embedding


@dataclass(frozen=True)
class SentenceFolder:
    """The description of embeddings in a folder.

    Args:
        source: the folder, or the hub id.
        pooling: how token states become one vector; `None` if Vigreux does not have this pooling.
        poolings: the folder's names of the pooling.
        others: types of modules after the pooling that change the embedding (a dense layer).
        normalised: whether the vectors have length 1.
        max_length: maximum number of tokens in a text.
        preprocessing: notes on preprocessing in sentence-transformers that Vigreux does not do.
    """

    source: str
    pooling: Pooling | None
    poolings: tuple[str, ...]
    others: tuple[str, ...]
    normalised: bool
    max_length: int | None
    preprocessing: tuple[str, ...]

    def pooling_or_refuse(self) -> Pooling:
        """The pooling, if only pooling and normalisation follow the model.

        Raises:
            CheckpointError: the pooling is another one, or other modules follow.
        """
        if self.others:
            raise CheckpointError(
                f"{self.source}: {', '.join(self.others)} follows the pooling and is not read;"
                " accepted: Transformer, Pooling, Normalize, or an explicit task.pooling, which trains on the"
                " pooled states before it"
            )
        if self.pooling is None:
            poolings = " and ".join(self.poolings) or "none"
            raise CheckpointError(
                f"{self.source}: its pooling is {poolings};"
                " accepted: cls, mean, lasttoken, or an explicit task.pooling"
            )
        return self.pooling

    def notes(self, pooling: Pooling) -> list[str]:
        """Notes for the user about embeddings that are pooled by `pooling`."""
        lines = list(self.preprocessing)
        if self.others:
            lines.append(f"{', '.join(self.others)} behind the pooling is left out: task.pooling is given")
        if self.pooling != pooling:
            poolings = " and ".join(self.poolings) or "none"
            lines.append(f"the folder's pooling is {poolings}, and {pooling} is used, as asked")
        if self.normalised:
            lines.append("the teacher's vectors have length 1, the student's do not: compare them by cosine")
        return [f"{self.source}: {line}" for line in lines]


def transformer_folder(path: Path) -> Path:
    """The folder of the transformer: `path`, or in the older layout a subfolder (`modules.json`)."""
    try:
        if (path / "config.json").exists():
            return path
        inside = path / "0_Transformer"
        if (path / MODULES).is_file():
            inside = path / _relative(_modules(_read(path, MODULES), path / MODULES)[0], path / MODULES)
        return inside if (inside / "config.json").exists() else path
    except OSError:  # the name is too long, or a folder may not be entered; opening it reports this
        return path


def read_sentence_folder(source: str, *, revision: str | None = None) -> SentenceFolder | None:
    """Reads the description of embeddings in a local folder or hub model.

    Returns:
        The description, or `None` if the folder is not of sentence-transformers.

    Raises:
        CheckpointError: a file in it is damaged, or its first module is not a transformer.
    """
    if os.path.isdir(source) and not (Path(source) / MODULES).is_file():
        source = str(transformer_folder(Path(source)))
    where = f"{source}/{MODULES}"
    plain = _find(source, MODULES, revision)
    if plain is None:
        return None
    modules = _modules(plain, where)
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    if kinds[0] != "Transformer":
        raise CheckpointError(f"{where}: its first module is {kinds[0] or 'unnamed'}; accepted: Transformer")
    names: tuple[str, ...] = ()
    if "Pooling" in kinds:
        config = f"{_relative(modules[kinds.index('Pooling')], where)}/config.json"
        names = _pooling_names(_mapping(_find(source, config, revision), f"{source}/{config}"))
    transformer = _relative(modules[0], where)
    settings = _find(source, f"{transformer}/sentence_bert_config.json".lstrip("/"), revision)
    prompt_settings = _find(source, "config_sentence_transformers.json", revision)
    settings = _mapping(settings or {}, f"{source}/sentence_bert_config.json")
    prompt_settings = _mapping(prompt_settings or {}, f"{source}/config_sentence_transformers.json")
    length = settings.get("max_seq_length")
    return SentenceFolder(
        source=source,
        pooling=_POOLINGS.get(names[0]) if len(names) == 1 else None,
        poolings=names,
        others=tuple(kind for kind in kinds[1:] if kind not in ("Pooling", *_WITHOUT_EFFECT)),
        normalised="Normalize" in kinds,
        max_length=length if type(length) is int and length > 0 else None,
        preprocessing=_preprocessing_notes(settings, prompt_settings),
    )


def _preprocessing_notes(settings: dict[str, Any], prompt_settings: dict[str, Any]) -> tuple[str, ...]:
    """Notes on preprocessing that sentence-transformers does and Vigreux does not."""
    lines = []
    prompts = prompt_settings.get("prompts")
    default = prompt_settings.get("default_prompt_name")
    if isinstance(prompts, dict) and any(prompts.values()):
        names = ", ".join(f"{name} {str(text)[:40]!r}" for name, text in list(prompts.items())[:4] if text)
        usual = f", of which {default!r} is its default" if default else ""
        lines.append(f"no prompt is put before the texts (the folder has {names}{usual})")
    if settings.get("do_lower_case"):
        lines.append("texts are not put into lower case first (the folder's do_lower_case)")
    return tuple(lines)


def _pooling_names(config: dict[str, Any]) -> tuple[str, ...]:
    """The names of the active poolings. The vectors of several poolings are concatenated."""
    mode = config.get("pooling_mode")
    if isinstance(mode, str):
        return (mode,)
    prefix = "pooling_mode_"
    return tuple(
        name.removeprefix(prefix) for name, on in config.items() if name.startswith(prefix) and on is True
    )


# --- reading ------------------------------------------------------------------------------------------------


def _find(source: str, name: str, revision: str | None) -> Any:
    """The content of a JSON file in a folder or hub model; `None` if the file does not exist."""
    if os.path.isdir(source):
        return _read(Path(source), name) if (Path(source) / name).is_file() else None
    from transformers.utils import cached_file

    try:
        with hub_or_cache():
            path = cached_file(
                source,
                name,
                revision=revision,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
                _raise_exceptions_for_gated_repo=False,
            )
    except (OSError, ValueError):  # the model does not exist; loading it reports this
        return None
    return None if path is None else _read(Path(path).parent, Path(path).name)


def _read(folder: Path, name: str) -> Any:
    path = folder / name
    try:
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(
                f"{path}: has {path.stat().st_size:,} bytes; accepted: at most {_LARGEST:,}"
            )
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is damaged ({' '.join(str(error).split())[:200]})") from error


def _modules(plain: Any, where: Any) -> list[dict[str, Any]]:
    if not isinstance(plain, list) or not plain or not all(isinstance(module, dict) for module in plain):
        raise CheckpointError(
            f"{where}: is damaged; accepted: a list of modules, each with a path and a type"
        )
    return plain


def _mapping(plain: Any, where: str) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise CheckpointError(f"{where}: is missing or damaged; accepted: a JSON object")
    return plain


def _relative(module: dict[str, Any], where: Any) -> str:
    """The module's folder, relative to the model's folder."""
    path = module.get("path", "")
    if not isinstance(path, str) or path.startswith("/") or ".." in Path(path).parts:
        raise CheckpointError(f"{where}: path {path!r}; accepted: a folder inside the model's")
    return path
