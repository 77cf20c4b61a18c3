"""Classification: labels to ids, cutting, padding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks.conftest import SENTENCES
from vigreux.config.transformer import TaskConfig
from vigreux.errors import DataError
from vigreux.tasks.documents.sources import Record
from vigreux.tasks.documents.split import Documents
from vigreux.tasks.kinds.base import RunClasses
from vigreux.tasks.kinds.classification import class_names, classification, label_ids


def records(labels) -> list[Record]:
    return [Record(SENTENCES[i % 6], label, f"a.csv:{i + 2}") for i, label in enumerate(labels)]


# --- classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["b", "a", "b"], {0: "a", 1: "b"}),
        ([1, 0, 1, 2], {0: "0", 1: "1", 2: "2"}),
        ([1, "good", 1], {0: "1", 1: "good"}),
    ],
)
def test_classes_of_the_data(labels, classes):
    assert class_names(records(labels)) == classes
    assert [classes[i] for i in label_ids(records(labels), classes)] == [str(label) for label in labels]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 1], r"a.csv:3: label 2; accepted: 0 to 1"),  # 0 and 1 are the nearest that are accepted
        ([0, 1, -1], r"a.csv:4: label -1; accepted: 0 to 2"),
        (["a", "a"], r"task.label_field: every document has the label 'a'; accepted: at least 2 classes"),
    ],
)
def test_labels_that_make_no_classes(labels, message):
    with pytest.raises(DataError, match=message):
        class_names(records(labels))


def test_names_of_the_teacher():
    teacher = {0: "sport", 1: "politics"}
    assert label_ids(records(["politics", "sport"]), teacher) == [1, 0]
    assert label_ids(records([1, 0]), teacher) == [1, 0]
    with pytest.raises(
        DataError,
        match=r"a.csv:3: label: unknown value 'politic'; did you mean 'politics'\? accepted: sport, po",
    ):
        label_ids(records(["sport", "politic"]), teacher)
    with pytest.raises(DataError, match=r"a.csv:3: label 2; accepted: 0 to 1"):
        label_ids(records([1, 2]), teacher)


def test_numbers_that_are_names_of_other_ids():
    stars = {0: "1", 1: "2", 2: "3"}
    assert label_ids(records([1, 3, 2]), stars) == [0, 2, 1]
    with pytest.raises(DataError, match=r"a.csv:3: label: unknown value '0'; accepted: 1, 2, 3"):
        label_ids(records([1, 0]), stars)


def test_labels_are_names_case_aside():
    assert label_ids(records(["Sport", "POLITICS "]), {0: "sport", 1: "Politics"}) == [0, 1]


def test_whether_numbers_are_ids_is_one_decision_for_all_records(wordpiece):
    swapped = {0: "0", 1: "2", 2: "1"}  # 0 alone could be either
    documents = Documents(records([0, 1, 2]), records([0, 0]))
    task = classification(documents, wordpiece, TaskConfig(kind="classification"), RunClasses(swapped))
    assert task.train.labels.tolist() == [0, 2, 1]


def test_numbers_that_could_be_the_ids_of_either_model_are_refused(wordpiece):
    names = {0: "bad", 1: "good"}
    config = TaskConfig(kind="classification")
    with pytest.raises(
        DataError, match=r"a.csv:2: the labels are whole numbers, .*labels by name: bad, good"
    ):
        classification(
            Documents(records([0, 1]), records([1])), wordpiece, config, RunClasses(names, by_name=True)
        )
    by_name = Documents(records(["bad", "good"]), records(["good"]))
    assert classification(
        by_name, wordpiece, config, RunClasses(names, by_name=True)
    ).train.labels.tolist() == [0, 1]


def test_numbers_taken_as_ids_are_a_note(wordpiece):
    documents = Documents(records([0, 1]), records([1]))
    task = classification(
        documents, wordpiece, TaskConfig(kind="classification"), RunClasses({0: "bad", 1: "good"})
    )
    assert "the labels are whole numbers and are taken as class ids: 0 bad, 1 good" in task.notes


def test_scores_are_no_classes():
    with pytest.raises(
        DataError, match=r"a.csv:2: label '0.5' is a score; accepted: the name or number of a"
    ):
        class_names(records(["0.5", "1", "0.25"]))
    assert class_names(records(["1.5 stars", "2 stars"])) == {0: "1.5 stars", 1: "2 stars"}


# --- the task -----------------------------------------------------------------------------------------------


def test_task(wordpiece):
    documents = Documents(records(["b", "a", "c", "b"]), records(["a", "c"]), ("a note",))
    task = classification(
        documents, wordpiece, TaskConfig(kind="classification", max_length=128), RunClasses()
    )
    assert task.kind == "classification"
    assert (task.num_labels, task.id2label) == (3, {0: "a", 1: "b", 2: "c"})
    assert task.notes == ("a note", "4 training documents, 2 held out, 3 classes")
    assert [task.train[i].label for i in range(4)] == [1, 0, 2, 1]
    assert task.train[2].inputs.tolist() == wordpiece(SENTENCES[2])["input_ids"]
    (batch,) = task.eval_batches(8)
    assert batch["labels"].tolist() == [0, 2]
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert task.positions(batch) is None
    lengths = [len(wordpiece(s)["input_ids"]) for s in SENTENCES]
    assert task.tokens_per_sample == -(-sum(lengths[:4]) // 4)
    assert task.counts(batch, "tokens") == sum(lengths[:2])
    assert task.counts(batch, "positions") == task.counts(batch, "samples") == 2


def test_long_documents_are_cut_and_keep_their_end(wordpiece):
    data = Documents(records(["a", "b", "a", "b"]), records(["a"]))
    lengths = [len(wordpiece(s)["input_ids"]) for s in SENTENCES[:4]]
    longest = max(lengths)
    task = classification(
        data, wordpiece, TaskConfig(kind="classification", max_length=longest - 1), RunClasses()
    )
    cut = [i for i, length in enumerate(lengths) if length == longest]
    assert (
        f"{25 * len(cut):.1f} % of the training documents are longer than task.max_length {longest - 1}"
        in task.notes[1]
    )
    row = task.train[cut[0]].inputs.tolist()
    assert len(row) == longest - 1
    assert row[-1] == wordpiece.sep_token_id
    assert row[:-1] == wordpiece(SENTENCES[cut[0]])["input_ids"][: longest - 2]
    uncut = classification(
        data, wordpiece, TaskConfig(kind="classification", max_length=longest), RunClasses()
    )
    assert len(uncut.notes) == 1


@given(order=st.permutations(range(6)))
def test_ragged_batches(wordpiece, order):
    data = Documents(records("abcabc"), records("ab"))
    task = classification(data, wordpiece, TaskConfig(kind="classification"), RunClasses())
    stream = task.stream(0, 0, 6)
    batch = task.collate([stream[i] for i in order])
    for place, i in enumerate(order):
        keep = batch["attention_mask"][place].bool()
        assert batch["input_ids"][place][keep].tolist() == stream[i].example.inputs.tolist()
        assert int(batch["labels"][place]) == stream[i].example.label
        assert (batch["input_ids"][place][~keep] == wordpiece.pad_token_id).all()


def test_held_out_label_outside_the_training_labels(wordpiece):
    data = Documents(records(["good", "bad"]), records(["god"]))
    with pytest.raises(
        DataError, match=r"label: unknown value 'god'; did you mean 'good'\? accepted: bad, good"
    ):
        classification(data, wordpiece, TaskConfig(kind="classification"), RunClasses())
