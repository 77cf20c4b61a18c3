"""Words and their classes: reading, alignment with tokens, rows from Python, scores of entities."""

import json

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import entities as reference
from tests.tasks.conftest import SENTENCES
from vigreux.config.transformer import TaskConfig
from vigreux.errors import ConfigError, DataError
from vigreux.tasks.build import build_task
from vigreux.tasks.evaluate import evaluate
from vigreux.tasks.kinds.token_classification import EntityScores, first_tokens
from vigreux.tasks.rows.build import tokenised_task
from vigreux.tasks.task import IGNORE
from vigreux.tasks.tokenizers import train_tokenizer

NAMES = {0: "B-SEE", 1: "I-SEE", 2: "O"}
NAMED = {"The": 2, "cat": 0, "sat": 1}
IOBES = ["O", "B-A", "I-A", "E-A", "S-A", "B-B", "I-B", "E-B", "S-B", "L-A", "U-B", "C"]


def tagged(sentence):
    words = sentence.split()
    return words, ["B-SEE" if i % 4 == 1 else "I-SEE" if i % 4 == 2 else "O" for i in range(len(words))]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def data(tmp_path):
    pairs = [tagged(sentence) for sentence in SENTENCES]
    return write(tmp_path / "data.jsonl", [{"tokens": words, "tags": tags} for words, tags in pairs])


def config(data, **settings):
    return TaskConfig(kind="token-classification", data=data, eval_share=0.2, **settings)


@pytest.mark.parametrize("tokenizer", ["wordpiece", "bpe"])
def test_each_word_has_its_label_at_its_first_token(tokenizer, data, request):
    tokenizer = request.getfixturevalue(tokenizer)
    task = build_task(config(data), tokenizer)
    assert task.id2label == NAMES
    assert task.num_labels == 3
    batch = task.collate(task.held_out_samples(range(len(task.held_out))))
    for row in range(len(task.held_out)):
        ids, labels = batch["input_ids"][row], batch["labels"][row]
        text = next(
            s
            for s in SENTENCES
            if tokenizer(s)["input_ids"] == ids[: len(tokenizer(s)["input_ids"])].tolist()
        )
        words, tags = tagged(text)
        assert [NAMES[i] for i in labels[labels != IGNORE].tolist()] == tags
        for at in torch.nonzero(labels != IGNORE).flatten().tolist():
            word = words[int((labels[:at] != IGNORE).sum())].lower()
            assert word.startswith(tokenizer.decode(ids[at : at + 1]).strip().lower().removeprefix("##"))
    assert torch.equal(task.positions(batch), batch["labels"] != IGNORE)


@given(words=st.lists(st.text("aé漢 '-.", min_size=1).filter(str.strip), min_size=1, max_size=8))
def test_the_first_tokens_of_any_words(words):
    tokenizer = train_tokenizer(SENTENCES, 300, "bpe")
    text = " ".join(words)
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    found = first_tokens(words, offsets)
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    # Slowly: the first token whose last character is one of the word's.
    expected = np.full(len(offsets), -1)
    for number, (word, start) in enumerate(zip(words, starts)):
        inside = [i for i, (a, b) in enumerate(offsets) if b > a and start <= b - 1 < start + len(word)]
        if inside:
            expected[inside[0]] = number
    assert found.tolist() == expected.tolist()


def test_words_beyond_the_length_are_counted(data, wordpiece):
    task = build_task(config(data, max_length=6), wordpiece)
    assert any("words of the training documents are not learned" in note for note in task.notes)
    assert all(len(task.train[i].inputs) <= 6 for i in range(len(task.train)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": "a b", "tags": ["O", "O"]}, "'tokens' is str; accepted: a list, one value per word"),
        ({"tokens": ["a"], "tags": "O"}, "'tags' is str; accepted: a list, one value per word"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 words and 1 labels; accepted: one label per word"),
        ({"tokens": ["a", " "], "tags": ["O", "O"]}, "word 1 is ' '; accepted: text"),
        ({"tokens": ["a", None], "tags": ["O", "O"]}, "word 1 is None; accepted: text"),
        ({"tokens": ["a"], "tags": [None]}, "the label 'tags' is missing"),
        ({"tokens": ["a"], "labels": ["O"]}, "unknown value 'tags'|no column 'tags'"),
        ({"words": ["a"], "labels": ["O"]}, "no column 'tokens'"),
    ],
)
def test_rows_that_cannot_be_read(row, message, tmp_path, wordpiece):
    path = write(tmp_path / "data.jsonl", [{"tokens": ["x"], "tags": ["O"]}, row])
    with pytest.raises(DataError, match=message) as error:
        build_task(config(path), wordpiece)
    assert "data.jsonl:2" in str(error.value)
    assert "\n" not in str(error.value)


def test_other_columns_by_name_and_numbers(tmp_path, wordpiece):
    rows = [
        {"w": sentence.split(), "ner": [i % 3 for i in range(len(sentence.split()))]}
        for sentence in SENTENCES
    ]
    path = write(tmp_path / "data.jsonl", rows)
    task = build_task(config(path, text_field="w", label_field="ner"), wordpiece, id2label=NAMES)
    assert any(
        "whole numbers and are taken as class ids: 0 B-SEE, 1 I-SEE, 2 O" in note for note in task.notes
    )
    with pytest.raises(DataError, match="labels are whole numbers, and teacher and student number"):
        build_task(config(path, text_field="w", label_field="ner"), wordpiece, id2label=NAMES, by_name=True)


def test_class_labels_of_a_data_set_go_by_name(tmp_path, wordpiece):
    features = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "I-SEE", "B-SEE"])),
        }
    )
    rows = [{"tokens": s.split(), "tags": [i % 3 for i in range(len(s.split()))]} for s in SENTENCES]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    task = build_task(config(str(tmp_path / "saved")), wordpiece, id2label=NAMES, by_name=True)
    labels = task.train[0].token_labels
    assert labels[labels != IGNORE][:3].tolist() == [2, 1, 0]


