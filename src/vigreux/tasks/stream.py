"""The order of training samples: sample `t` of a run is a pure function of `(seed, t)`.

It does not depend on the curriculum. So a resumed run skips `t` samples and continues exactly. The students
of a comparison see the same samples in the same order with the same masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

# The purpose of a draw: it makes the order of an epoch and the masks of a sample independent.
_ORDER = 0
_SAMPLE = 1


NO_COLUMNS: Mapping[str, np.ndarray] = {}


class Example(NamedTuple):
    """One row of the data.

    Args:
        inputs: token ids (n,) int32, or a row of a tensor.
        label: the class id of the row; `None` where it has none.
        levels: (n,) the boundary level of each token in a sentence of a grammar.
        columns: further inputs of the model by name: a value per token (n, …), or one per row ().
        token_labels: (n,) the label of each position, −100 where no loss counts; `None` if the collator makes
            the labels.
    """

    inputs: np.ndarray | Tensor
    label: int | None
    levels: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = NO_COLUMNS
    token_labels: np.ndarray | None = None


class Examples(Protocol):
    """Examples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@runtime_checkable
class Endless(Protocol):
    """Examples that are drawn on demand and never repeat."""

    def example_at(self, seed: int, t: int) -> Example:
        """Example t of the stream of `seed`: a pure function of both."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An example with its number in a stream. `(seed, t)` determines all randomness in its collation.

    Args:
        example: inputs and label.
        index: its index in the stored examples, or t where they are endless.
        seed: the seed of the stream.
        t: its number in the stream.
        held_out: whether it is a held-out example.
    """

    example: Example
    index: int
    seed: int
    t: int
    held_out: bool = False

    def generator(self) -> np.random.Generator:
        """The random generator of this sample (masks), a function of `(seed, t)`."""
        return np.random.default_rng((_SAMPLE, _unsigned(self.seed), self.t))


class SampleStream(Dataset[Sample]):
    """Samples `offset`, …, `offset + length − 1` of an endless stream.

    Sample t of n stored examples is example `permutation(seed, t // n)[t % n]`. Sample t of endless examples
    is `example_at(seed, t)`. Read the stream in order (a `SequentialSampler`): it caches the permutations of
    the last epochs only.

    Args:
        examples: n stored examples, or endless ones.
        seed: the seed of order, masks and drawn samples.
        offset: t of the first sample.
        length: number of samples.
    """

    def __init__(self, examples: Examples | Endless, seed: int, offset: int, length: int) -> None:
        assert isinstance(examples, Endless) or len(examples) > 0
        assert offset >= 0
        assert length >= 0
        self.examples = examples
        self.seed = seed
        self.offset = offset
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> Sample:
        if not 0 <= position < self.length:
            raise IndexError(position)
        t = self.offset + position
        if isinstance(self.examples, Endless):
            return Sample(self.examples.example_at(self.seed, t), t, self.seed, t)
        epoch, position_in_epoch = divmod(t, len(self.examples))
        index = int(_permutation(self.seed, epoch, len(self.examples))[position_in_epoch])
        return Sample(self.examples[index], index, self.seed, t)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """(size,) int64: the order of one epoch."""
    return np.random.default_rng((_ORDER, _unsigned(seed), epoch)).permutation(size)


def _unsigned(seed: int) -> int:
    return seed % 2**64
