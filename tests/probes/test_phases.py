"""The three phases of a loss whose phases are known, with a transient before and noise on top."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigreux.errors import DataError
from vigreux.probes.phases import inflection, loss_phases


def curve(start: float, end: float, total: float = 3000, noise: float = 0.0, seed: int = 0):
    """A transient, a plateau at 1, a drop by 0.5 from start to end, then a slow end to 0.3."""
    steps = np.arange(25, total + 1, 25)
    loss = np.interp(steps, [0, 80, start, end, total], [1.4, 1.0, 0.99, 0.5, 0.3])
    return steps, loss + noise * np.random.default_rng(seed).standard_normal(len(steps))


@settings(deadline=None)
@given(start=st.integers(300, 1500), length=st.integers(150, 500), seed=st.integers(0, 1000))
def test_the_drop_is_found(start, length, seed):
    found = loss_phases(*curve(start, start + length, noise=0.002, seed=seed))
    assert found.start == pytest.approx(start, abs=76)
    assert found.end == pytest.approx(start + length, abs=76)
    assert found.middle == pytest.approx(start + length / 2, abs=51)


def test_a_loss_without_a_plateau_is_refused():
    steps = np.arange(25, 1000, 25)
    with pytest.raises(DataError, match="no plateau"):
        loss_phases(steps, 1 - steps / 2000)
    with pytest.raises(DataError, match="4 evaluations"):
        loss_phases([1, 2, 3, 4], [1, 1, 1, 1])


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_drop(seed):
    steps = np.arange(25, 3001, 25)
    with pytest.raises(DataError, match=r"no drop|no plateau"):
        loss_phases(steps, 1 + 0.003 * np.random.default_rng(seed).standard_normal(len(steps)))


def test_the_inflection_is_where_the_measure_turns():
    steps = np.arange(10)
    assert inflection(steps, [0, 1, 2, 3, 4, 3, 2, 1, 1, 1]) == 4
    assert inflection(steps, [0, 9, 0, 3, 5, 6, 5, 3, 1, 1]) == 5  # one value that sticks out is noise
    assert inflection(steps, 10 - steps) is None
    assert inflection(steps, steps) is None
    assert inflection(steps, [0, 1, 2, 3, 4, 3, 2, 1, 1, 1], tolerance=4) is None
