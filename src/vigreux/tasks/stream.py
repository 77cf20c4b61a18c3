"""The order of training samples: sample `t` of a run is a pure function of `(seed, t)`, whatever the curriculum.

So a run that is resumed by skipping `t` samples goes on exactly, and the students of a comparison see the same samples in the same
order with the same masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

_ORDER, _SAMPLE = (
    0,
    1,
)  # what a draw is for: keeps the order of an epoch and the masks of a sample independent


NO_COLUMNS: Mapping[str, np.ndarray] = {}


class Example(NamedTuple):
    """One row of the data.

    Args:
        inputs: token ids (n,) int32, or a row of a tensor.
        label: the class id, if any.
        levels: (n,) each token's boundary level in a sentence of a grammar.
        columns: further inputs of the model by name: one value a token (n, …), or one a row ().
        token_labels: (n,) what each position is to predict, −100 where no loss counts; `None`: the collator's own labels.
    """

    inputs: np.ndarray | Tensor
    label: int | None
    levels: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = NO_COLUMNS
    token_labels: np.ndarray | None = None


class Examples(Protocol):
    """A map-style collection of examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@runtime_checkable
class Endless(Protocol):
    """Examples that are drawn as they are asked for and never come twice."""

    def example_at(self, seed: int, t: int) -> Example:
        """Example t of the stream that `seed` fixes: a pure function of both."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An example at its place in a stream; `(seed, t)` fixes everything random in its collation.

    Args:
        example: inputs and label.
        index: its place in the stored examples, or t where they are endless.
        seed: of the stream.
        t: its place in the stream.
        held_out: whether it is one of the held-out examples.
    """

    example: Example
    index: int
    seed: int
    t: int
    held_out: bool = False

    def generator(self) -> np.random.Generator:
        """The source of this sample's own randomness (masks), a function of `(seed, t)`."""
        return np.random.default_rng((_SAMPLE, _unsigned(self.seed), self.t))


class SampleStream(Dataset[Sample]):
    """Samples `offset`, …, `offset + length − 1` of a stream without end; sample t is example `permutation(seed, t // n)[t % n]`.

    Endless examples are drawn: sample t is `example_at(seed, t)`. To be read in order (a `SequentialSampler`): only
    the permutations of the last epochs read are kept.

    Args:
        examples: n stored examples, or endless ones.
        seed: of order and masks, and of what is drawn.
        offset: the first sample's t.
        length: number of samples.
    """

    def __init__(self, examples: Examples | Endless, seed: int, offset: int, length: int) -> None:
        assert isinstance(examples, Endless) or len(examples) > 0
        assert offset >= 0
        assert length >= 0
        self.examples, self.seed, self.offset, self.length = examples, seed, offset, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> Sample:
        if not 0 <= position < self.length:
            raise IndexError(position)
        t = self.offset + position
        if isinstance(self.examples, Endless):
            return Sample(self.examples.example_at(self.seed, t), t, self.seed, t)
        epoch, place = divmod(t, len(self.examples))
        index = int(_permutation(self.seed, epoch, len(self.examples))[place])
        return Sample(self.examples[index], index, self.seed, t)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """(size,) int64: the order of one epoch."""
    return np.random.default_rng((_ORDER, _unsigned(seed), epoch)).permutation(size)


def _unsigned(seed: int) -> int:
    return seed % 2**64
