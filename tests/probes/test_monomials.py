"""The fast probe against plain loops, against correlations known by hand, and its intervals against the exact
values.
"""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import monomials as reference
from vigreux.errors import CheckpointError, ConfigError
from vigreux.models.two_layer import TwoLayer
from vigreux.probes.monomials import MonomialSettings, hypercube, probe_monomials, walsh_hadamard
from vigreux.tasks.synthetic.bits import BitStream
from vigreux.tasks.synthetic.parity import HierarchicalParity, Parity

MONTE_CARLO = MonomialSettings(method="monte-carlo", samples=500, block=128)


def polynomial(coefficients):
    """Two logits whose difference is `Σ_A ĉ_A χ_A(x)`."""

    def network(X):
        f = sum(c * X[:, list(subset)].prod(dim=1) for subset, c in coefficients.items())
        return torch.stack((-f / 2, f / 2), dim=1)

    return network


def values(probe):
    return {c.subset: c.value for c in probe.correlations}


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# --- by hand ------------------------------------------------------------------------------------------------


def test_parity_itself():
    probe = probe_monomials(polynomial({(0, 2, 3): 1.0}), Parity(5, (0, 2, 3)))
    assert values(probe).pop((0, 2, 3)) == 1.0
    assert {value for subset, value in values(probe).items() if subset != (0, 2, 3)} == {0.0}
    assert (probe.exact, probe.inputs) == (True, 32)
    assert probe.summary().products == (1.0,)


def test_majority_of_three():
    """maj = ½ (x₀ + x₁ + x₂) − ½ x₀x₁x₂; its readouts differ by factors alone, as |f_1 − f_0| is constant."""

    def network(X):
        return torch.stack((torch.zeros(len(X)), X.sum(dim=1).sign()), dim=1)

    task, t = Parity(3, (0, 1, 2)), math.tanh(0.5)
    for readout, scale in (("difference", 1.0), ("tanh", t), ("probability", t / 2)):
        found = values(probe_monomials(network, task, MonomialSettings(readout=readout)))
        expected = {(0,): 0.5, (1,): 0.5, (2,): 0.5, (0, 1): 0, (0, 2): 0, (1, 2): 0, (0, 1, 2): -0.5}
        assert found == pytest.approx({subset: scale * c for subset, c in expected.items()}, abs=1e-7)


def test_a_polynomial_gives_its_coefficients_with_their_places():
    probe = probe_monomials(polynomial({(): 7.0, (1,): 0.25, (0, 4): -2.0, (2, 3): 0.5}), Parity(5, (1, 4)))
    found = {c.subset: c for c in probe.correlations}
    kept = {subset: (c.value, c.where, c.degree, c.feature) for subset, c in found.items() if c.value}
    assert kept == {(1,): (0.25, "in", 1, 0), (0, 4): (-2.0, "mixed", 2, None), (2, 3): (0.5, "out", 2, None)}
    assert all(c.low == c.value == c.high for c in probe.correlations)


def test_classes_of_a_tree():
    """Depth 2, k = 1: leaf 3 is ¼ (1 + x₀)(1 + x₂), leaf 0 is ¼ (1 − x₀)(1 − x₁); the features are x₀, x₁,
    x₂.
    """
    task = HierarchicalParity(4, ((0,), (1,), (2,)))

    def network(X):
        return 200.0 * torch.nn.functional.one_hot(torch.from_numpy(task.labels(X.numpy())), 4)

    probe = probe_monomials(network, task, MonomialSettings(readout="probability"))
    found = {(c.class_id, *c.subset): c.value for c in probe.correlations if abs(c.value) > 1e-12}
    assert found == {
        **{(0, 0): -0.25, (0, 1): -0.25, (0, 0, 1): 0.25, (1, 0): -0.25, (1, 1): 0.25, (1, 0, 1): -0.25},
        **{(2, 0): 0.25, (2, 2): -0.25, (2, 0, 2): -0.25, (3, 0): 0.25, (3, 2): 0.25, (3, 0, 2): 0.25},
    }
    assert probe.summary().features == (0.25, 0.125, 0.125)
    assert probe.summary().products == (0.25, 0.25, 0.25)
    only = probe_monomials(network, task, MonomialSettings(classes=(3,)))
    assert {c.class_id for c in only.correlations} == {3}
    assert values(only)[(0,)] == pytest.approx(
        200 * 0.25 * 4 / 3
    )  # less the mean of three others, which sum to 1 − leaf 3


