"""Class labels of rows from Python: ids, names, and the names of a `datasets.ClassLabel`."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value

from vigreux.errors import DataError, VigreuxError
from vigreux.tasks.rows.build import tokenised_task
from vigreux.tasks.tokenizers import train_tokenizer

TOKENIZER = train_tokenizer(["the cat sat"], 40, "wordpiece")
GENERIC = {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
NAMED = {0: "bad", 1: "fair", 2: "good"}
STARS = {0: "1", 1: "2", 2: "3"}


def made(train, held=None, id2label=GENERIC):
    sets = [data if isinstance(data, Dataset) else rows(data) for data in (train, held or train)]
    return tokenised_task("classification", *sets, TOKENIZER, id2label=id2label)


def rows(labels, column="label"):
    return [{"input_ids": [5, 6], column: label} for label in labels]


def dataset(labels, names):
    features = Features({"input_ids": List(Value("int64")), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"input_ids": [[5, 6]] * len(labels), "label": labels}, features=features)


def ids(task):
    return [task.train[i].label for i in range(len(task.train))]


@pytest.mark.parametrize(
    ("labels", "id2label", "expected"),
    [
        ([0, 2, 1], GENERIC, [0, 2, 1]),
        ([np.int8(0), torch.tensor(2), np.array(1)], GENERIC, [0, 2, 1]),
        ([0, 2, 1], NAMED, [0, 2, 1]),
        (["bad", "Good", " fair "], NAMED, [0, 2, 1]),
        (["LABEL_2", "label_0"], GENERIC, [2, 0]),
        ([False, True], {0: "LABEL_0", 1: "LABEL_1"}, [0, 1]),
        ([False, True], {0: "true", 1: "false"}, [1, 0]),
        ([3, 1, 2], STARS, [2, 0, 1]),
        ([0, 1, 2], STARS, [0, 1, 2]),
        (["1", "3"], STARS, [0, 2]),
    ],
)
def test_labels(labels, id2label, expected):
    assert ids(made(labels, id2label=id2label)) == expected


@pytest.mark.parametrize(
    ("labels", "id2label", "message"),
    [
        ([0, 3], GENERIC, "row 1 has the label 3; accepted: 0 to 2"),
        ([0, -1], GENERIC, "row 1 has the label -1; accepted: 0 to 2"),
        ([0, None], GENERIC, "row 1 has the label None; accepted: a whole number from 0 to 2"),
        ([0, 0.5], GENERIC, "row 1 has the label 0.5; .* scores are not learned yet"),
        ([0, 1.0], GENERIC, r"row 1 has the label 1.0; .*astype\(int\)"),
        ([0, float("nan")], GENERIC, "row 1 has the label nan"),
        ([0, [1]], GENERIC, "row 1 has several labels"),
        ([0, np.array([0, 1, 1])], GENERIC, "row 1 has several labels"),
        ([0, True], GENERIC, "row 1 has the label True"),
        (["bad", "best"], NAMED, "row 1: label: unknown value 'best'; .*accepted: bad, fair, good"),
        (
            [1, 2],
            STARS,
            "labels: 1 is the id of the class '2' and the name of another; accepted: names as text",
        ),
    ],
)
def test_what_is_no_class(labels, id2label, message):
    with pytest.raises(DataError, match=message):
        made(labels, id2label=id2label)


def test_numbers_mean_the_same_in_both_data_sets():
    assert ids(made([1, 2], [1, 2, 3], STARS)) == [0, 1]  # 3 stars are no id
    assert ids(made([1, 2], [0], STARS)) == [1, 2]  # 0 is no name


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["bad", "fair", "good"], [0, 1, 2]),
        (["good", "bad", "fair"], [2, 0, 1]),
        (["Good", "Fair", "Bad"], [2, 1, 0]),
        (["good", "bad"], [2, 0]),
        (["0", "1", "2"], [0, 1, 2]),
    ],
)
def test_a_class_label_goes_by_its_names(names, expected):
    order = list(range(len(names)))
    task = made(dataset(order, names), dataset(order[::-1], names), NAMED)
    assert ids(task) == expected
    assert [task.held_out[i].label for i in order] == expected[::-1]


def test_other_classes_are_refused():
    with pytest.raises(VigreuxError, match=r"train_dataset: label: .*poor.* accepted: .*bad, fair, good"):
        made(dataset([0, 1, 2], ["poor", "fair", "good"]), id2label=NAMED)
    assert ids(made(dataset([0, 1, 2], ["poor", "fair", "good"]))) == [0, 1, 2]  # LABEL_i takes ids
    with pytest.raises(
        DataError, match="row 1 has the label -1; accepted: 0 to 2"
    ):  # a test split without labels
        made(dataset([0, -1], ["bad", "fair", "good"]), id2label=NAMED)


def test_several_columns_must_agree():
    both = [{"input_ids": [5, 6], "label": i, "labels": j} for i, j in ((0, 0), (1, 2))]
    with pytest.raises(DataError, match="row 1: labels and label differ"):
        tokenised_task("classification", both, both, TOKENIZER, id2label=GENERIC)
    agree = [row | {"labels": row["label"]} for row in both]
    assert ids(tokenised_task("classification", agree, agree, TOKENIZER, id2label=GENERIC)) == [0, 1]
    given = rows([1, 2], "label_ids")
    assert ids(tokenised_task("classification", given, given, TOKENIZER, id2label=GENERIC)) == [1, 2]
