"""Samples go through a network in blocks: each block reads and writes the weights once, and its steps are taken on small matrices.

`shard` is one thread's part of the network. Its weights lie tile by tile, a tile's inputs one after another, so that a tile stays in
the first-level cache while it takes in the last block's updates and gives the next block's pre-activations.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vigreux.kernels.corrections import correct, gram
from vigreux.kernels.signs import FOUR, add_sums, encode_inputs, encode_rows, set_sums, write_sums
from vigreux.kernels.steps import hidden_steps, logits_steps


@njit(cache=True, nogil=True)
def pack(W: np.ndarray, b: np.ndarray, tiles: np.ndarray) -> None:
    """W (m, n) and b (m,) into tiles (T, inputs, units): an input a row, the bias last."""
    m, n = W.shape
    size = tiles.shape[2]
    for unit in range(m):
        t, j = unit // size, unit % size
        for i in range(n):
            tiles[t, i, j] = W[unit, i]
        tiles[t, n, j] = b[unit]


@njit(cache=True, nogil=True)
def unpack(tiles: np.ndarray, scale: float, W: np.ndarray, b: np.ndarray) -> None:
    """The way back, times `scale`."""
    m, n = W.shape
    size, factor = tiles.shape[2], W.dtype.type(scale)
    for unit in range(m):
        t, j = unit // size, unit % size
        for i in range(n):
            W[unit, i] = factor * tiles[t, i, j]
        b[unit] = factor * tiles[t, n, j]


@njit(cache=True, nogil=True)
def _through_tiles(
    tiles: np.ndarray, U: np.ndarray, Z: np.ndarray, table: np.ndarray, length: int, earlier: int, count: int, input_codes: np.ndarray,
    row_codes: np.ndarray, padded: int, lanes: int,
) -> None:  # fmt: skip
    """tiles ← tiles + Xᵀ U of the `earlier` rows before, then Z ← X tiles of the next `count` rows."""
    _, inputs, size = tiles.shape
    units, row_chunks, input_chunks = Z.shape[1], -(-earlier // FOUR), inputs // FOUR
    for t in range(tiles.shape[0]):
        tile, column = t * inputs * size, t * size
        vectors = min(size, padded - column) // lanes
        if earlier > 0:
            write_sums(table, U, column, units, row_chunks, vectors)
            add_sums(table, tiles, tile, size, length, row_codes, 1, row_codes.shape[1], row_chunks, vectors)
        if count > 0:
            write_sums(table, tiles, tile, size, input_chunks, vectors)
            set_sums(table, Z, column, units, count, input_codes, input_chunks, 1, input_chunks, vectors)


@njit(cache=True, nogil=True)
def _rescale(tiles: np.ndarray, U: np.ndarray, scale: float) -> float:
    """Multiplies the scale out before weight decay makes it too small; rarely."""
    if scale > 0.5:
        return scale
    tiles *= tiles.dtype.type(scale)
    U *= U.dtype.type(scale)
    return 1.0


@njit(cache=True, nogil=True)
def train(
    tiles: np.ndarray, A: np.ndarray, c: np.ndarray, Z: np.ndarray, U: np.ndarray, G: np.ndarray, P: np.ndarray, table: np.ndarray,
    input_codes: np.ndarray, row_codes: np.ndarray, X: np.ndarray, bits: np.ndarray,
    length: int, targets: np.ndarray, hidden: np.ndarray, weight: float, before: bool, losses: np.ndarray, rate: np.ndarray,
    shrink: np.ndarray, batch: int, group: int, quad: int, kind: int, alpha: float, column: int, units: int, padded: int, lanes: int,
    work: np.ndarray, thread: int, counter: np.ndarray,
) -> float:  # fmt: skip
    """Takes all samples through; gives the scale by which `tiles` is still to be multiplied.

    Args:
        tiles, A, c: the shard's weights. Z, U (B, m), G (B, B), P: see `steps`.
        table, input_codes, row_codes: workspace of `signs`.
        X: the samples (N and 3 more, inputs or more) int8. bits: workspace of `gram`.
        length: inputs that count, the bias among them.
        targets: of the logits (N, K), or none: (0, K); then the hidden layer alone is matched.
        lanes: numbers in a vector.
        group, quad: rows that take in all earlier rows of the block together; the earlier rows of their group together.
        others: see `steps`.
    """
    size, scale, earlier, before_start = Z.shape[0], 1.0, 0, 0
    for start in range(0, losses.shape[1], size):
        count = min(size, losses.shape[1] - start)
        encode_rows(X, before_start, -(-earlier // FOUR), row_codes)
        encode_inputs(X, start, count, input_codes)
        _through_tiles(tiles, U, Z, table, length, earlier, count, input_codes, row_codes, padded, lanes)
        gram(X, start, count, length, bits, G)
        for first in range(0, count, group):
            last = min(first + group, count)
            correct(Z, G, U, first, last, 0, first, padded, lanes)
            for one in range(first, last, quad):
                end = min(one + quad, last)
                correct(Z, G, U, one, end, first, one, padded, lanes)
                if len(targets) > 0:
                    scale = logits_steps(
                        Z, G, U, A, c, P, targets, hidden, weight, before, losses, rate, shrink, batch, start, one, end, scale, kind,
                        alpha, column, units, padded, work, thread, counter,
                    )  # fmt: skip
                else:
                    scale = hidden_steps(
                        Z, G, U, hidden, before, losses, rate, shrink, batch, start, one, end, scale, column, units, padded, lanes
                    )
        U[count : -(-count // FOUR) * FOUR] = 0
        scale = _rescale(tiles, U, scale)
        earlier, before_start = count, start
    encode_rows(X, before_start, -(-earlier // FOUR), row_codes)
    _through_tiles(tiles, U, Z, table, length, earlier, 0, input_codes, row_codes, padded, lanes)
    return scale