def test_a_single_output_is_the_difference():
    task, two = Parity(4, (0, 3)), TwoLayer(4, 8, 2, dtype=torch.float64)
    for readout in ("difference", "probability", "tanh"):
        settings = MonomialSettings(readout=readout)
        one = probe_monomials(lambda X: two(X.double())[:, 1:] - two(X.double())[:, :1], task, settings)
        assert values(one) == pytest.approx(values(probe_monomials(two, task, settings)), abs=1e-12)


# --- against the loops --------------------------------------------------------------------------------------


@st.composite
def cases(draw):
    """A task, a random network for it in float64, and settings under which every subset is probed."""
    n = draw(st.integers(1, 6))
    order = draw(st.permutations(range(n)))
    if n >= 3 and draw(st.booleans()):
        cuts = sorted(draw(st.sets(st.integers(1, n), min_size=3, max_size=3)))
        task = HierarchicalParity(n, tuple(tuple(order[a:b]) for a, b in zip([0, *cuts], cuts)))
    else:
        task = Parity(n, tuple(order[: draw(st.integers(1, n))]))
    network = TwoLayer(
        n, draw(st.integers(1, 5)), task.classes, seed=draw(st.integers(0, 99)), dtype=torch.float64
    )
    settings = MonomialSettings(
        readout=draw(st.sampled_from(["difference", "probability"] + ["tanh"] * (task.classes == 2))),
        degree=draw(st.integers(1, 3)),
        feature_degree=draw(st.none() | st.integers(1, 7)),
        block=draw(st.integers(1, 70)),
        samples=draw(st.integers(2, 60)),
        seed=draw(st.integers(0, 9)),
    )
    return task, network, settings


def plain_g(task, network, settings):
    """c → a function of one input, a tuple."""

    def of_class(c):
        return lambda x: reference.readout(
            network(torch.tensor([x], dtype=torch.float64))[0].tolist(), settings.readout, c
        )

    return {c: of_class(c) for c in ((1,) if task.classes == 2 else range(task.classes))}


@given(cases())
def test_exact_values_and_places_equal_the_loops(case):
    task, network, settings = case
    probe = probe_monomials(network, task, settings)
    found = {(c.class_id, c.subset): c for c in probe.correlations}
    wanted = reference.subsets(task.n, task.features, settings.degree, settings.feature_degree or task.n)
    g = plain_g(task, network, settings)
    assert len(probe.correlations) == len(found) == len(wanted) * len(g)
    for (c, subset), record in found.items():
        assert (record.where, record.feature, record.degree) == (*wanted[subset], len(subset))
        assert record.value == pytest.approx(reference.exact(g[c], task.n, subset), abs=1e-12)
    assert all(coverage.probed == coverage.existing for coverage in probe.coverage)


@given(cases())
def test_estimates_and_intervals_equal_the_loops(case):
    task, network, settings = case
    probe = probe_monomials(network, task, replace(settings, method="monte-carlo"))
    inputs = [
        tuple(row) for row in BitStream(task.n, settings.seed, "probe").block(0, settings.samples).tolist()
    ]
    for c, g in plain_g(task, network, settings).items():
        read = [g(x) for x in inputs]
        for record in (r for r in probe.correlations if r.class_id == c):
            value, variance = reference.sampled(read, inputs, record.subset)
            assert record.value == pytest.approx(value, abs=1e-12)
            assert (record.high - record.low) / 2 == pytest.approx(1.959964 * math.sqrt(variance), abs=1e-7)
            assert record.high - record.value == pytest.approx(record.value - record.low)


@given(n=st.integers(0, 6), C=st.integers(1, 3), seed=st.integers(0, 99))
def test_walsh_hadamard_equals_the_sum(n, C, seed):
    values = np.random.default_rng(seed).normal(size=(C, 2**n))
    signs = [[(-1) ** (a & t).bit_count() for t in range(2**n)] for a in range(2**n)]
    np.testing.assert_allclose(walsh_hadamard(values), values @ np.array(signs, float), atol=1e-12)


def test_the_hypercube_in_order():
    assert hypercube(2, 0, 4).tolist() == [[1, 1], [-1, 1], [1, -1], [-1, -1]]
    assert hypercube(20, 2**20 - 2, 2).tolist() == [[1] + [-1] * 19, [-1] * 20]


