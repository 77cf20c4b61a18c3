"""Token classification (named entities, for example): one class per word, predicted at its first token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from vigreux.config.transformer import TaskConfig
from vigreux.errors import ConfigError, DataError
from vigreux.tasks.documents.records import Columns, Record, checked, read_label
from vigreux.tasks.documents.split import Documents
from vigreux.tasks.encoding import padding_id
from vigreux.tasks.kinds.base import RunClasses, TaskBuilder
from vigreux.tasks.kinds.classification import class_names, read_labels
from vigreux.tasks.kinds.language import pad_token_labels
from vigreux.tasks.rows.class_ids import match_names
from vigreux.tasks.rows.columns import Columns as RowColumns
from vigreux.tasks.rows.reading import Rows
from vigreux.tasks.stream import Sample
from vigreux.tasks.table import TokenTable, pad_inputs
from vigreux.tasks.task import IGNORE, Batch, Task

_AT_ONCE = 1000  # documents that are tokenised together

# --- documents ----------------------------------------------------------------------------------------------


def words_record(row: Mapping[str, Any], columns: Columns, where: str) -> Iterator[Record]:
    """A document from a list of words and a list of their labels; an empty list gives none.

    Raises:
        DataError: a value is not a list, the lists have different lengths, or a word is empty.
    """
    words = row[columns.text]
    labels = row[columns.label or ""]
    for name, values in ((columns.text, words), (columns.label, labels)):
        if not isinstance(values, list):
            raise DataError(
                f"{where}: {name!r} is {type(values).__name__}; accepted: a list, one value per word"
            )
    if len(words) != len(labels):
        raise DataError(f"{where}: {len(words)} words and {len(labels)} labels; accepted: one label per word")
    for i, word in enumerate(words):
        if not isinstance(word, str) or not word.strip():
            raise DataError(
                f"{where}: word {i} is {word!r}; accepted: text with a character other than a space"
            )
    if words:
        text = checked(" ".join(words), where)
        yield Record(
            text, None, where, tuple(words), tuple(read_label(label, columns, where) for label in labels)
        )


def token_classification(
    documents: Documents, tokenizer: PreTrainedTokenizerBase, config: TaskConfig, classes: RunClasses
) -> Task:
    """One of C classes per word; spaces join the words of a document.

    Raises:
        ConfigError: the tokenizer does not return the positions of its tokens in the text.
        DataError: a document has no words, or a label is not a class.
    """
    if not tokenizer.is_fast:
        raise ConfigError(
            f"task.kind: token-classification needs to know where a token stands in its text, which a"
            f" {type(tokenizer).__name__} does not say; accepted: a model with a tokenizer.json"
        )
    labels = read_labels(_word_records(documents.train), _word_records(documents.held_out), classes)
    train = _encode(documents.train, labels.train, tokenizer, config.max_length)
    held_out = _encode(documents.held_out, labels.held_out, tokenizer, config.max_length)
    eval_table = held_out.table.draw(config.max_eval, config.split_seed)
    notes = [*documents.notes]
    notes.append(
        f"{len(train.table)} training documents, {len(eval_table)} held out, {len(labels.classes)} classes"
    )
    notes += labels.notes
    if train.unlabelled:
        notes.append(
            f"{train.unlabelled} of {len(labels.train)} words of the training documents are not learned: they"
            f" lie beyond task.max_length {config.max_length}, or the tokenizer has no token for them"
        )
    return Task(
        "token-classification",
        train.table,
        eval_table,
        TokenClassCollator(padding_id(tokenizer)),
        train.table.mean_length,
        labels.classes,
        tuple(notes),
        sequence_scores=EntityScores.of_classes(labels.classes),
    )


def _word_records(records: Sequence[Record]) -> list[Record]:
    """A record of each word, with its label."""
    for record in records:
        if not record.words:
            raise DataError(
                f"{record.where}: has no words with labels; accepted: rows of words and their labels"
            )
    return [
        Record(word, label, record.where)
        for record in records
        for word, label in zip(record.words, record.word_labels)
    ]


@dataclass(frozen=True)
class _Encoded:
    """Documents as token ids with a label at each word's first token.

    Args:
        table: the documents.
        unlabelled: the number of words without a token.
    """

    table: TokenTable
    unlabelled: int


def _encode(
    records: Sequence[Record], labels: Sequence[int], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> _Encoded:
    """Tokenises each text as a whole, as users of the model do; `labels` are those of all words in order."""
    ids: list[list[int]] = []
    token_labels: list[np.ndarray] = []
    first = 0
    for start in range(0, len(records), _AT_ONCE):
        batch = records[start : start + _AT_ONCE]
        encoded = tokenizer(
            [record.text for record in batch],
            truncation=True,
            max_length=max_length,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        for record, row, offsets in zip(batch, encoded["input_ids"], encoded["offset_mapping"]):
            words = first_tokens(record.words, offsets)
            classes = np.asarray(labels[first : first + len(record.words)], dtype=np.int64)
            token_labels.append(np.where(words < 0, IGNORE, classes[words]))
            ids.append(row)
            first += len(record.words)
    labelled = sum(int((row != IGNORE).sum()) for row in token_labels)
    return _Encoded(TokenTable.of_rows(ids, token_labels=token_labels), len(labels) - labelled)


def first_tokens(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """(n,) the word whose first token each token is, −1 for other tokens.

    Args:
        words: the words of a text that joins them by spaces.
        offsets: (start, end) of each token in the text, (0, 0) for special tokens.
    """
    ends = np.cumsum([len(word) + 1 for word in words])  # the end of each word, with the space after it
    first_of = np.full(len(offsets), -1)
    last = -1
    for i, (start, end) in enumerate(offsets):
        if end <= start:
            continue
        # A token of byte-level BPE can begin with the space before its word. So its last character decides.
        word = int(np.searchsorted(ends, end - 1, side="right"))
        is_space = end == ends[word]
        if word > last and not is_space:
            first_of[i] = word
            last = word
    return first_of


@dataclass(frozen=True)
class TokenClassCollator:
    """The model's padded inputs (see `pad_inputs`), and labels (B, T), −100 for no label."""

    pad_id: int

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        examples = [sample.example for sample in samples]
        inputs = pad_inputs(examples, self.pad_id)
        labels = pad_token_labels(examples)
        return inputs if labels is None else inputs | {"labels": labels}


