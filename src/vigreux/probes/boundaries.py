"""Accuracy of a grammar model by boundary level, the number of ancestors that a token ends.

A token of boundary level l is the last token of its ancestors at levels 1 … l. A token of level 0 ends no
ancestor. The higher the level, the more of a sentence a model must know to predict the token or its
successor. In arXiv 2410.05464, the accuracy "at level l" covers tokens that end at least l levels, as in
`at_least`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vigreux.errors import DataError

IGNORE = -100


@dataclass(frozen=True)
class LevelAccuracy:
    """The number of predicted tokens of one level, and the number of correct predictions."""

    level: int
    right: int
    count: int

    @property
    def accuracy(self) -> float:
        """right / count; NaN if the level has no token."""
        return self.right / self.count if self.count else float("nan")


def accuracy_by_level(batches: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> tuple[LevelAccuracy, ...]:
    """Accuracy of next-token or masked predictions at each boundary level from 0 to the largest that occurs.

    Args:
        batches: Triples of arrays, or of tensors on the CPU, of one shape: the predicted ids (the argmax of
            the logits), the aligned labels (−100 where nothing is predicted), and the boundary level of each
            label's token.

    Raises:
        DataError: the shapes differ, a label has a negative level, or there is no label at all.
    """
    right = np.zeros(0, np.int64)
    count = np.zeros(0, np.int64)
    for batch in batches:
        predicted, labels, levels = map(np.asarray, batch)
        if not predicted.shape == labels.shape == levels.shape:
            raise DataError(
                f"boundaries: predictions {predicted.shape}, labels {labels.shape}, levels {levels.shape};"
                " accepted: one shape"
            )
        labelled = labels != IGNORE
        if (levels[labelled] < 0).any():
            raise DataError(
                f"boundaries: level {levels[labelled].min()}; accepted: from 0, inside every non-terminal"
            )
        count = _add_levels(count, levels[labelled])
        right = _add_levels(right, levels[labelled & (predicted == labels)])
    if not count.any():
        raise DataError("boundaries: no position carries a label; accepted: at least one")
    right = np.pad(right, (0, len(count) - len(right)))
    return tuple(LevelAccuracy(level, int(r), int(c)) for level, (r, c) in enumerate(zip(right, count)))


def at_least(scores: Sequence[LevelAccuracy], level: int) -> LevelAccuracy:
    """The sum over all levels from `level` up: the tokens that end a non-terminal of `level`."""
    above = [score for score in scores if score.level >= level]
    return LevelAccuracy(level, sum(score.right for score in above), sum(score.count for score in above))


def _add_levels(counts: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Adds the tokens of `levels` to `counts` by level. The result is longer if a higher level occurs."""
    total = np.bincount(levels.astype(np.int64), minlength=len(counts))
    total[: len(counts)] += counts
    return total
