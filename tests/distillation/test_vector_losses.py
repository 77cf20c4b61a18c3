"""The losses on hidden states and embeddings by their definitions, and the scale of their targets."""

import functools
import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import losses as slow
from vigreux.curriculum import HiddenDivergence, Scaling
from vigreux.distillation import vector_losses as fast

SLOW: dict[HiddenDivergence, Callable[[list[float], list[float]], float]] = {
    "mse": slow.mean_squared_error,
    "cosine": slow.cosine_distance,
}


@given(seed=st.integers(0, 2**32), rows=st.integers(1, 4), width=st.integers(1, 5))
@pytest.mark.parametrize("divergence", get_args(HiddenDivergence))
def test_a_divergence_is_its_definition(
    divergence: HiddenDivergence, seed: int, rows: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, target = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for _ in range(2))
    loss, slow_loss = fast.VECTOR_LOSSES[divergence], SLOW[divergence]
    expected = [slow_loss(s, t) for s, t in zip(student.tolist(), target.tolist())]
    assert loss(student, target).tolist() == pytest.approx(expected, abs=1e-12)
    assert loss(student.bfloat16(), target).dtype == torch.float64
    assert loss(student.bfloat16(), target.bfloat16()).dtype == torch.float32


def test_every_divergence_has_a_loss() -> None:
    assert tuple(fast.VECTOR_LOSSES) == get_args(HiddenDivergence)


@pytest.mark.parametrize("divergence", get_args(HiddenDivergence))
def test_no_gradient_flows_into_the_target(divergence: HiddenDivergence) -> None:
    student, target = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    fast.VECTOR_LOSSES[divergence](student, target).sum().backward()
    assert student.grad is not None
    assert target.grad is None


def test_the_cosine_distance_compares_directions_alone() -> None:
    rows = torch.randn(4, 5, dtype=torch.float64)
    zero = torch.zeros(4, dtype=torch.float64)
    torch.testing.assert_close(fast.cosine_distance(rows, 3 * rows), zero, rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.cosine_distance(rows, -rows), zero + 2, rtol=0, atol=1e-12)
    assert fast.cosine_distance(rows, torch.zeros_like(rows)).tolist() == [1.0] * 4


@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    offset=st.sampled_from((0.0, 1e4)),
)
def test_statistics_of_a_stream_are_those_of_all_rows(seed: int, sizes: list[int], offset: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = offset + torch.randn(sum(sizes), 3, generator=generator)
    found = functools.reduce(fast.TargetStatistics.merge, map(fast.target_statistics, rows.split(sizes)))
    mean, variance = slow.mean_and_variance(rows.double().tolist())
    assert found.count == sum(sizes)
    assert found.mean.tolist() == pytest.approx(mean)
    assert found.std.square().tolist() == pytest.approx(variance, abs=1e-9)
    assert found.variance == pytest.approx(math.fsum(variance) / 3, abs=1e-9)


ROWS = torch.tensor(
    [[1.0, 10.0, 5.0], [3.0, 14.0, 5.0], [1.0, 10.0, 5.0], [3.0, 14.0, 5.0]]
)  # std 1, 2, 0; mean variance 5/3


@pytest.mark.parametrize(
    ("scaling", "scale", "variance"),
    [
        ("none", [1.0, 1.0, 1.0], 5 / 3),
        ("unit", [math.sqrt(5 / 3)] * 3, 1.0),
        (
            "per-dimension",
            [1.0, 2.0, math.sqrt(5 / 3)],
            2 / 3,
        ),  # the dimension that does not vary is divided by the overall one
    ],
)
def test_scaling_divides_and_does_not_centre(scaling: Scaling, scale: list[float], variance: float) -> None:
    statistics = fast.target_statistics(ROWS)
    scaled = fast.scale_targets(ROWS, statistics, scaling)
    torch.testing.assert_close(scaled, ROWS / torch.tensor(scale))
    assert statistics.scaled_variance(scaling) == pytest.approx(variance)
    assert fast.target_statistics(scaled).variance == pytest.approx(variance, rel=1e-6)


def test_targets_that_do_not_vary_are_left_as_they_are() -> None:
    rows = torch.full((3, 2), 7.0)
    statistics = fast.target_statistics(rows)
    for scaling in get_args(Scaling):
        assert torch.equal(fast.scale_targets(rows, statistics, scaling), rows)


def test_scaled_targets_keep_their_type() -> None:
    statistics = fast.target_statistics(ROWS)
    assert fast.scale_targets(ROWS.bfloat16(), statistics, "per-dimension").dtype == torch.bfloat16


def test_explained_variance() -> None:
    assert fast.explained_variance(0.0, 2.0) == 1.0
    assert fast.explained_variance(2.0, 2.0) == 0.0
    assert fast.explained_variance(3.0, 2.0) == -0.5
    assert fast.explained_variance(3.0, 0.0) == 0.0
    # The targets' own mean explains nothing, whatever the scaling.
    statistics = fast.target_statistics(ROWS)
    scaled = fast.scale_targets(ROWS, statistics, "unit")
    loss = fast.mean_squared_error(scaled.mean(0, keepdim=True).expand_as(scaled), scaled).mean().item()
    assert fast.explained_variance(loss, statistics.scaled_variance("unit")) == pytest.approx(0.0, abs=1e-6)
