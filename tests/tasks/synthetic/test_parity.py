"""Parity and its tree against tables written out by hand; draws; what bad input gets."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigreux.errors import ConfigError
from vigreux.tasks.synthetic.parity import HierarchicalParity, Parity


def labels(task, rows):
    found = task.labels(np.array(rows, dtype=np.int8).reshape(-1, task.n))
    assert found.dtype == np.int64
    return found.tolist()


def signs(row):
    """`+-+` → [1, -1, 1]."""
    return [1 if sign == "+" else -1 for sign in row]


# --- tables -------------------------------------------------------------------------------------------------

THREE_SUPPORT_0_2 = {"+++": 1, "++-": 0, "+-+": 1, "+--": 0, "-++": 0, "-+-": 1, "--+": 0, "---": 1}
THREE_ALL = {"+++": 1, "++-": 0, "+-+": 0, "+--": 1, "-++": 0, "-+-": 1, "--+": 1, "---": 0}
THREE_ONE = {"+++": 1, "++-": 1, "+-+": 0, "+--": 0, "-++": 1, "-+-": 1, "--+": 0, "---": 0}


@pytest.mark.parametrize(
    ("support", "table"),
    [((0, 2), THREE_SUPPORT_0_2), ((2, 0), THREE_SUPPORT_0_2), ((0, 1, 2), THREE_ALL), ((1,), THREE_ONE)],
)
def test_parity_of_three(support, table):
    task = Parity(3, support)
    assert labels(task, [signs(row) for row in table]) == list(table.values())
    assert (task.classes, task.features) == (2, (support,))


def test_parity_of_many_coordinates_does_not_overflow():
    """A product in int8 or a sum of 200 signs in int8 would wrap."""
    X = np.ones((2, 300), np.int8)
    X[1, :151] = -1
    assert Parity(300, tuple(range(300))).labels(X).tolist() == [1, 0]


def test_depth_one_is_parity():
    assert labels(HierarchicalParity(3, ((0, 2),)), [signs(row) for row in THREE_SUPPORT_0_2]) == list(
        THREE_SUPPORT_0_2.values()
    )


def test_depth_two_with_single_coordinates():
    """The root reads x₂; + leads to the right child, which reads x₀; − to the left, which reads x₃. x₁ says
    nothing.
    """
    task = HierarchicalParity(4, ((2,), (3,), (0,)))
    table = {"++++": 3, "++-+": 1, "+++-": 3, "++--": 0, "-+++": 2, "-+-+": 1, "-++-": 2, "-+--": 0}
    table |= {row[0] + "-" + row[2:]: label for row, label in table.items()}
    assert len(table) == 16
    assert labels(task, [signs(row) for row in table]) == list(table.values())
    assert (task.classes, task.depth, task.features) == (4, 2, ((2,), (3,), (0,)))


def test_depth_two_with_pairs():
    """x₀x₁ at the root, x₂x₃ on the left, x₄x₅ on the right."""
    task = HierarchicalParity(6, ((0, 1), (2, 3), (4, 5)))
    table = {
        "++++++": 3,
        "+++++-": 2,
        "--++-+": 2,
        "----++": 3,
        "--+---": 3,
        "+-++++": 1,
        "+---+-": 1,
        "-++-+-": 0,
        "-+-+--": 0,
        "+-+-++": 0,
        "-+--+-": 1,
    }
    assert labels(task, [signs(row) for row in table]) == list(table.values())


def test_depth_three_with_single_coordinates():
    """Node j reads x_{j−1}: the path of each leaf, and then that the coordinates off the path
    change nothing.
    """
    task = HierarchicalParity(7, ((0,), (1,), (2,), (3,), (4,), (5,), (6,)))
    paths = {  # leaf: nodes on its path with the sign that leads there
        0: {1: -1, 2: -1, 4: -1},
        1: {1: -1, 2: -1, 4: 1},
        2: {1: -1, 2: 1, 5: -1},
        3: {1: -1, 2: 1, 5: 1},
        4: {1: 1, 3: -1, 6: -1},
        5: {1: 1, 3: -1, 6: 1},
        6: {1: 1, 3: 1, 7: -1},
        7: {1: 1, 3: 1, 7: 1},
    }
    X = list(product([1, -1], repeat=7))
    expected = [
        next(leaf for leaf, path in paths.items() if all(x[j - 1] == sign for j, sign in path.items()))
        for x in X
    ]
    assert labels(task, X) == expected
    assert (task.classes, task.depth) == (8, 3)


def test_depth_three_with_pairs():
    """Pairs (0, 1) … (12, 13) for nodes 1 … 7; a pair written = has product +1, ≠ has −1, in two ways each."""  # noqa: E501
    task = HierarchicalParity(14, tuple((2 * j, 2 * j + 1) for j in range(7)))
    table = {
        "=======": 7,
        "======≠": 6,
        "==≠====": 5,
        "==≠==≠=": 4,
        "≠======": 3,
        "≠===≠==": 2,
        "≠≠=====": 1,
        "≠≠=≠===": 0,
        "≠≠≠≠≠≠≠": 0,
        "≠=≠≠≠≠≠": 2,
        "=≠≠≠≠=≠": 5,
        "=≠=≠≠≠=": 7,
    }
    for ways in ({"=": [1, 1], "≠": [1, -1]}, {"=": [-1, -1], "≠": [-1, 1]}):
        assert labels(task, [[x for pair in row for x in ways[pair]] for row in table]) == list(
            table.values()
        )


@given(depth=st.integers(1, 4), k=st.integers(1, 4), seed=st.integers(0, 99))
def test_every_leaf_is_as_likely_as_any_other(depth, k, seed):
    classes = 2**depth
    task = HierarchicalParity.draw(k * (classes - 1) + 2, k, classes, seed)
    X = 1 - 2 * np.random.default_rng(seed).integers(2, size=(4000, task.n), dtype=np.int8)
    share = np.bincount(task.labels(X), minlength=classes) / len(X)
    assert len(share) == classes
    assert np.abs(share - 1 / classes).max() < 5 * np.sqrt((1 - 1 / classes) / classes / len(X))


def test_no_inputs_no_labels():
    assert labels(Parity(3, (0,)), []) == []
    assert labels(HierarchicalParity(3, ((0,), (1,), (2,))), []) == []


# --- draws --------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 200), data=st.data(), seed=st.integers(0, 2**32))
def test_a_drawn_support(n, data, seed):
    k = data.draw(st.integers(1, n))
    task = Parity.draw(n, k, seed)
    assert task == Parity.draw(n, k, seed)
    assert list(task.support) == sorted(set(task.support))
    assert len(task.support) == k
    assert all(type(i) is int and 0 <= i < n for i in task.support)  # JSON takes no numpy integers


@given(k=st.integers(1, 9), depth=st.integers(1, 4), spare=st.integers(0, 9), seed=st.integers(0, 2**32))
def test_drawn_features_are_disjoint(k, depth, spare, seed):
    classes = 2**depth
    n = k * (classes - 1) + spare
    task = HierarchicalParity.draw(n, k, classes, seed)
    assert task == HierarchicalParity.draw(n, k, classes, seed)
    assert (task.classes, task.depth, task.features) == (classes, depth, task.nodes)
    coordinates = [i for node in task.nodes for i in node]
    assert len(set(coordinates)) == len(coordinates) == k * (classes - 1)
    assert all(list(node) == sorted(node) for node in task.nodes)
    assert all(type(i) is int and 0 <= i < n for i in coordinates)


def test_draws_are_uniform_and_differ_by_seed():
    counts = np.zeros(10)
    for seed in range(2000):
        counts[list(Parity.draw(10, 3, seed).support)] += 1
    assert np.abs(counts - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)
    first = np.zeros(10)
    for seed in range(2000):
        first[list(HierarchicalParity.draw(10, 3, 4, seed).nodes[0])] += 1
    assert np.abs(first - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)


def test_drawn_tasks_stay_what_they_are():
    """Results are kept by seed: another support under the same seed would be another experiment."""
    assert Parity.draw(100, 6).support == (4, 26, 30, 49, 61, 80)
    assert HierarchicalParity.draw(100, 5, 8).nodes[0] == (8, 21, 42, 50, 78)


# --- bad input ----------------------------------------------------------------------------------------------


def refused(make):
    with pytest.raises(ConfigError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("wrong", "right"), [(0, 1), (-1, 1), (5, 4)])
def test_k_out_of_range(wrong, right):
    assert len(Parity.draw(4, right).support) == right
    message = refused(lambda: Parity.draw(4, wrong))
    assert message.startswith(f"task.k: {wrong}; accepted: 1 to ")
    assert message.endswith("n = 4")


@pytest.mark.parametrize(
    ("wrong", "right", "found"),
    [
        ((), (0,), "task.support: empty; accepted: coordinates from 0 to 3"),
        ((1, 4), (1, 3), "task.support: 4 is outside the input; accepted: 0 to "),
        ((-1, 2), (0, 2), "task.support: -1 is outside the input; accepted: 0 to "),
        ((2, 1, 2), (2, 1, 0), "task.support: 2 occurs twice; accepted: distinct coordinates"),
    ],
)
def test_a_support_that_is_none(wrong, right, found):
    assert Parity(4, right).support == right
    assert refused(lambda: Parity(4, wrong)).startswith(found)


@pytest.mark.parametrize(
    ("wrong", "right", "found"),
    [
        ((), ((0,),), "task.features: 0 sets; accepted: one a node of a complete tree, 1, 3, 7, 15, …"),
        (
            ((0,), (1,)),
            ((0,), (1,), (2,)),
            "task.features: 2 sets; accepted: one a node of a complete tree, 1, 3, 7, 15, …",
        ),
        (
            ((0,), (1,), (2,), (3,)),
            ((0,), (1,), (2,)),
            "task.features: 4 sets; accepted: one a node of a complete tree, 1, 3, 7, 15, …",
        ),
        (
            ((0,), (), (2,)),
            ((0,), (1,), (2,)),
            "task.features: a set is empty; accepted: at least one coordinate each",
        ),
        (((0,), (1,), (9,)), ((0,), (1,), (8,)), "task.features: 9 is outside the input; accepted: 0 to "),
        (((0,), (1,), (-1,)), ((0,), (1,), (8,)), "task.features: -1 is outside the input; accepted: 0 to "),
        (
            ((0, 1), (2,), (1, 3)),
            ((0, 1), (2,), (3,)),
            "task.features: 1 occurs twice; accepted: distinct coordinates",
        ),
        (
            ((0, 0), (1,), (2,)),
            ((0,), (1,), (2,)),
            "task.features: 0 occurs twice; accepted: distinct coordinates",
        ),
    ],
)
def test_features_that_are_no_tree(wrong, right, found):
    assert HierarchicalParity(9, right).nodes == right
    assert refused(lambda: HierarchicalParity(9, wrong)).startswith(found)


@pytest.mark.parametrize(("wrong", "right"), [(0, 2), (1, 2), (3, 4), (6, 8), (-4, 4)])
def test_a_number_of_classes_that_is_no_power_of_two(wrong, right):
    assert HierarchicalParity.draw(20, 1, right).classes == right
    assert refused(lambda: HierarchicalParity.draw(20, 1, wrong)) == (
        f"task.classes: {wrong} is not a power of two; accepted: 2, 4, 8, …"
    )


@pytest.mark.parametrize(
    ("n", "wrong", "right"), [(35, 6, 5), (34, 5, 4), (7, 2, 1), (35, 0, 1), (35, -1, 1)]
)
def test_features_that_do_not_fit(n, wrong, right):
    assert len(HierarchicalParity.draw(n, right, 8).nodes[0]) == right
    message = refused(lambda: HierarchicalParity.draw(n, wrong, 8))
    assert message.startswith(f"task.k: 7 features of {wrong} coordinates do not fit into ")
    assert message.endswith(f"n = {n}; accepted: 1 to {n // 7}")
