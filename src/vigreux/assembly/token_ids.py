"""Checks the token ids of a run: each has an embedding in all models, and one of them pads batches.

The attention mask hides padding, so any id with an embedding can pad. Decoders that classify are the
exception: they take the logits at the last token that is not `config.pad_token_id`, so a batch must be padded
with exactly this id.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from vigreux.assembly.meaning import Meaning, meaning_from_python
from vigreux.config.task_kinds import SPECS, AnyTaskKind
from vigreux.errors import ConfigError
from vigreux.models.families import model_class
from vigreux.tasks.kinds.language import MaskedCollator
from vigreux.tasks.table import TokenTable
from vigreux.tasks.task import Task


@dataclass(frozen=True)
class Reader:
    """A model that reads the batches.

    Args:
        where: names the model in messages.
        config: the model's config (of the text part); its `pad_token_id` may be changed.
        rows: the number of its token embeddings; `None` if unknown.
        by_padding: whether the model finds the end of a text by `config.pad_token_id`.
    """

    where: str
    config: Any
    rows: int | None
    by_padding: bool

    @classmethod
    def of_model(cls, where: str, model: Any) -> Reader:
        """The reader of a model in memory."""
        base = model.get_base_model() if hasattr(model, "get_base_model") else model  # adapters wrap it
        config = base.config
        return cls(where, config.get_text_config(), embedding_rows(base), finds_end_by_padding(type(base)))

    @classmethod
    def of_config(cls, where: str, config: PreTrainedConfig, kind: AnyTaskKind) -> Reader:
        """The reader of a model that is loaded later, from its config."""
        text: Any = config.get_text_config()
        head = model_class(SPECS[kind].auto_class)._model_mapping.get(type(config), None)
        return cls(
            where, text, getattr(text, "vocab_size", None), head is not None and finds_end_by_padding(head)
        )

    @property
    def pad_id(self) -> int | None:
        """The padding id in the config, if it has an embedding."""
        pad: int | None = getattr(self.config, "pad_token_id", None)
        return pad if pad is not None and 0 <= pad < (self.rows or pad + 1) else None


def embedding_rows(model: nn.Module) -> int | None:
    """The number of token ids with an embedding; `None` if the model has no embedding table of tokens."""
    try:
        table: Any = model.get_input_embeddings()  # type: ignore[operator]
    except (NotImplementedError, AttributeError):
        return None
    rows = getattr(table, "num_embeddings", None)
    weight = getattr(table, "weight", None)
    return rows if rows is not None or weight is None else len(weight)


def finds_end_by_padding(model: type[nn.Module]) -> bool:
    """Whether a class takes the logits at the last token that is not `config.pad_token_id`.

    The source of its `forward` names the id in this case.
    """
    try:
        source = inspect.getsource(model.forward)
    except (OSError, TypeError):
        return False
    return model.__name__.endswith("ForSequenceClassification") and "pad_token_id" in source


def settle_python(
    student: nn.Module, teacher: nn.Module | None, task: Task, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[Meaning, Task, list[str]]:
    """For models from Python: their tokens and classes, the task with its padding, and all notes so far."""
    meaning = meaning_from_python(task, tokenizer)
    notes = list(task.notes)
    if not task.spec.reads_tokens:
        return meaning, task, notes
    models = {"student": student} | ({} if teacher is None else {"teacher": teacher})
    readers = [Reader.of_model(where, model) for where, model in models.items()]
    meaning, task, of_tokens = settle_token_ids(meaning, task, readers)
    return meaning, task, notes + of_tokens


def settle_token_ids(
    meaning: Meaning, task: Task, readers: Sequence[Reader]
) -> tuple[Meaning, Task, list[str]]:
    """Checks the token ids of a task against the models that read them, and chooses the padding id.

    Args:
        meaning: the tokens and classes of the run; its tokenizer may get a padding token.
        task: a task of texts, with their ids.
        readers: student and final teacher. A model that finds the end of a text by padding gets the padding
            id in its config.

    Returns:
        `meaning` with the ids that models loaded later must have, the task with its padding, and notes.

    Raises:
        ConfigError: a token has no embedding, or the models do not agree on the padding.
    """
    tokenizer = meaning.tokenizer
    collate = task.collate
    assert tokenizer is not None
    rows = min((reader.rows for reader in readers if reader.rows is not None), default=None)
    notes: list[str] = []
    highest = _highest_id(task)
    if isinstance(collate, MaskedCollator):
        highest = max(highest, collate.mask_id)
        if rows is not None:
            collate = replace(collate, vocabulary=min(collate.vocabulary, rows))
    for reader in readers:
        if reader.rows is not None and highest >= reader.rows:
            raise ConfigError(_no_embedding(reader.where, reader.rows, highest, tokenizer))
    pad_id, of_padding = _choose_padding(task, tokenizer, readers, rows)
    notes += of_padding
    ids = max(highest, pad_id, collate.vocabulary - 1 if isinstance(collate, MaskedCollator) else 0) + 1
    if collate.pad_id != pad_id or collate is not task.collate:  # type: ignore[attr-defined]
        task = replace(task, collate=dataclasses.replace(collate, pad_id=pad_id))  # type: ignore[type-var]
    return replace(meaning, token_ids=ids, pad_id=pad_id), task, notes


def check_token_ids(meaning: Meaning, reader: Reader) -> None:
    """Raises `ConfigError` if a model that is loaded later cannot read the batches (`settle_token_ids`)."""
    if reader.rows is not None and meaning.token_ids > reader.rows:
        assert meaning.tokenizer is not None
        raise ConfigError(_no_embedding(reader.where, reader.rows, meaning.token_ids - 1, meaning.tokenizer))
    if reader.by_padding and reader.pad_id not in (None, meaning.pad_id):
        raise ConfigError(
            f"{reader.where}: its config has pad_token_id {reader.pad_id}, by which it finds the end of a"
            f" text, and batches are padded with {meaning.pad_id}; accepted: the same id"
        )


def take_padding(meaning: Meaning, model: nn.Module) -> None:
    """Sets the padding id in the config of a model that needs it to find the end of a text and has none."""
    reader = Reader.of_model("", model)
    if reader.by_padding and reader.pad_id is None and meaning.pad_id is not None:
        reader.config.pad_token_id = meaning.pad_id


def _choose_padding(
    task: Task, tokenizer: PreTrainedTokenizerBase, readers: Sequence[Reader], rows: int | None
) -> tuple[int, list[str]]:
    """The id that pads a batch, and notes. The first `rows` token ids have an embedding in all models."""
    if not any(reader.by_padding for reader in readers):
        return _hidden_padding(tokenizer, readers, rows)
    token_fits = tokenizer.pad_token_id is not None and (rows is None or tokenizer.pad_token_id < rows)
    pad = _configured_padding(readers)
    if pad is None:
        pad = _new_padding(task, tokenizer, readers[0].where, rows)
        name = tokenizer.convert_ids_to_tokens(pad)
        notes = [f"the padding token is {name!r} (id {pad}), now in the config as well"]
    else:
        where = next(reader.where for reader in readers if reader.by_padding and reader.pad_id == pad)
        if token_fits and tokenizer.pad_token_id != pad:
            raise ConfigError(
                f"{where}: its config has pad_token_id {pad}, its tokenizer pads with"
                f" {tokenizer.pad_token_id}; accepted: one id (config.pad_token_id, tokenizer.pad_token),"
                " because the model finds the end of a text by it"
            )
        notes = [] if token_fits else [f"batches are padded with id {pad}, as {where} is configured"]
    if tokenizer.pad_token_id != pad and pad in tokenizer.all_special_ids:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    for reader in readers:
        if reader.by_padding and reader.pad_id is None:
            reader.config.pad_token_id = pad
    return pad, notes


def _hidden_padding(
    tokenizer: PreTrainedTokenizerBase, readers: Sequence[Reader], rows: int | None
) -> tuple[int, list[str]]:
    """The padding id for models that need no particular one, as the attention mask hides it; and notes."""
    of_tokenizer = tokenizer.pad_token_id
    candidates = [of_tokenizer, *(reader.pad_id for reader in readers), tokenizer.eos_token_id, 0]
    pad = next(i for i in candidates if i is not None and (rows is None or i < rows))
    if of_tokenizer is None or rows is None or of_tokenizer < rows:
        return pad, []
    outside = f"the padding token {tokenizer.pad_token!r} (id {of_tokenizer}) has no embedding"
    return pad, [f"{outside}: batches are padded with id {pad}, which the attention mask hides"]


def _configured_padding(readers: Sequence[Reader]) -> int | None:
    """The padding id in the configs of models that find the end of a text by it; `None` if no config has one.

    Raises:
        ConfigError: two configs have different ids.
    """
    configured = [reader for reader in readers if reader.by_padding and reader.pad_id is not None]
    for reader in configured:
        if reader.pad_id != configured[0].pad_id:
            raise ConfigError(
                f"{reader.where}: its config has pad_token_id {reader.pad_id}, that of {configured[0].where}"
                f" {configured[0].pad_id}; accepted: the same id, because such classifiers find the end of a"
                " text by it"
            )
    return configured[0].pad_id if configured else None


def _new_padding(task: Task, tokenizer: PreTrainedTokenizerBase, where: str, rows: int | None) -> int:
    """The padding id for models that find the end of a text by it and have none in their config.

    Raises:
        ConfigError: the tokenizer has no token for it, or the texts hold this token.
    """
    pad = tokenizer.pad_token_id
    if pad is None or (rows is not None and pad >= rows):
        pad = tokenizer.eos_token_id
    if pad is None or (rows is not None and pad >= rows):
        raise ConfigError(
            f"{where}: neither its config nor its tokenizer has a padding token, and a classifier of this"
            " kind finds the end of a text by it; accepted: config.pad_token_id"
        )
    if _occurs(task, pad):
        raise ConfigError(
            f"{where}: its config has no padding token, and the tokenizer's"
            f" {tokenizer.convert_ids_to_tokens(pad)!r} stands in the texts; accepted: config.pad_token_id,"
            " of a token that no text holds"
        )
    return int(pad)


def _tables(task: Task) -> list[TokenTable]:
    """The stored texts. Synthetic samples contain only symbols of their tokenizer."""
    return [examples for examples in (task.train, task.held_out) if isinstance(examples, TokenTable)]


def _highest_id(task: Task) -> int:
    return max((int(table.tokens.max()) for table in _tables(task)), default=0)


def _occurs(task: Task, token: int) -> bool:
    return any(bool(np.any(table.tokens == token)) for table in _tables(task))


def _no_embedding(where: str, rows: int, token: int, tokenizer: PreTrainedTokenizerBase) -> str:
    name = tokenizer.convert_ids_to_tokens(token)
    return (
        f"{where}: has embeddings for {rows} tokens, and {name!r} is number {token}; accepted: a model as"
        f" large as its tokenizer, which has {len(tokenizer)} (resize_token_embeddings)"
    )