# --- Monte Carlo --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", ["difference", "probability"])
def test_intervals_cover_the_exact_value_at_the_nominal_rate(readout):
    """600 seeds, 63 monomials each: the rate has a standard deviation of about 0.9 % a monomial, far less on
    average.
    """
    task, n = Parity(6, (0, 1, 2, 3, 4, 5)), 6
    network = polynomial({(): 3.0, (0,): 1.0, (1, 2): 0.5, (0, 3, 4): -2.0, (1, 2, 3, 4, 5): 0.3})
    settings = MonomialSettings(readout=readout)
    true = values(probe_monomials(network, task, settings))
    assert len(true) == 2**n - 1
    covered = dict.fromkeys(true, 0)
    for seed in range(600):
        for c in probe_monomials(
            network, task, replace(settings, method="monte-carlo", samples=400, block=400, seed=seed)
        ).correlations:
            covered[c.subset] += c.low <= true[c.subset] <= c.high
    rates = np.array(list(covered.values())) / 600
    assert 0.943 < rates.mean() < 0.957
    assert rates.min() > 0.91  # 4.5 standard deviations below 0.95


def test_the_interval_holds_where_the_network_is_the_monomial():
    task, covered = Parity(4, (0, 1)), 0
    for seed in range(400):
        probe = probe_monomials(polynomial({(0, 1): 2.0}), task, replace(MONTE_CARLO, seed=seed))
        (c,) = (c for c in probe.correlations if c.subset == (0, 1))
        covered += c.low <= 2.0 <= c.high
        assert c.high - c.low < 0.07  # of order 1 / N; another monomial's is 0.35
    assert (
        covered / 400 > 0.95
    )  # 0.9885 over 2,000 seeds: the estimate of the variance is on the safe side here


def test_a_large_offset_of_the_logits_costs_neither_digits_nor_width():
    task = Parity(30, (0, 1, 2))
    near = probe_monomials(polynomial({(0,): 1.0, (1, 2): 0.5}), task, MONTE_CARLO)

    def lifted(X):
        return polynomial({(0,): 1.0, (1, 2): 0.5})(X.double()) + torch.tensor([0.0, 1e6])

    far = probe_monomials(lifted, task, MONTE_CARLO)
    for one, other in zip(near.correlations, far.correlations):
        assert (one.subset, one.value, one.low) == (
            other.subset,
            pytest.approx(other.value),
            pytest.approx(other.low),
        )


@given(block=st.integers(1, 700), other=st.integers(1, 700))
def test_the_block_size_changes_nothing(block, other):
    task, network = Parity.draw(30, 3), TwoLayer(30, 7, 2, dtype=torch.float64)
    settings = replace(MONTE_CARLO, degree=2, outside=20)
    one, two = (probe_monomials(network, task, replace(settings, block=b)) for b in (block, other))
    for a, b in zip(one.correlations, two.correlations, strict=True):
        assert a.subset == b.subset
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-13)


def test_never_more_than_a_block_reaches_the_network_and_no_gradient_is_kept():
    sizes = []
    weight = torch.ones(30, requires_grad=True)

    def network(X):
        sizes.append(len(X))
        assert not (X @ weight).requires_grad
        return torch.zeros(len(X), 2)

    probe_monomials(network, Parity(30, (0,)), replace(MONTE_CARLO, samples=1000, block=300))
    assert max(sizes) == 300
    assert sum(sizes) - 1 == 1000  # one more sets the shift


def test_many_monomials_are_cut_into_several_products():
    task = Parity(40, tuple(range(38)))
    settings = replace(MONTE_CARLO, inside=5000, feature_degree=3, samples=50)
    probe = probe_monomials(polynomial({(0, 1, 2): 1.0}), task, settings)
    x = BitStream(40, 0, "probe").block(0, 50).tolist()
    last = [c for c in probe.correlations if c.degree == 3 and c.where == "in"][-1]
    assert last.value == pytest.approx(
        reference.sampled([reference.chi(row, (0, 1, 2)) for row in x], x, last.subset)[0]
    )


# --- the summary --------------------------------------------------------------------------------------------


def test_summary_by_hand():
    network = polynomial({(0,): 0.5, (1,): -0.25, (2,): 0.0625, (3,): -0.125, (0, 1): 0.75})
    probe = probe_monomials(network, Parity(4, (0, 1)))
    found = probe.summary()
    assert (found.in_mean, found.in_max, found.out_mean, found.out_max) == (0.375, 0.5, 0.09375, 0.125)
    assert (found.ratio, found.z) == (4.0, 9.0)
    assert (found.features, found.products) == ((0.375,), (0.75,))
    pairs = probe.summary(2)
    assert (pairs.in_mean, pairs.out_mean, pairs.ratio, pairs.z) == (0.75, 0.0, None, None)
    assert json.loads(json.dumps(asdict(found)))["ratio"] == 4.0


