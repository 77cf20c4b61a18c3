"""The stream of ±1 vectors: a pure function of (n, seed, purpose, t), uniform, and independent between seeds
and purposes.
"""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigreux.tasks.synthetic.bits import BitStream, Purpose

PURPOSES = get_args(Purpose)


def counter_by_counter(n: int, seed: int, purpose: Purpose, t: int) -> list[int]:
    """Sample t from one Philox counter after another; words lowest byte first, bytes highest bit first."""
    counters = (n + 255) // 256
    signs = []
    for counter in range(t * counters, (t + 1) * counters):
        words = np.random.Philox(key=4 * seed + PURPOSES.index(purpose), counter=counter).random_raw(4)
        for byte in b"".join(int(word).to_bytes(8, "little") for word in words):
            signs += [-1 if byte >> (7 - place) & 1 else 1 for place in range(8)]
    return signs[:n]


@given(
    n=st.integers(1, 600),
    seed=st.integers(0, 2**40),
    purpose=st.sampled_from(PURPOSES),
    first=st.integers(0, 10**12),
    count=st.integers(1, 5),
)
def test_a_block_equals_the_generator_counter_by_counter(n, seed, purpose, first, count):
    found = BitStream(n, seed, purpose).block(first, count)
    assert (found.shape, found.dtype) == ((count, n), np.int8)
    assert found.tolist() == [counter_by_counter(n, seed, purpose, t) for t in range(first, first + count)]


@given(
    n=st.integers(1, 600),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    first=st.integers(0, 2**50),
)
def test_blocks_of_any_length_join_to_the_same_stream(n, cuts, first):
    stream, at, blocks = BitStream(n, 3), first, []
    for count in cuts:
        blocks.append(stream.block(at, count))
        at += count
    np.testing.assert_array_equal(np.concatenate(blocks), stream.block(first, sum(cuts)))


def test_an_empty_block():
    assert BitStream(100, 0).block(7, 0).shape == (0, 100)


@pytest.mark.parametrize("n", [255, 256, 257, 512, 513])
def test_a_sample_takes_whole_counters(n):
    """At n = 256 one counter a sample, at 257 two: so the longer vector's first 256 coordinates are those of
    sample 2t.
    """
    stream, one = BitStream(n, 5), BitStream(256, 5)
    counters = {255: 1, 256: 1, 257: 2, 512: 2, 513: 3}[n]
    np.testing.assert_array_equal(stream.block(4, 1)[0, :255], one.block(4 * counters, 1)[0, :255])
    if counters > 1:
        assert stream.block(4, 1)[0, 256] == one.block(4 * counters + 1, 1)[0, 0]


@pytest.mark.parametrize("n", [100, 257])
def test_coordinates_pairs_and_successive_samples_are_balanced(n):
    """Means of 20,000 signs have a standard deviation of 0.0071; the largest of 33,000 of them stays within
    5.5.
    """
    X = BitStream(n, 0).block(0, 20_000).astype(np.float32)
    assert set(np.unique(X)) == {-1, 1}
    bound = 5.5 / np.sqrt(len(X))
    pairs = X.T @ X / len(X) - np.eye(n)
    successive = X[1:].T @ X[:-1] / len(X)
    for means in (X.mean(axis=0), pairs, successive):
        assert np.abs(means).max() < bound
    assert 0.8 < np.sqrt(len(X)) * pairs[np.triu_indices(n, 1)].std() < 1.2


def test_purposes_and_seeds_differ():
    blocks = [BitStream(100, seed, purpose).block(0, 500) for seed in (0, 1, 2) for purpose in PURPOSES]
    for i, one in enumerate(blocks):
        for other in blocks[:i]:
            assert abs((one == other).mean() - 0.5) < 0.015  # standard deviation 0.0022
    samples = {row.tobytes() for block in blocks for row in block}
    assert len(samples) == len(blocks) * 500


def test_the_first_samples_stay_what_they_are():
    """Results are kept by seed: another stream under the same seed would be another experiment."""
    assert BitStream(8, 0).block(0, 3).tolist() == [
        [-1, 1, 1, -1, -1, 1, -1, -1],
        [-1, -1, 1, 1, 1, 1, -1, -1],
        [1, -1, 1, -1, -1, -1, 1, -1],
    ]
    assert BitStream(8, 1, "eval").block(10**9, 1).tolist() == [[-1, -1, 1, -1, -1, -1, -1, 1]]