# --- rows from Python ---------------------------------------------------------------------------------------


def _label_rows(
    data: Sequence[Any], columns: Sequence[RowColumns], rows: Sequence[Rows], id2label: Mapping[int, str]
) -> tuple[list[TokenTable], list[str]]:
    """The tables with the student's class ids. A `ClassLabel` with names is matched by its names."""
    names = [id2label[i] for i in range(len(id2label))]
    ids = {name: i for i, name in enumerate(names)}
    tables: list[TokenTable] = []
    notes: list[str] = []
    for where, data_set, data_columns, data_rows in zip(
        ("train_dataset", "eval_dataset"), data, columns, rows
    ):
        table = data_rows.table
        column = data_columns.labels[0]
        feature = (getattr(data_set, "features", None) or {}).get(column)
        class_labels = getattr(getattr(feature, "feature", None), "names", None)
        if class_labels:
            matched, of_names = match_names(f"{where}: {column}", class_labels, names)
            notes += of_names
            if matched is not None and table.token_labels is not None:
                order = np.array([ids[name] for name in matched])
                _check_range(where, table, len(order))
                labels = table.token_labels
                table = replace(table, token_labels=np.where(labels == IGNORE, IGNORE, order[labels]))
        tables.append(table)
    return tables, list(dict.fromkeys(notes))


