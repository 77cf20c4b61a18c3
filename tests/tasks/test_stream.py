"""The order of samples: a function of seed and place, so that resuming anywhere is exact."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from vigreux.tasks.stream import SampleStream
from vigreux.tasks.table import TokenTable


def table(size: int) -> TokenTable:
    return TokenTable.of_rows([[i, i] for i in range(size)])


def keys(stream: SampleStream) -> list[tuple[int, int, int]]:
    return [(sample.index, sample.seed, sample.t) for sample in stream]


@given(
    size=st.integers(1, 9), seed=st.integers(-5, 2**40), offset=st.integers(0, 40), length=st.integers(0, 40)
)
def test_resumed_at_any_place_equals_the_uninterrupted_stream(size, seed, offset, length):
    whole = keys(SampleStream(table(size), seed, 0, offset + length))
    assert keys(SampleStream(table(size), seed, offset, length)) == whole[offset:]


@given(size=st.integers(1, 9), seed=st.integers(0, 100), epoch=st.integers(0, 5))
def test_every_epoch_sees_every_example_once(size, seed, epoch):
    stream = SampleStream(table(size), seed, epoch * size, size)
    assert sorted(sample.index for sample in stream) == list(range(size))


def test_sample_carries_the_example_of_its_index():
    for sample in SampleStream(table(7), 0, 3, 20):
        assert sample.example.inputs.tolist() == [sample.index, sample.index]


def test_seeds_and_epochs_have_their_own_orders():
    orders = [
        [s.index for s in SampleStream(table(50), seed, epoch * 50, 50)]
        for seed in (0, 1, -1)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == len(orders)


def test_randomness_of_a_sample_is_a_function_of_seed_and_place():
    draws = {
        (s.seed, s.t): s.generator().random() for seed in (0, 1) for s in SampleStream(table(3), seed, 0, 50)
    }
    again = SampleStream(table(8), 1, 20, 1)[0]  # other examples, other offset
    assert draws[1, 20] == again.generator().random()
    assert len(set(draws.values())) == 100


def test_outside_is_an_index_error():
    stream = SampleStream(table(3), 0, 2, 4)
    assert stream[3].t == 5
    with pytest.raises(IndexError):
        stream[4]
    with pytest.raises(IndexError):
        stream[-1]


def test_worker_processes_see_the_same_stream():
    stream = SampleStream(table(5), 3, 4, 12)
    loader = DataLoader(stream, batch_size=5, num_workers=1, collate_fn=keys)
    assert [key for batch in loader for key in batch] == keys(stream)
    assert keys(pickle.loads(pickle.dumps(stream))) == keys(stream)


def test_order_is_fixed_across_versions_of_this_library():
    """A change here breaks the resume of runs that are under way."""
    assert [s.index for s in SampleStream(table(6), 0, 0, 12)] == [3, 2, 5, 4, 0, 1, 1, 4, 5, 3, 2, 0]
    assert np.round(SampleStream(table(6), 0, 5, 1)[0].generator().random(2), 6).tolist() == [
        0.005705,
        0.156703,
    ]
