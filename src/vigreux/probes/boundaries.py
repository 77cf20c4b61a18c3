"""Accuracy of a grammar model's predictions by boundary level: how many of its ancestors a token ends.

A token of boundary level l is the last token of its ancestors at levels 1 … l; level 0 is inside all of them.
The higher the level, the more of a sentence a model must know to predict the token or what follows it. In
arXiv 2410.05464 the accuracy "at level l" is that of tokens which end at least l levels: `at_least`.
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
    """Predictions of the tokens of one level: their number, and the number of right ones."""

    level: int
    right: int
    count: int

    @property
    def accuracy(self) -> float:
        """right / count; nan where the level has no token."""
        return self.right / self.count if self.count else float("nan")


def accuracy_by_level(batches: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> tuple[LevelAccuracy, ...]:
    """Accuracy of next-token or masked predictions at each boundary level from 0 to the largest that occurs.

    Args:
        batches: Triples of one shape, arrays or tensors on the CPU: the predicted ids (the logits' argmax),
            the labels aligned with them (−100 where nothing is predicted), and the boundary level of each
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
    """All levels from `level` up, taken together: the tokens that end a non-terminal of `level`."""
    above = [score for score in scores if score.level >= level]
    return LevelAccuracy(level, sum(score.right for score in above), sum(score.count for score in above))


def _add_levels(counts: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """`counts` by level plus the tokens of `levels`; longer where a higher level occurs."""
    total = np.bincount(levels.astype(np.int64), minlength=len(counts))
    total[: len(counts)] += counts
    return total
