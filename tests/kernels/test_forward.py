"""The forward pass by sums with signs against the network's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vigreux.kernels.forward import ROWS, SignForward
from vigreux.models.two_layer import TwoLayer
from vigreux.tasks.synthetic.bits import BitStream


@given(
    n=st.integers(1, 140),
    width=st.integers(1, 80),
    classes=st.integers(1, 8),
    count=st.integers(0, 2 * ROWS + 5),
    seed=st.integers(0, 99),
)
def test_logits_and_hidden_units(n, width, classes, count, seed):
    network = TwoLayer(n, width, classes, seed=seed, dtype=torch.float64)
    X = BitStream(n, seed).block(0, count)
    fast, inputs = SignForward(*network.parameters_in_order()), torch.from_numpy(X).double()
    torch.testing.assert_close(fast.logits(X), network(inputs), rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.hidden(X), network.hidden_states(inputs).T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_samples(threads):
    network, X = TwoLayer(20, 50, 2, dtype=torch.float64), BitStream(20, 0).block(0, 1000)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fast = SignForward(*network.parameters_in_order())
        found, hidden = fast.logits(X), fast.hidden(X)
    finally:
        torch.set_num_threads(before)
    inputs = torch.from_numpy(X).double()
    torch.testing.assert_close(found, network(inputs), rtol=0, atol=1e-12)
    torch.testing.assert_close(hidden, network.hidden_states(inputs).T, rtol=0, atol=1e-12)


def test_a_unit_that_is_not_a_number_shows():
    network = TwoLayer(8, 40, 2)
    network.hidden.weight[17, 3] = torch.nan
    fast = SignForward(*network.parameters_in_order())
    assert fast.logits(BitStream(8, 0).block(0, 3)).isnan().all()
    assert fast.hidden(BitStream(8, 0).block(0, 3))[17].isnan().all()
