"""An endless stream of uniform ±1 vectors: sample t is a pure function of (seed, purpose, t).

The random generator is counter-based. So a block does not depend on where reading starts, a resumed run
continues exactly, and all students of a comparison see the same samples in the same order.
Memory holds one block at a time.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Purpose = Literal["train", "eval", "calibrate", "probe"]
_PURPOSES: tuple[Purpose, ...] = ("train", "eval", "calibrate", "probe")
_BITS = 256  # bits per counter of Philox-4x64


class BitStream:
    """Uniform vectors in {±1}^n.

    Args:
        n: length of a vector.
        seed: the seed of the stream, 0 or more.
        purpose: streams of different purposes are independent. A held-out sample equals a training sample
            only by chance, which does not happen for n = 100.
    """

    def __init__(self, n: int, seed: int, purpose: Purpose = "train") -> None:
        assert seed >= 0
        self.n = n
        self.seed = seed
        self.purpose = purpose
        self._key = seed * len(_PURPOSES) + _PURPOSES.index(purpose)
        self._counters = -(-n // _BITS)  # of one sample

    def block(self, first: int, count: int) -> np.ndarray:
        """(count, n) int8: samples `first` to `first + count − 1`."""
        words = self._counters * _BITS // 64
        raw = np.random.Philox(key=self._key, counter=first * self._counters).random_raw(count * words)
        bits = np.unpackbits(
            raw.astype("<u8", copy=False).view(np.uint8).reshape(count, words * 8), axis=1, count=self.n
        )
        return 1 - 2 * bits.view(np.int8)
