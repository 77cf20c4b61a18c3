"""The builder of a kind of task: how samples and batches are made. `TaskSpec` describes the kind itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from vigreux.config.transformer import TaskConfig
from vigreux.tasks.documents.records import MakeRecord, Record, text_record
from vigreux.tasks.documents.split import Documents
from vigreux.tasks.rows.columns import Columns
from vigreux.tasks.rows.reading import Rows
from vigreux.tasks.table import TokenTable
from vigreux.tasks.task import Collator, SequenceScores, Task


@dataclass(frozen=True)
class RunClasses:
    """The classes of a run.

    Args:
        id2label: class id → name; `None` takes the classes from the training labels.
        by_name: whether whole numbers are refused as labels, because it is unclear which model's class ids
            they are.
    """

    id2label: dict[int, str] | None = None
    by_name: bool = False


@dataclass(frozen=True)
class TaskBuilder:
    """Builds tasks of one kind from documents (a configuration) and from rows (Python).

    Args:
        from_documents: (documents, tokenizer, task section, classes) → the task.
        collator: (tokenizer, mask share) → the collator of rows that are token ids already.
        make_record: makes a record of a row of a data file.
        class_names: class id → name from the training documents, for kinds with classes.
        label_rows: (both data sets, their columns, their rows, id2label) → the tables with class ids, and
            notes; for kinds with classes.
        scores: id2label → metrics of whole sequences of predictions, for kinds that have such metrics.
    """

    from_documents: Callable[[Documents, PreTrainedTokenizerBase, TaskConfig, RunClasses], Task]
    collator: Callable[[PreTrainedTokenizerBase, float], Collator]
    make_record: MakeRecord = text_record
    class_names: Callable[[Sequence[Record]], dict[int, str]] | None = None
    label_rows: LabelRows | None = None
    scores: Callable[[Mapping[int, str]], SequenceScores] | None = None


LabelRows = Callable[
    [Sequence[Any], Sequence[Columns], Sequence[Rows], Mapping[int, str]], tuple[list[TokenTable], list[str]]
]
