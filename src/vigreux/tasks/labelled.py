"""Text classification: one document, one label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from vigreux.config import TaskConfig
from vigreux.errors import DataError, unknown
from vigreux.tasks.encoding import encode_documents, padding_id
from vigreux.tasks.reading import Record
from vigreux.tasks.split import Documents
from vigreux.tasks.stream import Sample
from vigreux.tasks.table import pad_inputs
from vigreux.tasks.task import Batch, Task, stack_labels


def classification(
    documents: Documents,
    tokenizer: PreTrainedTokenizerBase,
    config: TaskConfig,
    id2label: dict[int, str] | None,
) -> Task:
    """One of C classes a document. The classes are `id2label` (the teacher's) where given, else those of the training labels."""
    classes = class_names(documents.train) if id2label is None else id2label
    labels, held_labels = label_ids(documents.train, classes), label_ids(documents.held_out, classes)
    table, cut = encode_documents(documents.train, tokenizer, config.max_length, labels)
    held, _ = encode_documents(documents.held_out, tokenizer, config.max_length, held_labels)
    held = held.draw(config.max_eval, config.split_seed)
    notes = (
        *documents.notes,
        f"{len(table)} training documents, {len(held)} held out, {len(classes)} classes",
        *cut,
    )
    collate = LabelledCollator(padding_id(tokenizer))
    return Task("classification", table, held, collate, table.mean_length, classes, notes)


@dataclass(frozen=True)
class LabelledCollator:
    """The model's inputs, padded to the batch's longest (see `pad_inputs`), and labels (B,)."""

    pad_id: int

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        inputs = pad_inputs([sample.example for sample in samples], self.pad_id)
        return inputs | {"labels": stack_labels(samples)}


def class_names(records: Sequence[Record]) -> dict[int, str]:
    """Class id → name, from the labels: names sorted, or whole numbers 0 … C − 1, which keep their value.

    Raises:
        DataError: a number outside 0 … C − 1, C the number of different labels; or a single class.
    """
    labels = {record.label for record in records}
    if len(labels) < 2:
        raise DataError(
            f"task.label_field: every document has the label {labels.pop()!r}; accepted: at least 2 classes"
        )
    if all(isinstance(label, int) for label in labels):
        classes = {i: str(i) for i in range(len(labels))}
        label_ids(records, classes)  # complains about the record that has a number outside
        return classes
    return dict(enumerate(sorted(str(label) for label in labels)))


def label_ids(records: Sequence[Record], classes: dict[int, str]) -> list[int]:
    """The class id of each record: by name; whole numbers are ids, unless one is the name of another class (stars 1 to 5).

    Raises:
        DataError: a name that is not among the classes, a number that is not among their ids.
    """
    ids = {name: i for i, name in classes.items()}
    by_name = any(ids.get(str(record.label), record.label) != record.label for record in records)
    return [_label_id(record, ids, by_name) for record in records]


def _label_id(record: Record, ids: dict[str, int], by_name: bool) -> int:
    if by_name or isinstance(record.label, str):
        if str(record.label) not in ids:
            raise DataError(f"{record.where}: {unknown('label', record.label, ids)}")
        return ids[str(record.label)]
    assert isinstance(record.label, int)
    if not 0 <= record.label < len(ids):
        raise DataError(f"{record.where}: label {record.label}; accepted: 0 to {len(ids) - 1}")
    return record.label
