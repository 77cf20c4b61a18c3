"""The blocked kernel against the step-by-step loop, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import sgd as reference
from vigreux.kernels.sgd import Blocking, OnlineSGD


@st.composite
def cases(draw):
    """A network, samples and settings: every loss, batch size, block size, number of logits and schedule."""
    n, m, batch = draw(st.integers(1, 12)), draw(st.integers(1, 40)), draw(st.integers(1, 5))
    K = draw(st.sampled_from([1, 2, 3, 8]))
    steps = draw(st.integers(1, 60))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    double = {"generator": generator, "dtype": torch.float64}
    group = draw(st.integers(1, 12))
    return {
        "parameters": [
            torch.randn(m, n, **double) / n**0.5,
            torch.randn(m, **double),
            torch.randn(K, m, **double) / m**0.5,
            torch.randn(K, **double),
        ],
        "X": 2.0 * torch.randint(2, (steps * batch, n), **double) - 1,
        "soft": torch.randn(steps * batch, max(K, 2), **double).mul(3),
        "hidden": torch.randn(steps * batch, m, **double),
        "rate": np.linspace(draw(st.floats(1e-3, 0.05)), 0.001, steps),
        "batch": batch,
        "weight_decay": draw(st.sampled_from([0.0, 0.5])),
        "blocking": None
        if draw(st.booleans())
        else Blocking(group * draw(st.integers(1, 4)), group, draw(st.integers(1, 3))),
    }


def kernel(case, parameters):
    return OnlineSGD(
        *parameters, batch=case["batch"], weight_decay=case["weight_decay"], blocking=case["blocking"]
    )


def copies(case):
    return [p.clone() for p in case["parameters"]]


def agree(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", ["soft-cross-entropy", "hinge"])
@given(case=cases(), alpha=st.sampled_from([0.0, 0.3]))
def test_losses_of_the_logits(loss, case, alpha):

    K = len(case["parameters"][3])
    if K == 1 and loss == "soft-cross-entropy":
        loss = "hinge"
    q = case["soft"] if K == 1 else case["soft"].softmax(-1)
    settings = {"loss": loss, "alpha": alpha}
    expected, losses = reference.fit_logits(
        *case["parameters"],
        case["X"],
        q,
        case["rate"],
        batch=case["batch"],
        weight_decay=case["weight_decay"],
        **settings,
    )
    found = copies(case)
    got = kernel(case, found).fit_logits(case["X"], q, case["rate"], **settings)
    agree([*found, torch.from_numpy(got)], [*expected, losses])


@given(case=cases(), before_relu=st.booleans())
def test_hidden_targets(case, before_relu):

    expected, losses = reference.fit_hidden(
        *case["parameters"][:2],
        case["X"],
        case["hidden"],
        case["rate"],
        before_relu=before_relu,
        batch=case["batch"],
        weight_decay=case["weight_decay"],
    )
    found = copies(case)
    got = kernel(case, found).fit_hidden(case["X"], case["hidden"], case["rate"], before_relu=before_relu)
    agree([*found[:2], torch.from_numpy(got)], [*expected, losses])
    agree(found[2:], case["parameters"][2:])  # the output layer takes no part


@pytest.mark.parametrize("loss", ["soft-cross-entropy", "hinge"])
@given(
    case=cases(),
    alpha=st.sampled_from([0.0, 0.3]),
    before_relu=st.booleans(),
    weight=st.sampled_from([0.25, 1.0, 2.0]),
)
def test_logits_and_hidden_targets_together(loss, case, alpha, before_relu, weight):

    K = len(case["parameters"][3])
    if K == 1 and loss == "soft-cross-entropy":
        loss = "hinge"
    q = case["soft"] if K == 1 else case["soft"].softmax(-1)
    targets = case["X"], q, case["hidden"], case["rate"]
    settings = {"loss": loss, "alpha": alpha, "before_relu": before_relu, "weight": weight}
    expected, losses = reference.fit_joint(
        *case["parameters"], *targets, batch=case["batch"], weight_decay=case["weight_decay"], **settings
    )
    found = copies(case)
    got = kernel(case, found).fit_joint(*targets, **settings)
    agree([*found, torch.from_numpy(got)], [*expected, losses])


STEPS = 2000
WAYS = [None, Blocking(32, 32), Blocking(64, 16, 2), Blocking(12, 4, 3)]


def long_run(K, batch):
    """2,000 steps of a network of 70 units on the parity of three of twelve coordinates, whose teacher is a
    random network.
    """
    generator = torch.Generator().manual_seed(K)
    double = {"generator": generator, "dtype": torch.float64}
    X = 2.0 * torch.randint(2, (STEPS * batch, 12), **double) - 1
    parameters = [
        torch.randn(70, 12, **double) / 12**0.5,
        torch.randn(70, **double),
        torch.randn(K, 70, **double) / 70**0.5,
    ]
    return {
        "parameters": [*parameters, torch.randn(K, **double)],
        "X": X,
        "q": (X[:, :K] * X[:, 1:2] * X[:, 2:3] * 3).softmax(-1),
        "hidden": (X @ torch.randn(12, 70, **double)).relu(),
        "rate": np.linspace(0.02, 0.002, STEPS),
    }


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("K", [2, 8])
@pytest.mark.parametrize("loss", ["soft-cross-entropy", "hinge", "hidden", "joint"])
def test_two_thousand_steps(loss, K, batch):
    case = long_run(K, batch)
    before, X, rate = case["parameters"], case["X"], case["rate"]
    if loss == "hidden":
        expected, losses = reference.fit_hidden(
            *before[:2], X, case["hidden"], rate, before_relu=True, batch=batch
        )
    elif loss == "joint":
        expected, losses = reference.fit_joint(
            *before,
            X,
            case["q"],
            case["hidden"],
            rate,
            weight=0.5,
            before_relu=False,
            loss="soft-cross-entropy",
            batch=batch,
        )
    else:
        expected, losses = reference.fit_logits(*before, X, case["q"], rate, loss=loss, batch=batch)
    for blocking in WAYS:
        found = [p.clone() for p in before]
        sgd = OnlineSGD(*found, batch=batch, blocking=blocking)
        if loss == "hidden":
            got = sgd.fit_hidden(X, case["hidden"], rate, before_relu=True)
        elif loss == "joint":
            got = sgd.fit_joint(X, case["q"], case["hidden"], rate, weight=0.5, before_relu=False)
        else:
            got = sgd.fit_logits(X, case["q"], rate, loss=loss)
        agree([*found[: len(expected)], torch.from_numpy(got)], [*expected, losses])
