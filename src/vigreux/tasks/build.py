"""Builds a task from its configuration: reads, splits, checks and tokenises the data."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from vigreux.config.transformer import TaskConfig
from vigreux.errors import ConfigError
from vigreux.tasks.documents.records import Record
from vigreux.tasks.documents.sources import read_with_notes
from vigreux.tasks.documents.split import Documents, check_overlap, draw_records, split_records
from vigreux.tasks.kinds.base import RunClasses
from vigreux.tasks.kinds.registry import BUILDERS
from vigreux.tasks.synthetic.build import generated_task, is_generated
from vigreux.tasks.task import Task


def build_task(
    config: TaskConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    id2label: dict[int, str] | None = None,
    documents: Documents | None = None,
    by_name: bool = False,
) -> Task:
    """Reads the documents and builds the task that `config` describes.

    Args:
        config: kind, data, lengths and split.
        tokenizer: the tokenizer of teacher and student.
        id2label: the classes, for kinds with classes; `None` takes them from the training labels.
        documents: the result of `read_documents(config)`, if it is available.
        by_name: whether whole numbers are refused as labels.

    Raises:
        DataError: the data cannot be read, split or labelled, or held-out documents occur in the training
            data (see `allow_overlap`).
        ConfigError: the tokenizer or the length does not fit the kind.
    """
    if is_generated(config.data):
        return generated_task(config, tokenizer)
    if documents is None:
        documents = read_documents(config)
    classes = RunClasses(id2label, by_name)
    return BUILDERS[config.kind].from_documents(documents, tokenizer, config, classes)


def read_documents(config: TaskConfig) -> Documents:
    """Training and held-out documents of the configuration."""
    records, notes = _read_all(config.data, config)
    if config.eval_data is None:
        train, held_out = split_records(records, config.eval_share, config.split_seed)
        return Documents(draw_records(train, config.max_train, config.split_seed), held_out, tuple(notes))
    held_out, held_notes = _read_all(config.eval_data, config)
    train = draw_records(records, config.max_train, config.split_seed)
    overlap = check_overlap(train, held_out, allow=config.allow_overlap)
    notes = list(dict.fromkeys([*notes, *held_notes]))
    return Documents(train, held_out, (*notes, *([] if overlap is None else [overlap])))


def _read_all(sources: str | list[str], config: TaskConfig) -> tuple[list[Record], list[str]]:
    """The documents of one or several sources in order, and notes."""
    if isinstance(sources, str):
        sources = [sources]
    for source in sources:
        if is_generated(source):
            raise ConfigError(
                f"task.data: {source!r} among other sources; accepted: a law alone, or documents"
            )
    text_field, label_field = config.columns
    make_record = BUILDERS[config.kind].make_record
    records: list[Record] = []
    notes: list[str] = []
    for source in sources:
        documents, of_source = read_with_notes(source, text_field, label_field, make_record)
        records += documents
        notes += of_source
    return records, notes