def test_summary_without_an_outside():
    found = probe_monomials(
        polynomial({(0,): 0.5}), Parity(2, (0, 1)), MonomialSettings(degree=1, feature_degree=1)
    ).summary()
    assert (found.in_mean, found.out_mean, found.out_max, found.ratio, found.z, found.products) == (
        0.25,
        None,
        None,
        None,
        None,
        (None,),
    )


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wrong", "right", "message"),
    [
        ("degree", 0, 1, "probe.degree: 0; accepted: 1 to 3; feature_degree sets larger ones in a feature"),
        ("degree", 4, 3, "probe.degree: 4; accepted: 1 to 3; feature_degree sets larger ones in a feature"),
        ("feature_degree", 0, 1, "probe.feature_degree: 0; accepted: from 1"),
        ("inside", -1, 0, "probe.inside: -1; accepted: from 0"),
        ("outside", -1, 0, "probe.outside: -1; accepted: from 0"),
        ("samples", 1, 2, "probe.samples: 1; accepted: from 2"),
        ("block", 0, 1, "probe.block: 0; accepted: from 1"),
        ("seed", -1, 0, "probe.seed: -1; accepted: from 0"),
        (
            "readout",
            "tan",
            "tanh",
            "probe.readout: unknown value 'tan'; did you mean 'tanh'? accepted: difference, probability,"
            " tanh",
        ),
        (
            "method",
            "exactly",
            "exact",
            "probe.method: unknown value 'exactly'; did you mean 'exact'? accepted: auto, exact, monte-carlo",
        ),
    ],
)
def test_settings_out_of_range(field, wrong, right, message):
    assert getattr(MonomialSettings(**{field: right}), field) == right
    with pytest.raises(ConfigError) as error:
        MonomialSettings(**{field: wrong})
    assert one_line(error) == message


def zeros(K):
    return lambda X: torch.zeros(len(X), K)


def test_exact_beyond_twenty():
    settings = MonomialSettings(method="exact", degree=1, block=2**18)
    assert probe_monomials(zeros(1), Parity(20, (0,)), settings).inputs == 2**20
    with pytest.raises(ConfigError) as error:
        probe_monomials(zeros(1), Parity(21, (0,)), settings)
    assert one_line(error) == "probe.method: exact with task.n = 21; accepted: n up to 20, or monte-carlo"
    assert not probe_monomials(zeros(1), Parity(21, (0,)), replace(settings, method="auto", samples=10)).exact


def test_classes_that_the_task_lacks():
    tree = HierarchicalParity(4, ((0,), (1,), (2,)))
    assert probe_monomials(zeros(4), tree, MonomialSettings(classes=(0, 3))).correlations[-1].class_id == 3
    for wrong, found in (((4,), "4"), ((0, -1), "-1"), ((), "empty")):
        with pytest.raises(ConfigError) as error:
            probe_monomials(zeros(4), tree, MonomialSettings(classes=wrong))
        assert one_line(error) == f"probe.classes: {found}; accepted: 0 to 3"
    with pytest.raises(ConfigError) as error:
        probe_monomials(zeros(4), tree, MonomialSettings(readout="tanh"))
    assert one_line(error) == "probe.readout: tanh with 4 classes; accepted: difference or probability"


def test_a_network_of_another_task():
    with pytest.raises(ConfigError) as error:
        probe_monomials(TwoLayer(5, 3, 2), Parity(4, (0,)))
    assert one_line(error) == "probe: the network takes inputs of length 5; accepted: task.n = 4"
    with pytest.raises(ConfigError) as error:
        probe_monomials(TwoLayer(4, 3, 8), Parity(4, (0,)))
    assert one_line(error) == "probe: the network gives 16 × 8 logits for 16 inputs; accepted: 2 an input"
    with pytest.raises(ConfigError) as error:
        probe_monomials(zeros(1), HierarchicalParity(4, ((0,), (1,), (2,))))
    assert one_line(error) == "probe: the network gives 16 × 1 logits for 16 inputs; accepted: 4 an input"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_network_that_diverged(bad):
    with pytest.raises(CheckpointError) as error:
        probe_monomials(lambda X: torch.full((len(X), 2), bad), Parity(4, (0,)))
    assert (
        one_line(error)
        == "probe: the network's logits are not finite; accepted: a checkpoint from before it diverged"
    )
