"""Token ids of many examples in one flat array, and their padding into a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vigreux.tasks.stream import Example


@dataclass(frozen=True)
class TokenTable:
    """Ragged rows of token ids.

    Args:
        tokens: (total,) int32, all rows one after another.
        ends: (n,) int64, where each row ends.
        labels: (n,) int64 class ids, or `None`.
    """

    tokens: np.ndarray
    ends: np.ndarray
    labels: np.ndarray | None = None

    @classmethod
    def of_rows(
        cls, rows: Iterable[Sequence[int] | np.ndarray], labels: Sequence[int] | None = None
    ) -> TokenTable:
        """From one sequence of ids per example."""
        arrays = [np.asarray(row, dtype=np.int32) for row in rows]
        ends = np.cumsum([len(row) for row in arrays], dtype=np.int64)
        return cls(
            np.concatenate(arrays), ends, None if labels is None else np.asarray(labels, dtype=np.int64)
        )

    def __len__(self) -> int:
        return len(self.ends)

    def row(self, index: int) -> np.ndarray:
        """(length,) int32, a view."""
        return self.tokens[self.ends[index - 1] if index > 0 else 0 : self.ends[index]]

    def __getitem__(self, index: int) -> Example:
        return Example(self.row(index), None if self.labels is None else int(self.labels[index]))

    def draw(self, most: int, seed: int) -> TokenTable:
        """At most `most` rows, drawn by `seed`, in their order here."""
        if len(self) <= most:
            return self
        chosen = np.sort(np.random.default_rng(seed % 2**64).permutation(len(self))[:most]).tolist()
        return TokenTable.of_rows(
            [self.row(i) for i in chosen], None if self.labels is None else self.labels[chosen].tolist()
        )

    @property
    def mean_length(self) -> int:
        """Mean tokens a row, rounded up."""
        return -(-len(self.tokens) // len(self))


def pad(rows: Sequence[np.ndarray], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of ids, padded on the right to the longest.

    Returns:
        ids (B, T) and attention mask (B, T), both int64.
    """
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)  # (B, T)
    mask = np.zeros_like(ids)  # (B, T)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
