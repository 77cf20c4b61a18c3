"""Sums of vectors with signs, four at a time: `out_i += Σ_r s_ir v_r`, s_ir ∈ {−1, +1}.

Inputs are signs, so neither `W x` nor `Σ_r U_r x_rᵀ` needs a multiplication. Of four vectors only eight sums exist, up to a common
sign: they are worked out once, and each `out_i` takes one of them, which is a quarter of the work of a matrix product (the "Method
of Four Russians", Arlazarov et al. 1970). A code says which of the eight and a sign says how:

    v_0 + x_1 v_1 + x_2 v_2 + x_3 v_3  times  s,      code = Σ_k 2^{k−1} [s_k ≠ s_0],  x_k = s_k s_0,  s = s_0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from vigreux.kernels.lanes import TILE, Lanes, lanes_intrinsic

FOUR, SUMS = 4, 8  # vectors of a chunk, and their sums up to a sign


def _write_sums(e: Lanes, table: Any, source: Any, start: Any, stride: Any, chunks: Any) -> None:
    """table[chunk, code] ← the eight sums of rows 4 · chunk … of `source`."""
    b = e.builder
    with e.loop(chunks) as chunk:
        row = e.at(start, e.times(e.times(chunk, FOUR), stride))
        for v in range(TILE):
            w = [e.load(source, e.at(row, e.times(stride, r), v * e.lanes)) for r in range(FOUR)]
            pair = [b.fadd(w[0], w[1]), b.fsub(w[0], w[1])]
            rest = [b.fadd(w[2], w[3]), b.fsub(w[2], w[3])]
            for code in range(SUMS):
                one, two, three = code & 1, code >> 1 & 1, code >> 2 & 1
                join = b.fsub if two else b.fadd  # ±(v_2 ± v_3)
                entry = e.at(e.times(e.at(e.times(chunk, SUMS), code), TILE * e.lanes), v * e.lanes)
                e.store(join(pair[one], rest[two ^ three]), table, entry)


def _adder(onto: bool) -> Callable[..., None]:
    """Adds to what is in `out`, or writes over it."""

    def write(
        e: Lanes, table: Any, out: Any, start: Any, stride: Any, count: Any, codes: Any, signs: Any, row_step: Any, chunk_step: Any,
        chunks: Any,
    ) -> None:  # fmt: skip
        b = e.builder
        with e.loop(count) as i:
            row = e.at(start, e.times(i, stride))
            sums = [e.register(e.load(out, e.at(row, v * e.lanes)) if onto else e.zero()) for v in range(TILE)]
            with e.loop(chunks) as chunk:
                place = e.at(e.times(i, row_step), e.times(chunk, chunk_step))
                code, sign = b.zext(e.scalar(codes, place), chunk.type), e.splat(e.scalar(signs, place))
                entry = e.times(e.at(e.times(chunk, SUMS), code), TILE * e.lanes)
                for v in range(TILE):
                    e.add_to(sums[v], e.load(table, e.at(entry, v * e.lanes)), sign)
            for v in range(TILE):
                e.store(b.load(sums[v]), out, e.at(row, v * e.lanes))

    return write


write_sums = lanes_intrinsic(_write_sums)  # (table, source, start, stride, chunks)
# (table, out, start, stride, count, codes, signs, row_step, chunk_step, chunks)
add_sums, set_sums = lanes_intrinsic(_adder(True)), lanes_intrinsic(_adder(False))


@njit(cache=True, nogil=True)
def encode_inputs(X: np.ndarray, first: int, count: int, codes: np.ndarray, signs: np.ndarray) -> None:
    """Codes and signs (count, chunks) of rows `first` … of X (N, 4 · chunks or more) int8: four inputs of a row are a chunk."""
    for r in range(count):
        x, code, sign = X[first + r], codes[r], signs[r]
        for c in range(codes.shape[1]):
            s = x[FOUR * c]
            code[c] = (x[FOUR * c + 1] != s) | (x[FOUR * c + 2] != s) << 1 | (x[FOUR * c + 3] != s) << 2
            sign[c] = s


@njit(cache=True, nogil=True)
def encode_rows(X: np.ndarray, first: int, chunks: int, codes: np.ndarray, signs: np.ndarray) -> None:
    """Codes and signs (chunks or more, n) of the columns of X: four rows from `first` on are a chunk."""
    for c in range(chunks):
        row = first + FOUR * c
        zero, one, two, three, code, sign = X[row], X[row + 1], X[row + 2], X[row + 3], codes[c], signs[c]
        for j in range(codes.shape[1]):
            s = zero[j]
            code[j] = (one[j] != s) | (two[j] != s) << 1 | (three[j] != s) << 2
            sign[j] = s
