"""Token ids of many examples in one flat array, and their padding into a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from vigreux.tasks.stream import Example


@dataclass(frozen=True)
class TokenTable:
    """Ragged rows of token ids, with further inputs of the model.

    Args:
        tokens: (total,) int32, all rows one after another.
        ends: (n,) int64, the end of each row.
        labels: (n,) int64 class ids, or `None`.
        columns: name → (total, …), further inputs per token.
        row_columns: name → (n,), further inputs per row.
        token_labels: (total,) int64, the label of each position (−100: none), or `None` (see `Example`).
    """

    tokens: np.ndarray
    ends: np.ndarray
    labels: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    row_columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    token_labels: np.ndarray | None = None

    @classmethod
    def of_rows(
        cls,
        rows: Iterable[Sequence[int] | np.ndarray],
        labels: Sequence[int] | None = None,
        *,
        columns: Mapping[str, Sequence[Sequence[int] | np.ndarray]] | None = None,
        row_columns: Mapping[str, Sequence[int]] | None = None,
        token_labels: Sequence[Sequence[int] | np.ndarray] | None = None,
    ) -> TokenTable:
        """A table from one sequence of ids per row.

        Columns and labels of tokens are sequences of the same lengths.
        """
        arrays = [np.asarray(row, dtype=np.int32) for row in rows]
        return cls(
            np.concatenate(arrays),
            np.cumsum([len(row) for row in arrays], dtype=np.int64),
            None if labels is None else np.asarray(labels, dtype=np.int64),
            {
                name: np.concatenate([np.asarray(row) for row in values])
                for name, values in (columns or {}).items()
            },
            {name: np.asarray(values) for name, values in (row_columns or {}).items()},
            None if token_labels is None else np.concatenate(token_labels).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.ends)

    def span(self, index: int) -> slice:
        """The slice of `tokens` that holds a row."""
        return slice(int(self.ends[index - 1]) if index > 0 else 0, int(self.ends[index]))

    def row(self, index: int) -> np.ndarray:
        """(length,) int32, a view."""
        return self.tokens[self.span(index)]

    def __getitem__(self, index: int) -> Example:
        span = self.span(index)
        columns = {name: values[span] for name, values in self.columns.items()}
        columns |= {name: values[index] for name, values in self.row_columns.items()}
        label = None if self.labels is None else int(self.labels[index])
        token_labels = None if self.token_labels is None else self.token_labels[span]
        return Example(self.tokens[span], label, None, columns, token_labels)

    def draw(self, most: int, seed: int) -> TokenTable:
        """At most `most` rows, drawn by `seed`, in the order of the table."""
        if len(self) <= most:
            return self
        chosen = np.sort(np.random.default_rng(seed % 2**64).permutation(len(self))[:most]).tolist()
        spans = [self.span(i) for i in chosen]
        return TokenTable.of_rows(
            [self.tokens[span] for span in spans],
            None if self.labels is None else self.labels[chosen].tolist(),
            columns={name: [values[span] for span in spans] for name, values in self.columns.items()},
            row_columns={name: values[chosen] for name, values in self.row_columns.items()},
            token_labels=None if self.token_labels is None else [self.token_labels[span] for span in spans],
        )

    @property
    def mean_length(self) -> int:
        """The mean number of tokens per row, rounded up."""
        return -(-len(self.tokens) // len(self))

    @property
    def longest(self) -> int:
        """The index of the longest row; of several, the first."""
        return int(np.diff(self.ends, prepend=0).argmax())

    def arrays(self) -> Iterator[tuple[str, np.ndarray | None]]:
        """The arrays of the table by name. Optional ones are omitted where the table lacks them."""
        yield from (("tokens", self.tokens), ("ends", self.ends), ("labels", self.labels))
        if self.token_labels is not None:
            yield "token_labels", self.token_labels
        yield from sorted(self.columns.items())
        yield from sorted(self.row_columns.items())


def pad(rows: Sequence[np.ndarray], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of ids, padded on the right to the longest.

    Returns:
        ids (B, T) and attention mask (B, T), both int64.
    """
    ids = _filled(rows, pad_id, np.int64)
    mask = _filled([np.ones(len(row), dtype=np.int64) for row in rows], 0, np.int64)
    return torch.from_numpy(ids), torch.from_numpy(mask)


def pad_inputs(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """The model's inputs: input_ids (B, T), attention_mask (B, T), and the columns (B, T, …) or (B,).

    Columns are padded with 0. A column `attention_mask` replaces the mask that only hides padding.
    """
    ids, mask = pad([np.asarray(example.inputs) for example in examples], pad_id)
    inputs = {"input_ids": ids, "attention_mask": mask}
    for name in examples[0].columns:
        rows = [np.asarray(example.columns[name]) for example in examples]
        filled = np.stack(rows) if rows[0].ndim == 0 else _filled(rows, 0, rows[0].dtype)
        inputs[name] = torch.from_numpy(filled)
    return inputs


def _filled(rows: Sequence[np.ndarray], fill: int, dtype: DTypeLike) -> np.ndarray:
    """(B, T, …): rows (n, …), each filled with `fill` up to the longest."""
    filled = np.full((len(rows), max(len(row) for row in rows), *rows[0].shape[1:]), fill, dtype=dtype)
    for i, row in enumerate(rows):
        filled[i, : len(row)] = row
    return filled
