from collections import Counter
from itertools import combinations
from math import comb

from hypothesis import given
from hypothesis import strategies as st

from vigreux.probes.subsets import _combination, choose_monomials, subset_groups
from vigreux.tasks.synthetic.parity import HierarchicalParity, Parity

ALL = {"degree": 3, "feature_degree": None, "inside": 10**6, "outside": 10**6}


def chosen(task, seed=0, **changed):
    among = subset_groups(task, **(ALL | changed))
    return among, choose_monomials(task, among, seed)


def test_small_parity_by_hand():
    among, monomials = chosen(Parity(3, (2, 0)), degree=2)
    assert [(m.subset, m.where, m.feature) for m in monomials] == [
        ((0,), "in", 0),
        ((2,), "in", 0),
        ((1,), "out", None),
        ((0, 2), "in", 0),
        ((0, 1), "mixed", None),
        ((1, 2), "mixed", None),
    ]
    assert [(p.degree, p.where, p.existing) for p in among] == [
        (1, "in", 2),
        (1, "out", 1),
        (2, "in", 1),
        (2, "mixed", 2),
    ]


def test_features_go_on_alone_beyond_the_degree():
    task = HierarchicalParity(9, ((0, 1), (2, 3), (4, 5, 6)))
    _, monomials = chosen(task, degree=1)
    assert [(m.subset, m.feature) for m in monomials if len(m.subset) > 1] == [
        ((0, 1), 0),
        ((2, 3), 1),
        ((4, 5), 2),
        ((4, 6), 2),
        ((5, 6), 2),
        ((4, 5, 6), 2),
    ]
    across = [m for m in chosen(task, degree=2)[1] if m.subset == (1, 2)]
    assert [(m.where, m.feature) for m in across] == [("in", None)]
    assert max(len(m.subset) for m in chosen(task, degree=1, feature_degree=2)[1]) == 2


@given(n=st.integers(4, 40), k=st.integers(1, 4), most=st.integers(0, 60), seed=st.integers(0, 9))
def test_a_draw_has_the_size_asked_for_and_no_repeats(n, k, most, seed):
    task = Parity.draw(n, k, seed)
    among, monomials = chosen(task, seed, outside=most)
    assert len({m.subset for m in monomials}) == len(monomials)
    found = Counter((len(m.subset), m.where) for m in monomials)
    for place in among:
        full = place.degree == 1 or place.where == "in"
        assert found[place.degree, place.where] == (place.existing if full else min(most, place.existing))
    for m in monomials:
        inside = sum(i in task.support for i in m.subset)
        assert m.subset == tuple(sorted(m.subset))
        assert m.where == ("in" if inside == len(m.subset) else "out" if inside == 0 else "mixed")
    assert monomials == chosen(task, seed, outside=most)[1]


def test_draws_are_uniform_and_differ_by_seed():
    counts = Counter(
        m.subset
        for seed in range(600)
        for m in chosen(Parity(7, (0, 1)), seed, outside=2)[1]
        if m.where == "out"
    )
    pairs = [counts[pair] for pair in combinations(range(2, 7), 2)]
    assert sum(pairs) == 1200
    assert all(70 < count < 170 for count in pairs)  # 120 each, standard deviation 10


def test_a_draw_inside_keeps_the_whole_product():
    for seed in range(20):
        _, monomials = chosen(Parity(12, (0, 3, 5)), seed, inside=0, outside=0)
        assert [m.subset for m in monomials if len(m.subset) > 1] == [(0, 3, 5)]


def test_a_wide_feature_is_drawn_from_without_listing_it():
    _, monomials = chosen(Parity(600, tuple(range(300))), inside=3, outside=2, feature_degree=150)
    assert len([m for m in monomials if len(m.subset) == 150]) == 3


@given(size=st.integers(0, 9), take=st.integers(0, 9))
def test_combinations_by_rank(size, take):
    items = list(range(10, 10 + size))
    assert [tuple(_combination(items, take, rank)) for rank in range(comb(size, take))] == list(
        combinations(items, take)
    )
