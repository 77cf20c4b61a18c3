"""Trains a network on blocks of samples: the weights are read and written once per block.

The steps within a block work on small matrices.

The weights are stored tile by tile, with the inputs of a tile in order. A tile therefore stays in the
first-level cache while it receives the last block's updates and produces the next block's pre-activations.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vigreux.kernels.corrections import correct, gram
from vigreux.kernels.losses import SOFT_CROSS_ENTROPY
from vigreux.kernels.signs import FOUR, add_sums, encode_inputs, encode_rows, set_sums, write_sums
from vigreux.kernels.steps import hidden_steps, logits_steps, two_class_steps
from vigreux.kernels.vocabulary import Block, Network, Rules, Samples, SharedState, UnitRange


@njit(cache=True, nogil=True)
def train(
    network: Network, block: Block, samples: Samples, rules: Rules, unit_range: UnitRange, shared: SharedState
) -> float:
    """Trains on all samples; returns the scale by which `network.tiles` must still be multiplied."""
    Z, G, U = block.Z, block.G, block.U
    count = samples.losses.shape[1]
    scale = 1.0
    pending_rows = 0  # rows of the last block, whose updates the tiles lack
    pending_start = 0
    two_classes = (
        samples.targets.shape == (count, 2) and rules.kind == SOFT_CROSS_ENTROPY and len(block.P) == 0
    )
    two_classes = two_classes and rules.batch == 1 and shared.work.shape[1] == 1
    for start in range(0, count, len(Z)):
        rows = min(len(Z), count - start)
        encode_rows(samples.X, pending_start, -(-pending_rows // FOUR), block.row_codes)
        encode_inputs(samples.X, start, rows, block.input_codes)
        _through_tiles(network.tiles, block, unit_range, pending_rows, rows)
        gram(samples.X, start, rows, unit_range.length, block.bits, G)
        for first in range(0, rows, rules.group):
            last = min(first + rules.group, rows)
            correct(Z, G, U, first, last, 0, first, unit_range.padded, unit_range.lanes)
            if two_classes:
                scale = two_class_steps(network, block, samples, unit_range, start, first, last, scale)
            elif len(samples.targets) > 0:
                scale = logits_steps(
                    network, block, samples, rules, unit_range, shared, start, first, last, scale
                )
            else:
                scale = hidden_steps(block, samples, rules, unit_range, start, first, last, scale)
        U[rows : -(-rows // FOUR) * FOUR] = 0
        scale = _rescale(network.tiles, U, scale)
        pending_rows, pending_start = rows, start
    encode_rows(samples.X, pending_start, -(-pending_rows // FOUR), block.row_codes)
    _through_tiles(network.tiles, block, unit_range, pending_rows, 0)
    return scale


@njit(cache=True, nogil=True)
def _through_tiles(
    tiles: np.ndarray, block: Block, unit_range: UnitRange, pending_rows: int, rows: int
) -> None:
    """tiles ← tiles + Xᵀ U of the last block's `pending_rows`, then Z ← X tiles of the next `rows`."""
    Z, U, table, input_codes, row_codes = block.Z, block.U, block.table, block.input_codes, block.row_codes
    _, inputs, size = tiles.shape
    units, row_chunks, input_chunks = Z.shape[1], -(-pending_rows // FOUR), inputs // FOUR
    for t in range(tiles.shape[0]):
        tile, column = t * inputs * size, t * size
        vectors = min(size, unit_range.padded - column) // unit_range.lanes
        if pending_rows > 0:
            write_sums(table, U, column, units, row_chunks, vectors)
            add_sums(
                table,
                tiles,
                tile,
                size,
                unit_range.length,
                inputs * size,
                row_codes,
                1,
                row_codes.shape[1],
                row_chunks,
                vectors,
            )
        if rows > 0:
            write_sums(table, tiles, tile, size, input_chunks, vectors)
            set_sums(table, Z, column, units, rows, size, input_codes, input_chunks, 1, input_chunks, vectors)


@njit(cache=True, nogil=True)
def _rescale(tiles: np.ndarray, U: np.ndarray, scale: float) -> float:
    """Applies the scale to the weights before weight decay makes it too small. This happens rarely."""
    if scale > 0.5:
        return scale
    tiles *= tiles.dtype.type(scale)
    U *= U.dtype.type(scale)
    return 1.0


@njit(cache=True, nogil=True)
def pack(W: np.ndarray, b: np.ndarray, tiles: np.ndarray) -> None:
    """Writes W (m, n) and b (m,) to tiles (T, inputs, units): one row per input, the bias last."""
    m, n = W.shape
    size = tiles.shape[2]
    for unit in range(m):
        t, j = unit // size, unit % size
        for i in range(n):
            tiles[t, i, j] = W[unit, i]
        tiles[t, n, j] = b[unit]


@njit(cache=True, nogil=True)
def unpack(tiles: np.ndarray, scale: float, W: np.ndarray, b: np.ndarray) -> None:
    """The inverse of `pack`: writes `scale` times the tiles to W and b."""
    m, n = W.shape
    size, factor = tiles.shape[2], W.dtype.type(scale)
    for unit in range(m):
        t, j = unit // size, unit % size
        for i in range(n):
            W[unit, i] = factor * tiles[t, i, j]
        b[unit] = factor * tiles[t, n, j]
