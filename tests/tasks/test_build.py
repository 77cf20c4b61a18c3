"""From configuration to task, on files."""

import json

import pytest

from tests.tasks.conftest import SENTENCES
from vigreux.config.transformer import TaskConfig
from vigreux.errors import ConfigError, DataError
from vigreux.tasks.build import build_task, read_documents


@pytest.fixture
def data(tmp_path):
    rows = [{"text": f"{SENTENCES[i % 6]} {i}", "label": "ab"[i % 2]} for i in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "eval.jsonl").write_text(
        "\n".join(json.dumps({**row, "text": row["text"].upper()}) for row in rows[:10])
    )
    return tmp_path


@pytest.mark.parametrize("kind", ["causal-lm", "masked-lm", "classification", "embedding"])
def test_every_kind(kind, data, wordpiece):
    task = build_task(
        TaskConfig(kind=kind, data=str(data / "train.jsonl"), max_length=32, eval_share=0.25), wordpiece
    )
    assert task.kind == kind
    assert task.id2label == ({0: "a", 1: "b"} if kind == "classification" else None)
    assert len(task.held_out) > 0
    batch = task.collate(list(task.stream(0, 0, 4)))
    assert len(batch["input_ids"]) == 4
    assert ("labels" in batch) == (kind != "embedding")


def test_teachers_classes(data, wordpiece):
    config = TaskConfig(kind="classification", data=str(data / "train.jsonl"))
    assert build_task(config, wordpiece, id2label={0: "b", 1: "c", 2: "a"}).num_labels == 3
    with pytest.raises(DataError, match=r"train.jsonl:1: label: unknown value 'a'; accepted: yes, no"):
        build_task(config, wordpiece, id2label={0: "yes", 1: "no"})


def test_split_of_one_source(data):
    documents = read_documents(TaskConfig(data=str(data / "train.jsonl"), eval_share=0.25, max_train=12))
    assert (len(documents.train), len(documents.held_out)) == (12, 10)
    assert documents.notes == (f"{data / 'train.jsonl'}: the column 'label' is not used",)
    assert not {r.text for r in documents.train} & {r.text for r in documents.held_out}


def test_held_out_data_of_its_own(data):
    config = TaskConfig(data=str(data / "train.jsonl"), eval_data=str(data / "eval.jsonl"))
    documents = read_documents(config)
    assert (len(documents.train), len(documents.held_out)) == (40, 10)
    assert [note.rsplit(": ")[1] for note in documents.notes] == ["the column 'label' is not used"] * 2


def test_several_sources_follow_one_another(data):
    both = [str(data / "train.jsonl"), str(data / "eval.jsonl")]
    documents = read_documents(TaskConfig(data=both, eval_share=0.2))
    assert (len(documents.train), len(documents.held_out)) == (40, 10)
    with pytest.raises(
        ConfigError, match=r"task.data: 'grammar:cfg3b' among other sources; accepted: a law alone"
    ):
        read_documents(TaskConfig(data=[both[0], "grammar:cfg3b"]))


def test_held_out_data_that_overlaps(data):
    path = str(data / "train.jsonl")
    with pytest.raises(DataError, match=r"task.eval_data: 40 of 40 held-out documents also occur"):
        read_documents(TaskConfig(data=path, eval_data=path))
    allowed = read_documents(TaskConfig(data=path, eval_data=path, allow_overlap=True))
    assert allowed.notes[-1] == "40 of 40 held-out documents also occur in the training data"
    assert len(allowed.notes) == 2  # the column that is not used is said of the file once
    assert len(allowed.train) == len(allowed.held_out) == 40


def test_labels_are_read_for_classification_alone(tmp_path, wordpiece):
    (tmp_path / "a.txt").write_text("\n\n".join(SENTENCES))
    config = {"data": str(tmp_path / "a.txt"), "max_length": 16}
    assert len(build_task(TaskConfig(kind="masked-lm", **config), wordpiece).train) > 1
    with pytest.raises(DataError, match=r"a \.txt file has no labels"):
        build_task(TaskConfig(kind="classification", **config), wordpiece)
