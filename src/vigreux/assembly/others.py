"""Models of a run beside the final teacher: what a student starts from, and the teachers that stages load
later.

They are checked by their configs and tokenizers before the first step.
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
        meaning: what the run's models agree on.
        curriculum: whose stages name them.
        series: step → source of the teacher's checkpoints.
        trust_remote_code: run the Python code that a model brings.

    Raises:
        ConfigError: a teacher of another kind, with other classes, another tokenizer or fewer tokens; the
            message names its stage.
        CheckpointError: a config that cannot be read, or a model without a tokenizer that could have another
            than the run.
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
    """Whether a model reads the run's tokens; returns notes.

    A directory without a tokenizer is taken to have the run's where it is a checkpoint of the teacher's run,
    or where its vocabulary has the same size. A directory of weights alone is how training code often leaves
    a model.

    Args:
        meaning: with the run's tokenizer.
        source: of the model.
        config: of the model.
        where: names the model in messages.
        of_the_run: it is a checkpoint of the final teacher's run.
        options: of `load_tokenizer`.

    Raises:
        ConfigError: a token id that means another token.
        CheckpointError: no tokenizer, and a vocabulary of another size.
    """
    assert meaning.tokenizer is not None
    tokenizer = _tokenizer_of(local(source), **options)
    if tokenizer is not None:
        return same_tokenizer(meaning.tokenizer, tokenizer, where, masked=SPECS[meaning.kind].hides_tokens)
    if of_the_run:
        return []
    text: Any = config.get_text_config()
    rows, tokens = getattr(text, "vocab_size", None), len(meaning.tokenizer)
    if rows != tokens:
        raise CheckpointError(
            f"{where}: no tokenizer, and a vocabulary of {rows} tokens, where the teacher's has {tokens};"
            " accepted: a"
            " directory with its tokenizer"
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
