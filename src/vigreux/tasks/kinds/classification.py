"""Text classification: one label per document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from vigreux.config.transformer import TaskConfig
from vigreux.errors import DataError, unknown
from vigreux.tasks.classes import find_class, is_generic
from vigreux.tasks.documents.sources import Record
from vigreux.tasks.documents.split import Documents
from vigreux.tasks.encoding import encode_documents, padding_id
from vigreux.tasks.kinds.base import RunClasses, TaskBuilder
from vigreux.tasks.rows.class_ids import class_ids
from vigreux.tasks.rows.columns import Columns
from vigreux.tasks.rows.reading import Rows
from vigreux.tasks.stream import Sample
from vigreux.tasks.table import TokenTable, pad_inputs
from vigreux.tasks.task import Batch, Task, stack_labels


def classification(
    documents: Documents, tokenizer: PreTrainedTokenizerBase, config: TaskConfig, classes: RunClasses
) -> Task:
    """One of C classes per document."""
    labels = read_labels(documents.train, documents.held_out, classes)
    table, cut = encode_documents(documents.train, tokenizer, config.max_length, labels.train)
    held_out, _ = encode_documents(documents.held_out, tokenizer, config.max_length, labels.held_out)
    held_out = held_out.draw(config.max_eval, config.split_seed)
    notes = (
        *documents.notes,
        f"{len(table)} training documents, {len(held_out)} held out, {len(labels.classes)} classes",
        *cut,
        *labels.notes,
    )
    collate = LabelledCollator(padding_id(tokenizer))
    return Task("classification", table, held_out, collate, table.mean_length, labels.classes, notes)


class ReadLabels(NamedTuple):
    """The class ids of training and held-out records, class id → name, and notes."""

    train: list[int]
    held_out: list[int]
    classes: dict[int, str]
    notes: tuple[str, ...]


def read_labels(train: Sequence[Record], held_out: Sequence[Record], classes: RunClasses) -> ReadLabels:
    """The class ids of records with one label each, by the run's classes or else those of the labels.

    Raises:
        DataError: a label is not a class, or `classes.by_name` refuses whole numbers. Numbers that are names
            of classes are accepted.
    """
    id2label = class_names(train) if classes.id2label is None else classes.id2label
    numbered = numbers_are_ids([*train, *held_out], id2label)
    ids = label_ids(train, id2label, numbered=numbered)
    held_ids = label_ids(held_out, id2label, numbered=numbered)
    if classes.by_name and numbered:
        raise DataError(
            f"{train[0].where}: the labels are whole numbers, and teacher and student number their classes"
            f" differently; accepted: labels by name: {', '.join(id2label.values())}"
        )
    names = [id2label[i] for i in range(len(id2label))]
    notes: tuple[str, ...] = ()
    if numbered and not is_generic(names):
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(names[:8]))
        more = " …" if len(names) > 8 else ""
        notes = (f"the labels are whole numbers and are taken as class ids: {listed}{more}",)
    return ReadLabels(ids, held_ids, id2label, notes)


@dataclass(frozen=True)
class LabelledCollator:
    """The model's inputs, padded to the batch's longest (see `pad_inputs`), and labels (B,)."""

    pad_id: int

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        inputs = pad_inputs([sample.example for sample in samples], self.pad_id)
        return inputs | {"labels": stack_labels(samples)}


def class_names(records: Sequence[Record]) -> dict[int, str]:
    """Class id → name, from the labels: sorted names, or whole numbers 0 … C − 1, which keep their value.

    Raises:
        DataError: a number is outside 0 … C − 1, with C the number of distinct labels; there is only one
            class; or the labels are scores (numbers with a fraction).
    """
    labels = {record.label for record in records}
    if len(labels) < 2:
        raise DataError(
            f"task.label_field: every document has the label {labels.pop()!r}; accepted: at least 2 classes"
        )
    scores = [record for record in records if _is_fraction(record.label)]
    if scores and all(_is_number(label) for label in labels):
        raise DataError(
            f"{scores[0].where}: label {scores[0].label!r} is a score; accepted: the name or number of a"
            " class"
        )
    if all(isinstance(label, int) for label in labels):
        classes = {i: str(i) for i in range(len(labels))}
        label_ids(records, classes)  # raises if a number is outside
        return classes
    return dict(enumerate(sorted(str(label) for label in labels)))


def label_ids(
    records: Sequence[Record], classes: dict[int, str], *, numbered: bool | None = None
) -> list[int]:
    """The class id of each record: by name without regard to case; whole numbers as `numbers_are_ids` says.

    Args:
        records: records with labels.
        classes: class id → name.
        numbered: the result of `numbers_are_ids`; by default, that of these records.

    Raises:
        DataError: a name is not a class, or a number is not a class id.
    """
    ids = {name: i for i, name in classes.items()}
    if numbered is None:
        numbered = numbers_are_ids(records, classes)
    cache: dict[str, int | None] = {}
    return [_label_id(record, ids, not numbered, cache) for record in records]


def numbers_are_ids(records: Sequence[Record], classes: dict[int, str]) -> bool:
    """Whether whole numbers among the labels are ids. They can also be names, such as stars 1 to 5."""
    ids = {name: i for i, name in classes.items()}
    numbers = {record.label for record in records if isinstance(record.label, int)}
    return bool(numbers) and all(ids.get(str(number), number) == number for number in numbers)


def _label_id(record: Record, ids: dict[str, int], by_name: bool, cache: dict[str, int | None]) -> int:
    if by_name or isinstance(record.label, str):
        name = str(record.label)
        if name not in cache:
            cache[name] = find_class(name, ids)
        class_id = cache[name]
        if class_id is None:
            raise DataError(f"{record.where}: {unknown('label', record.label, ids)}")
        return class_id
    assert isinstance(record.label, int)
    if not 0 <= record.label < len(ids):
        raise DataError(f"{record.where}: label {record.label}; accepted: 0 to {len(ids) - 1}")
    return record.label


def _is_number(label: object) -> bool:
    try:
        return label is not None and math.isfinite(float(str(label)))
    except ValueError:
        return False


def _is_fraction(label: object) -> bool:
    return _is_number(label) and not float(str(label)).is_integer()


def _label_rows(
    data: Sequence[Any], columns: Sequence[Columns], rows: Sequence[Rows], id2label: Mapping[int, str]
) -> tuple[list[TokenTable], list[str]]:
    """The tables of both data sets with a class id for each row."""
    labels, notes = class_ids(data, columns, rows, id2label)
    return [replace(data_rows.table, labels=ids) for data_rows, ids in zip(rows, labels)], notes


CLASSIFICATION = TaskBuilder(
    from_documents=classification,
    collator=lambda tokenizer, mask_share: LabelledCollator(padding_id(tokenizer)),
    class_names=class_names,
    label_rows=_label_rows,
)
