"""Classes by name: their order, and what is refused."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigreux.errors import ConfigError
from vigreux.tasks.classes import classes_of, find_class, match_classes

NAMES = ("contradiction", "neutral", "entailment")


def config(names=NAMES, label2id=None, problem_type=None):
    ids = names if isinstance(names, dict) else dict(enumerate(names))
    return SimpleNamespace(id2label=ids, label2id=label2id, problem_type=problem_type, num_labels=len(ids))


@given(order=st.permutations(range(3)))
def test_an_order_brings_the_logits_of_one_into_the_order_of_the_other(order):
    model = [NAMES[i] for i in order]
    match = match_classes(model, NAMES, "teacher", "the student")
    if list(order) == [0, 1, 2]:
        assert match == (None, None)
    else:
        assert match.order is not None
        assert [model[i] for i in match.order] == list(NAMES)
        assert match.note == "teacher: its classes are ordered by name as those of the student"


def test_case_and_spaces_are_no_other_name():
    match = match_classes(["Entailment", " NEUTRAL ", "contradiction"], NAMES, "teacher", "the student")
    assert match.order == (2, 1, 0)


@pytest.mark.parametrize("nameless", [("LABEL_0", "LABEL_1", "LABEL_2"), ("0", "1", "2")])
def test_classes_without_names_are_taken_by_id(nameless):
    for one, other in ((nameless, NAMES), (NAMES, nameless)):
        order, note = match_classes(one, other, "teacher", "the student")
        assert order is None
        assert "its classes have no names; class i is taken for class i of" in (note or "")


def test_names_that_look_like_ids_but_stand_in_another_order_are_names():
    wanted = ("LABEL_0", "LABEL_1")
    assert match_classes(("LABEL_1", "LABEL_0"), wanted, "teacher", "the student").order == (1, 0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            ("contradiction", "neutral"),
            "teacher: has 2 classes (contradiction, neutral); accepted: the 3 classes of",
        ),
        (
            ("contradiction", "neutral", "entailed"),
            "teacher: has other classes (contradiction, neutral, entailed)",
        ),
        (
            ("LABEL_0", "LABEL_1"),
            "the 3 classes of the student, in any order: contradiction, neutral, entailment",
        ),
    ],
)
def test_other_classes_are_refused(model, message):
    with pytest.raises(ConfigError) as error:
        match_classes(model, NAMES, "teacher", "the student")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_classes_of_a_config():
    assert classes_of(config(), "m") == NAMES
    assert classes_of(config(label2id={name: i for i, name in enumerate(NAMES)}), "m") == NAMES
    generic = {
        f"LABEL_{i}": i for i in range(3)
    }  # what transformers makes of a config that gives id2label alone
    assert classes_of(config(label2id=generic), "m") == NAMES
    assert classes_of(config(problem_type="single_label_classification"), "m") == NAMES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("score",)}, "m: has 1 output, which is a score and not a class"),
        ({"problem_type": "regression"}, "m: its config has problem_type 'regression'"),
        ({"problem_type": "multi_label_classification"}, "m: its config has problem_type 'multi_label"),
        ({"names": ("Yes", "no", "yes")}, "m: two classes have the name 'Yes'"),
        ({"names": {0: "a", 2: "b"}}, "m: id2label has the ids 0, 2; accepted: 0 to 1"),
        (
            {"label2id": {"contradiction": 2, "neutral": 1, "entailment": 0}},
            "m: label2id gives 'contradiction' the id 2",
        ),
        (
            {"label2id": {"good": 0, "bad": 1, "neither": 2}},
            "m: label2id gives 'good' the id 0, id2label has contrad",
        ),
    ],
)
def test_outputs_that_are_no_classes(changes, message):
    with pytest.raises(ConfigError) as error:
        classes_of(config(**changes), "m")
    assert message in str(error.value)


def test_a_label_finds_its_class():
    ids = {"Sport": 0, "politics": 1}
    assert (find_class("politics", ids), find_class("sport ", ids), find_class("sports", ids)) == (1, 0, None)
