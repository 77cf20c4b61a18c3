"""Means and intervals of repeated runs."""

from __future__ import annotations

import math
import statistics

import pytest

from vigreux.stats import mean_interval, paired_interval


def test_mean_interval_is_students() -> None:
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.302653 / math.sqrt(3))  # t(0.975, 2) from the printed tables, s = 1
    assert mean_interval([1.0, 2.0, 3.0], level=0.9)[1] == pytest.approx(2.919986 / math.sqrt(3))
    assert mean_interval([5.0, 5.0]) == (5.0, 0.0)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert mean_interval([4.0]) == (4.0, None)
    with pytest.raises(statistics.StatisticsError):
        mean_interval([])


def test_pairs_vary_less_than_their_values() -> None:
    values, baseline = [1.5, 10.0, 100.5], [1.0, 9.0, 99.0]
    assert paired_interval(values, baseline) == mean_interval([0.5, 1.0, 1.5])
    assert paired_interval([2.0], [0.5]) == (1.5, None)