def _check_range(where: str, table: TokenTable, classes: int) -> None:
    """Raises `DataError` for a label that the data set itself has no class for."""
    labels = table.token_labels
    if labels is None:
        return
    wrong = np.flatnonzero((labels != IGNORE) & ((labels < 0) | (labels >= classes)))
    if len(wrong):
        row = int(np.searchsorted(table.ends, wrong[0], side="right"))
        raise DataError(
            f"{where}: row {row}: labels: {labels[wrong[0]]}; accepted: 0 to {classes - 1}, and −100"
        )


# --- entities -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EntityScores:
    """Precision, recall and F1 of entities. An entity is correct if its words and its type are correct.

    Class names have a prefix and a type (B-PER): B and S begin an entity, E and S end it, O is outside.
    An entity also begins where the one before it ended or its type changes, as in conlleval (Tjong Kim Sang
    and De Meulder 2003) and in the default mode of seqeval. L and U are read as E and S (BILOU), which
    seqeval does in its strict mode alone. A class without a prefix (PER) is inside an entity of that type.
    Without any entity the scores are 0.

    Args:
        types: (C,) the number of each class's type; −1 outside.
        begins: (C,) bool, the classes that begin an entity.
        ends: (C,) bool, the classes that end one.
    """

    types: np.ndarray
    begins: np.ndarray
    ends: np.ndarray

    @classmethod
    def of_classes(cls, id2label: Mapping[int, str]) -> EntityScores:
        """The scores for classes with these names."""
        prefixes = []
        types = []
        for i in range(len(id2label)):
            prefix, dash, entity = id2label[i].partition("-")
            if not dash or prefix.upper() not in tuple("BIESLU"):
                prefix = "I"
                entity = id2label[i]
            prefixes.append(prefix.upper())
            types.append(None if id2label[i].upper() == "O" else entity)
        numbers = {entity: number for number, entity in enumerate(dict.fromkeys(types))}
        return cls(
            np.array([-1 if entity is None else numbers[entity] for entity in types]),
            np.array([prefix in ("B", "S", "U") for prefix in prefixes]),
            np.array([prefix in ("E", "S", "L", "U") for prefix in prefixes]),
        )

    def __call__(self, labels: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> dict[str, float]:
        """The scores over all samples, from the class ids (n,) of each sample."""
        expected = self.entities(labels)
        predictions = self.entities(predicted)
        right = len(expected & predictions)
        return {
            "entity_f1": 2 * right / max(len(expected) + len(predictions), 1),
            "entity_precision": right / max(len(predictions), 1),
            "entity_recall": right / max(len(expected), 1),
        }

    def entities(self, sequences: Sequence[np.ndarray]) -> set[tuple[int, int, int]]:
        """(first position, position after the last, type) of each entity, in the joined sequences."""
        gap = np.array([-1])  # an outside position after each sequence, so that no entity crosses its end
        row = np.concatenate([gap, *(ids for sequence in sequences for ids in (sequence, gap))])
        types = np.where(row < 0, -1, self.types[row])
        inside = types >= 0
        starts = inside[1:] & (
            ~inside[:-1] | self.begins[row[1:]] | self.ends[row[:-1]] | (types[1:] != types[:-1])
        )
        first = np.flatnonzero(starts) + 1
        borders = np.flatnonzero(starts | ~inside[1:]) + 1  # the positions that end an entity before them
        behind = borders[np.searchsorted(borders, first, side="right")]
        return set(zip(first.tolist(), behind.tolist(), types[first].tolist()))


def _class_names(records: Sequence[Record]) -> dict[int, str]:
    """Class id → name, from the labels of the words."""
    return class_names(_word_records(records))


TOKEN_CLASSIFICATION = TaskBuilder(
    from_documents=token_classification,
    collator=lambda tokenizer, mask_share: TokenClassCollator(padding_id(tokenizer)),
    make_record=words_record,
    class_names=_class_names,
    label_rows=_label_rows,
    scores=EntityScores.of_classes,
)
