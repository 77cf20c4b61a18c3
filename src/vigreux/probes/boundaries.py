"""How often the right token is predicted, by the boundary that the token is: the last one of how many of its ancestors.

A boundary of level l is the last token of its ancestors at levels 1 … l; 0 is inside all of them. The higher the boundary, the
more of a sentence has to be known to predict what follows it or stands there (arXiv 2410.05464, whose accuracy "at level
l" is that of the tokens that end at least l: `at_least`).
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
    """Predictions of the tokens of one level: how many there were, and how many were right."""

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
        batches: of equal shape each, arrays or tensors on the CPU: the predicted ids (the logits' argmax), the labels aligned with
            them (−100 where nothing is predicted), and the boundary level of each label's token.

    Raises:
        DataError: shapes that differ, a negative level at a label, or no label at all.
    """
    right, count = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for batch in batches:
        predicted, labels, levels = (np.asarray(part) for part in batch)
        if not predicted.shape == labels.shape == levels.shape:
            raise DataError(
                f"boundaries: predictions {predicted.shape}, labels {labels.shape}, levels {levels.shape}; accepted: one shape"
            )
        asked = labels != IGNORE
        if (levels[asked] < 0).any():
            raise DataError(
                f"boundaries: level {levels[asked].min()}; accepted: from 0, inside every non-terminal"
            )
        count = _added(count, levels[asked])
        right = _added(right, levels[asked & (predicted == labels)])
    if not count.any():
        raise DataError("boundaries: no position carries a label; accepted: at least one")
    right = np.pad(right, (0, len(count) - len(right)))
    return tuple(LevelAccuracy(level, int(r), int(c)) for level, (r, c) in enumerate(zip(right, count)))


def at_least(scores: Sequence[LevelAccuracy], level: int) -> LevelAccuracy:
    """The tokens that end a non-terminal of `level`, whatever else they end: all levels from it up, taken together."""
    above = [score for score in scores if score.level >= level]
    return LevelAccuracy(level, sum(score.right for score in above), sum(score.count for score in above))


def _added(counts: np.ndarray, levels: np.ndarray) -> np.ndarray:
    found = np.bincount(levels.astype(np.int64), minlength=len(counts))
    found[: len(counts)] += counts
    return found