def test_data_without_words_are_refused(tmp_path, wordpiece):
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    with pytest.raises(DataError, match=r"a \.txt file has no labels"):
        build_task(config(str(tmp_path / "a.txt")), wordpiece)


def test_a_tokenizer_without_offsets_is_refused(data, wordpiece, monkeypatch):
    monkeypatch.setattr(type(wordpiece), "is_fast", False)
    with pytest.raises(ConfigError, match="needs to know where a token stands"):
        build_task(config(data), wordpiece)


# --- rows from Python ---------------------------------------------------------------------------------------

ROWS = [{"input_ids": [5, 6, 7, 8], "labels": [-100, 0, 1, 2]}, {"input_ids": [5, 9], "labels": [2, -100]}]


def test_rows_with_labels_of_tokens(wordpiece):
    task = tokenised_task("token-classification", ROWS, ROWS, wordpiece, id2label=NAMES)
    assert task.id2label == NAMES
    batch = task.collate(task.held_out_samples(range(2)))
    assert batch["labels"].tolist() == [[-100, 0, 1, 2], [2, -100, -100, -100]]
    assert task.sequence_scores is not None


def test_rows_with_class_labels_go_by_name(wordpiece):
    features = datasets.Features(
        {
            "input_ids": datasets.Sequence(datasets.Value("int64")),
            "labels": datasets.Sequence(datasets.ClassLabel(names=["O", "B-SEE", "I-SEE"])),
        }
    )
    rows = datasets.Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [0, 1, 2]}], features=features)
    task = tokenised_task("token-classification", rows, rows, wordpiece, id2label=NAMES)
    assert task.train[0].token_labels.tolist() == [2, 0, 1]
    assert any("taken by name" in note for note in task.notes)
    others = rows.cast_column("labels", datasets.Sequence(datasets.ClassLabel(names=["O", "B-X", "I-X"])))
    with pytest.raises(ConfigError, match="other classes"):
        tokenised_task("token-classification", others, others, wordpiece, id2label=NAMES)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input_ids": [5, 6]}, "no column labels or label; found input_ids"),
        ({"input_ids": [5, 6], "label": 1}, "no column labels or label"),
        ({"input_ids": [5, 6], "labels": [1]}, r"shape \(1,\); accepted: \(2,\)"),
        ({"input_ids": [5, 6], "labels": ["O", "O"]}, "is no whole number"),
    ],
)
def test_rows_without_usable_labels(row, message, wordpiece):
    with pytest.raises(DataError, match=message):
        tokenised_task("token-classification", [row], [row], wordpiece, id2label=NAMES)


# --- scores -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=12), min_size=1, max_size=5)
)
def test_entity_f1_is_that_of_the_slow_version(sequences):
    scores = EntityScores.of_classes(dict(enumerate(IOBES)))
    labels = [np.array([a for a, _ in sequence], dtype=np.int64) for sequence in sequences]
    predicted = [np.array([b for _, b in sequence], dtype=np.int64) for sequence in sequences]
    in_words = [[[IOBES[i] for i in ids] for ids in part] for part in (labels, predicted)]
    assert scores(labels, predicted)["entity_f1"] == pytest.approx(reference.f1(*in_words))


def test_entity_scores_by_hand():
    scores = EntityScores.of_classes(NAMES)
    labels = [np.array([0, 1, 2, 0]), np.array([0, 2])]
    predicted = [np.array([0, 1, 2, 2]), np.array([0, 1])]
    # 3 entities, 2 predicted, 1 right: the entity of the second sequence is too long
    assert scores(labels, predicted) == pytest.approx(
        {"entity_f1": 2 / 5, "entity_precision": 1 / 2, "entity_recall": 1 / 3}
    )
    assert scores([np.array([2])], [np.array([2])])["entity_f1"] == 0


def test_evaluation_scores_entities_of_student_and_teacher(wordpiece):
    task = tokenised_task("token-classification", ROWS, ROWS, wordpiece, id2label=NAMES)

    def perfect(batch):
        return torch.nn.functional.one_hot(batch["labels"][task.positions(batch)], 3).float() * 9

    def outside(batch):
        return torch.tensor([0.0, 0.0, 9.0]).expand(int(task.positions(batch).sum()), 3)

    for size in (1, 2):
        scores = evaluate(task, outside, perfect, batch_size=size)
        assert scores["entity_f1"] == 0
        assert scores["teacher_entity_f1"] == 1
        assert scores["accuracy"] == 0.5
        assert "perplexity" not in scores
