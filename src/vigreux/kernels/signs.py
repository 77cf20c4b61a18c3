"""Signed sums of vectors, four at a time: `out_i += Σ_r s_ir v_r`, s_ir ∈ {−1, +1}.

Inputs are signs, so neither `W x` nor `Σ_r U_r x_rᵀ` needs a multiplication. Four vectors have only eight
signed sums, up to a common sign. These are computed once, and each `out_i` adds one of them: a quarter of the
work of a matrix product (the "Method of Four Russians", Arlazarov et al. 1970). A code selects one of the
eight sums, and a sign s multiplies it:

    s (v_0 + x_1 v_1 + x_2 v_2 + x_3 v_3),    code = Σ_k 2^{k−1} [s_k ≠ s_0],    x_k = s_k s_0,    s = s_0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from vigreux.kernels.lanes import TILE, Lanes, lanes_intrinsic

FOUR, SUMS = 4, 8  # vectors per chunk, and their signed sums up to a common sign
ROWS = 2


def _sums(vectors: int) -> Callable[..., None]:
    """Computes the sums of a tile that is `vectors` vectors wide."""

    def write(e: Lanes, table: Any, source: Any, start: Any, stride: Any, chunks: Any) -> None:
        b = e.builder
        with e.loop(chunks) as chunk:
            row = e.at(start, e.times(e.times(chunk, FOUR), stride))
            for v in range(vectors):
                w = [e.load(source, e.at(row, e.times(stride, r), v * e.lanes)) for r in range(FOUR)]
                for r in range(FOUR):
                    e.prefetch(source, e.at(row, e.times(stride, r), (TILE + v) * e.lanes))
                pair = [b.fadd(w[0], w[1]), b.fsub(w[0], w[1])]
                second_pair = [b.fadd(w[2], w[3]), b.fsub(w[2], w[3])]
                for code in range(SUMS):
                    one, two, three = code & 1, code >> 1 & 1, code >> 2 & 1
                    join = b.fsub if two else b.fadd  # ±(v_2 ± v_3)
                    entry = e.at(e.times(e.at(e.times(chunk, SUMS), code), TILE * e.lanes), v * e.lanes)
                    e.store(join(pair[one], second_pair[two ^ three]), table, entry)

    return write


def _adder(rows: int, vectors: int, *, onto: bool) -> Callable[..., None]:
    """Adds to `out` or overwrites it, `rows` rows together. A single row would wait for its own sum."""

    def write(
        e: Lanes, table: Any, out: Any, start: Any, stride: Any, first: Any, count: Any, ahead: Any,
        codes: Any, row_step: Any, chunk_step: Any, chunks: Any,
    ) -> None:  # fmt: skip
        b = e.builder
        with e.loop(count, rows) as step:
            i = [e.at(first, step, r) for r in range(rows)]
            indices = [[e.at(start, e.times(row, stride), v * e.lanes) for v in range(vectors)] for row in i]
            for row_indices in indices:  # the same rows of the next tile
                for index in row_indices:
                    e.prefetch(out, e.at(index, ahead))
            sums = [
                [e.register(e.load(out, index) if onto else e.zero()) for index in row_indices]
                for row_indices in indices
            ]
            with e.loop(chunks) as chunk:
                for row, row_sums in zip(i, sums):
                    code_and_sign = b.zext(
                        e.scalar(codes, e.at(e.times(row, row_step), e.times(chunk, chunk_step))), chunk.type
                    )
                    code = b.and_(code_and_sign, e.integer(SUMS - 1))
                    sign = e.splat(e.signed_one(b.lshr(code_and_sign, e.integer(3))))
                    entry = e.times(e.at(e.times(chunk, SUMS), code), TILE * e.lanes)
                    for v in range(vectors):
                        e.add_to(row_sums[v], e.load(table, e.at(entry, v * e.lanes)), sign)
            for row_indices, row_sums in zip(indices, sums):
                for index, variable in zip(row_indices, row_sums):
                    e.store(b.load(variable), out, index)

    return write


_sums_of_tile, _sums_of_one = lanes_intrinsic(_sums(TILE)), lanes_intrinsic(_sums(1))
_add_many = lanes_intrinsic(_adder(ROWS, TILE, onto=True))
_add_one = lanes_intrinsic(_adder(1, TILE, onto=True))
_set_many = lanes_intrinsic(_adder(ROWS, TILE, onto=False))
_set_one = lanes_intrinsic(_adder(1, TILE, onto=False))
_add_narrow, _set_narrow = lanes_intrinsic(_adder(1, 1, onto=True)), lanes_intrinsic(_adder(1, 1, onto=False))


@njit(cache=True, nogil=True, forceinline=True)
def write_sums(
    table: np.ndarray, source: np.ndarray, start: int, stride: int, chunks: int, vectors: int
) -> None:
    """table[chunk, code] ← the eight sums of rows 4 · chunk … of `source`, at `start + row · stride`."""
    if vectors == TILE:
        _sums_of_tile(table, source, start, stride, chunks)
    else:
        _sums_of_one(table, source, start, stride, chunks)


@njit(cache=True, nogil=True, forceinline=True)
def add_sums(
    table: np.ndarray, out: np.ndarray, start: int, stride: int, count: int, ahead: int, codes: np.ndarray,
    row_step: int, chunk_step: int, chunks: int, vectors: int,
) -> None:  # fmt: skip
    """out_i ← out_i + Σ_chunk ± table[chunk, code], for rows i < count, which begin at `start + i · stride`.

    The same row of the next tile, `ahead` elements further, is prefetched into the cache.
    """
    most = count // ROWS * ROWS
    if vectors == TILE:
        _add_many(table, out, start, stride, 0, most, ahead, codes, row_step, chunk_step, chunks)
        _add_one(table, out, start, stride, most, count - most, ahead, codes, row_step, chunk_step, chunks)
    else:
        _add_narrow(table, out, start, stride, 0, count, ahead, codes, row_step, chunk_step, chunks)


@njit(cache=True, nogil=True, forceinline=True)
def set_sums(
    table: np.ndarray, out: np.ndarray, start: int, stride: int, count: int, ahead: int, codes: np.ndarray,
    row_step: int, chunk_step: int, chunks: int, vectors: int,
) -> None:  # fmt: skip
    """out_i ← Σ_chunk ± table[chunk, code]: `add_sums` without the previous values of `out`."""
    most = count // ROWS * ROWS
    if vectors == TILE:
        _set_many(table, out, start, stride, 0, most, ahead, codes, row_step, chunk_step, chunks)
        _set_one(table, out, start, stride, most, count - most, ahead, codes, row_step, chunk_step, chunks)
    else:
        _set_narrow(table, out, start, stride, 0, count, ahead, codes, row_step, chunk_step, chunks)


@njit(cache=True, nogil=True)
def encode_inputs(X: np.ndarray, first: int, count: int, codes: np.ndarray) -> None:
    """Writes codes (count, chunks) of rows `first` … of X (N, ≥ 4 · chunks) int8; a chunk is four inputs."""
    for r in range(count):
        x, code = X[first + r], codes[r]
        for c in range(codes.shape[1]):
            s = x[FOUR * c]
            code[c] = (
                (x[FOUR * c + 1] != s)
                | (x[FOUR * c + 2] != s) << 1
                | (x[FOUR * c + 3] != s) << 2
                | (s < 0) << 3
            )


@njit(cache=True, nogil=True)
def encode_rows(X: np.ndarray, first: int, chunks: int, codes: np.ndarray) -> None:
    """Writes the codes (≥ chunks, n) of the columns of X; a chunk is four rows, from row `first` on."""
    for c in range(chunks):
        row = first + FOUR * c
        zero, one, two, three, code = X[row], X[row + 1], X[row + 2], X[row + 3], codes[c]
        for j in range(codes.shape[1]):
            s = zero[j]
            code[j] = (one[j] != s) | (two[j] != s) << 1 | (three[j] != s) << 2 | (s < 0) << 3
