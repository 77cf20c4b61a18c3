"""Tasks from rows that are tokenised already, against the batches that text of the same ids would give."""

import pytest
from datasets import Dataset

from vigreux.errors import ConfigError, DataError
from vigreux.tasks.rows.build import tokenised_task
from vigreux.tasks.tokenizers import train_tokenizer

TEXTS = ["the cat sat", "a dog ran over the hill", "birds sang"]
TOKENIZER = train_tokenizer(TEXTS, 80, "wordpiece")
IDS = TOKENIZER(TEXTS)["input_ids"]
ROWS = Dataset.from_dict({"input_ids": IDS, "labels": [0, 1, 1]})
TOKENS = ROWS.remove_columns("labels")
NAMES = {0: "cat", 1: "other"}


def first_batch(task):
    return next(task.eval_batches(3))


def test_causal_labels_are_the_next_tokens():
    batch = first_batch(tokenised_task("causal-lm", TOKENS, TOKENS, TOKENIZER))
    for ids, labels, row in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), IDS):
        assert ids[: len(row)] == row
        assert labels[: len(row)] == [*row[1:], -100]
        assert set(labels[len(row) :]) <= {-100}


def test_masked_labels_are_what_was_hidden():
    task = tokenised_task("masked-lm", TOKENS, TOKENS, TOKENIZER, mask_share=0.5)
    batch = first_batch(task)
    chosen = batch["labels"] != -100
    assert chosen.any(dim=1).all()
    for row, labels in zip(IDS, batch["labels"].tolist()):
        assert all(label in (-100, token) for token, label in zip(row, labels))


def test_classification_and_embedding():
    batch = first_batch(tokenised_task("classification", ROWS, ROWS, TOKENIZER, id2label=NAMES))
    assert batch["labels"].tolist() == [0, 1, 1]
    assert batch["attention_mask"].sum(1).tolist() == [len(row) for row in IDS]
    assert "labels" not in first_batch(tokenised_task("embedding", ROWS, ROWS, TOKENIZER))


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        (ROWS.select([]), "causal-lm", "eval_dataset: no rows"),
        (ROWS.remove_columns("input_ids"), "causal-lm", "eval_dataset: no column input_ids; found labels"),
        (
            ROWS.remove_columns("labels"),
            "classification",
            "eval_dataset: no column labels or label; found input_ids",
        ),
        (
            Dataset.from_dict({"input_ids": IDS, "label": [0, 1, 2]}),
            "classification",
            "row 2 has the label 2; accepted: 0 to 1",
        ),
    ],
)
def test_bad_rows(rows, kind, message):
    with pytest.raises(DataError, match=message):
        tokenised_task(kind, TOKENS if kind == "causal-lm" else ROWS, rows, TOKENIZER, id2label=NAMES)


def test_masking_needs_a_mask_token():
    with pytest.raises(ConfigError, match="needs a mask token, and this tokenizer has none"):
        tokenised_task("masked-lm", TOKENS, TOKENS, train_tokenizer(TEXTS, 300, "bpe"))
