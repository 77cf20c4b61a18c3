"""Checks the other models of a run: the student's start, and the teachers that stages load later.

The checks read configs and tokenizers, before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from vigreux.assembly.meaning import Meaning
from vigreux.assembly.sources import local
from vigreux.assembly.token_ids import Reader, check_token_ids
from vigreux.config.task_kinds import SPECS
from vigreux.curriculum import Curriculum, TeacherRef
from vigreux.errors import CheckpointError
from vigreux.models.families import check_kind
from vigreux.models.load import TOKENIZER_FILES, load_config, load_tokenizer
from vigreux.tasks.tokenizers import same_tokenizer


def check_other_teachers(
    meaning: Meaning, curriculum: Curriculum, series: Mapping[int, str], *, trust_remote_code: bool = False
) -> list[str]:
    """Checks the teachers that stages load later; returns notes.

    Args:
        meaning: the tokens and classes of the run.
        curriculum: its stages name the teachers.
        series: step → source of the teacher's checkpoints.
        trust_remote_code: whether to run the Python code in a model's repository.

    Raises:
        ConfigError: a teacher has another kind, other classes, another tokenizer or fewer tokens; the
            message names its stage.
        CheckpointError: a config cannot be read, or a model has no tokenizer and a vocabulary of another
            size.
    """
    if not SPECS[meaning.kind].reads_tokens:
        return []
    notes: list[str] = []
    checked: set[str] = set()
    for stage in curriculum:
        source = _source(stage.teacher, series)
        if source is None or source in checked:
            continue
        checked.add(source)
        where = f"stage {stage.name!r}: teacher {source}"
        config = load_config(local(source), trust_remote_code=trust_remote_code)
        check_kind(meaning.kind, config, where)
        if (note := meaning.match(config, where).note) is not None:
            notes.append(note)
        notes += compare_tokenizer(
            meaning,
            source,
            config,
            where,
            of_the_run=stage.teacher.kind == "checkpoint",
            trust_remote_code=trust_remote_code,
        )
        check_token_ids(meaning, Reader.of_config(where, config, meaning.kind))
    return notes


def _source(ref: TeacherRef, series: Mapping[int, str]) -> str | None:
    if ref.kind == "checkpoint":
        return series.get(ref.step or 0)
    return ref.model


def compare_tokenizer(
    meaning: Meaning,
    source: str,
    config: PreTrainedConfig,
    where: str,
    *,
    of_the_run: bool = False,
    **options: Any,
) -> list[str]:
    """Checks that a model reads the run's tokens; returns notes.

    Training code often saves weights without a tokenizer. Such a model is assumed to use the run's tokenizer
    if it is a checkpoint of the teacher's run, or if its vocabulary has the same size.

    Args:
        meaning: contains the run's tokenizer.
        source: the model's directory or hub id.
        config: the model's config.
        where: names the model in messages.
        of_the_run: whether the model is a checkpoint of the final teacher's run.
        options: options of `load_tokenizer`.

    Raises:
        ConfigError: a token id stands for another token.
        CheckpointError: the model has no tokenizer, and a vocabulary of another size.
    """
    assert meaning.tokenizer is not None
    tokenizer = _tokenizer_of(local(source), **options)
    if tokenizer is not None:
        return same_tokenizer(meaning.tokenizer, tokenizer, where, masked=SPECS[meaning.kind].hides_tokens)
    if of_the_run:
        return []
    text: Any = config.get_text_config()
    rows = getattr(text, "vocab_size", None)
    tokens = len(meaning.tokenizer)
    if rows != tokens:
        raise CheckpointError(
            f"{where}: no tokenizer, and a vocabulary of {rows} tokens, where the teacher's has {tokens};"
            " accepted: a directory with its tokenizer"
        )
    return [f"{where}: has no tokenizer, and is taken to have the teacher's, of the same size"]


def _tokenizer_of(source: str, **options: Any) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a model; `None` for a directory without one."""
    path = Path(source)
    if (
        path.is_dir()
        and not any((path / name).is_file() for name in TOKENIZER_FILES)
        and not list(path.glob("*.gguf"))
    ):
        return None
    return load_tokenizer(source, **options)
