"""Hidden units and logits of a two-layer network on sign inputs, at a quarter of a matrix product's cost.

See `signs.py` for the method.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from vigreux.kernels.blocks import pack
from vigreux.kernels.denormals import no_denormals
from vigreux.kernels.lanes import TILE, Lanes, aligned, lanes_intrinsic, lanes_of
from vigreux.kernels.signs import FOUR, SUMS, encode_inputs, set_sums, write_sums

ROWS = 128  # samples that share the sums of a tile; also the fewest samples that justify a thread


class SignForward:
    """`relu(W x + b)` and `A relu(W x + b) + c` for x ∈ {±1}^n.

    Args:
        W, b: hidden layer (m, n) and (m,).
        A, c: output layer (K, m) and (K,).
    """

    def __init__(self, W: Tensor, b: Tensor, A: Tensor, c: Tensor) -> None:
        (self.width, self.n), dtype = W.shape, W.numpy().dtype
        self.lanes, self.chunks = lanes_of(dtype), -(-(self.n + 1) // FOUR)
        size = TILE * self.lanes
        self.tiles = aligned(-(-self.width // size), self.chunks * FOUR, size, dtype=dtype)
        pack(W.numpy(), b.numpy(), self.tiles)
        self.A, self.c = aligned(len(A), len(self.tiles) * size, dtype=dtype), c.numpy()
        self.A[:, : self.width] = A.numpy()

    def logits(self, X: np.ndarray) -> Tensor:
        """The logits: X (N, n) ±1 → (N, K)."""
        logits = np.empty((len(X), len(self.A)), self.A.dtype)

        def work(rows: slice) -> None:
            size = self.tiles.shape[2]
            Z = aligned(ROWS, size, dtype=self.A.dtype)
            sums = aligned(ROWS, len(self.A), self.lanes, dtype=self.A.dtype)
            _logits(self.tiles, self.A, self.c, *self._workspace(X, rows), Z, sums, logits[rows])

        self._on_threads(work, len(X))
        return torch.from_numpy(logits)

    def hidden(self, X: np.ndarray) -> Tensor:
        """The hidden units after the relu, one row per unit: X (N, n) ±1 → (m, N)."""
        hidden = np.empty((self.width, len(X)), self.A.dtype)

        def work(rows: slice) -> None:
            Z = aligned(ROWS, self.tiles.shape[2], dtype=self.A.dtype)
            _hidden(self.tiles, *self._workspace(X, rows), Z, hidden, rows.start)

        self._on_threads(work, len(X))
        return torch.from_numpy(hidden)

    def _workspace(self, X: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        samples = np.ones((rows.stop - rows.start, self.chunks * FOUR), np.int8)
        samples[:, : self.n] = X[rows]
        table = aligned(self.chunks * SUMS * self.tiles.shape[2], dtype=self.A.dtype)
        return samples, np.empty((ROWS, self.chunks), np.uint8), table

    def _on_threads(self, work: Callable[[slice], None], count: int) -> None:
        """Calls `work` on slices of `count` samples, on as many threads as torch uses."""
        threads = torch.get_num_threads()
        share = -(-count // threads)
        slices = [slice(start, min(start + share, count)) for start in range(0, count, max(share, 1))]

        def run(rows: slice) -> None:
            with no_denormals():
                work(rows)

        if len(slices) <= 1 or count <= ROWS:
            run(slice(0, count))
            return
        with ThreadPoolExecutor(len(slices)) as pool:
            list(pool.map(run, slices))


def _write_relu_dots(
    e: Lanes, Z: Any, A: Any, sums: Any, column: Any, stride: Any, count: Any, logits: Any
) -> None:
    """sums[r, k] ← sums[r, k] + A[k, column :] relu(Z[r]) over one tile, lane by lane."""
    size = TILE * e.lanes
    with e.loop(count) as r:
        h = [e.positive_part(e.load(Z, e.at(e.times(r, size), v * e.lanes))) for v in range(TILE)]
        with e.loop(logits) as k:
            index = e.times(e.at(e.times(r, logits), k), e.lanes)
            total = e.load(sums, index)
            for v in range(TILE):
                total = e.fma(e.load(A, e.at(e.times(k, stride), column, v * e.lanes)), h[v], total)
            e.store(total, sums, index)


_relu_dots = lanes_intrinsic(_write_relu_dots)


@njit(cache=True, nogil=True)
def _logits(
    tiles: np.ndarray, A: np.ndarray, c: np.ndarray, X: np.ndarray, codes: np.ndarray, table: np.ndarray,
    Z: np.ndarray, sums: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    count, inputs, size = tiles.shape
    for start in range(0, len(X), len(Z)):
        rows = min(len(Z), len(X) - start)
        encode_inputs(X, start, rows, codes)
        sums[:] = 0
        for t in range(count):
            write_sums(table, tiles, t * inputs * size, size, inputs // FOUR, TILE)
            set_sums(table, Z, 0, size, rows, 0, codes, inputs // FOUR, 1, inputs // FOUR, TILE)
            _relu_dots(Z, A, sums, t * size, A.shape[1], rows, len(A))
        for r in range(rows):
            for k in range(len(A)):
                out[start + r, k] = c[k] + sums[r, k].sum()


@njit(cache=True, nogil=True)
def _hidden(
    tiles: np.ndarray, X: np.ndarray, codes: np.ndarray, table: np.ndarray, Z: np.ndarray, out: np.ndarray,
    first: int,
) -> None:  # fmt: skip
    """out[:, first :] (m, N) ← the hidden layer of X, one row per unit."""
    count, inputs, size = tiles.shape
    zero = out.dtype.type(0)
    for start in range(0, len(X), len(Z)):
        rows = min(len(Z), len(X) - start)
        encode_inputs(X, start, rows, codes)
        for t in range(count):
            write_sums(table, tiles, t * inputs * size, size, inputs // FOUR, TILE)
            set_sums(table, Z, 0, size, rows, 0, codes, inputs // FOUR, 1, inputs // FOUR, TILE)
            for j in range(min(size, len(out) - t * size)):
                for r in range(rows):
                    value = Z[r, j]
                    out[t * size + j, first + start + r] = zero if value <= zero else value  # NaN stays
