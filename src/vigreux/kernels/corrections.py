"""Adds the steps of a block's earlier rows to the pre-activations of later rows: `Z_r += Σ_i G_ri U_i`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from vigreux.kernels.lanes import Lanes, lanes_intrinsic

# The size of a tile. Its 24 sums and 6 vectors of U fit into the 32 registers of AVX-512.
ROWS, VECTORS = 4, 6


def _tile(rows: int, vectors: int) -> Callable[..., None]:
    """Adds the steps of earlier rows to `rows` rows and `vectors` vectors of Z, with sums in registers."""

    def write(
        e: Lanes, Z: Any, G: Any, U: Any, row: Any, first: Any, last: Any, column: Any, units: Any, block: Any
    ) -> None:
        b = e.builder
        indices = [
            [e.at(e.times(e.at(row, r), units), column, v * e.lanes) for v in range(vectors)]
            for r in range(rows)
        ]
        sums = [[e.register(e.load(Z, index)) for index in row_indices] for row_indices in indices]
        with e.loop(b.sub(last, first)) as step:
            i = e.at(first, step)
            u = [e.load(U, e.at(e.times(i, units), column, v * e.lanes)) for v in range(vectors)]
            # the next tile of a long row is on the same page, but hardware prefetchers do not predict it
            for v in range(vectors if vectors == VECTORS else 0):
                e.prefetch(U, e.at(e.times(i, units), column, (vectors + v) * e.lanes))
            for r in range(rows):
                g = e.splat(e.scalar(G, e.at(e.times(e.at(row, r), block), i)))
                for v in range(vectors):
                    e.add_to(sums[r][v], u[v], g)
        for row_indices, row_sums in zip(indices, sums):
            for index, variable in zip(row_indices, row_sums):
                e.store(b.load(variable), Z, index)

    return write


_four_six, _four_two = lanes_intrinsic(_tile(ROWS, VECTORS)), lanes_intrinsic(_tile(ROWS, 2))
_four_one = lanes_intrinsic(_tile(ROWS, 1))
_one_six, _one_one = lanes_intrinsic(_tile(1, VECTORS)), lanes_intrinsic(_tile(1, 1))


@njit(cache=True, nogil=True)
def correct(
    Z: np.ndarray,
    G: np.ndarray,
    U: np.ndarray,
    row: int,
    end: int,
    first: int,
    last: int,
    padded: int,
    lanes: int,
) -> None:
    """Adds the steps of rows `first` … `last − 1` to rows `row` … `end − 1` of Z.

    Args:
        Z, U: (B, m).
        G: (B, B).
        padded: number of units, rounded up to whole vectors.
        lanes: numbers per vector.
    """
    if first >= last:
        return
    units, block, column = Z.shape[1], G.shape[1], 0
    while column < padded:
        if column + VECTORS * lanes <= padded:
            vectors = VECTORS
        elif column + 2 * lanes <= padded:
            vectors = 2
        else:
            vectors = 1
        r = row
        while r + ROWS <= end:
            if vectors == VECTORS:
                _four_six(Z, G, U, r, first, last, column, units, block)
            elif vectors == 2:
                _four_two(Z, G, U, r, first, last, column, units, block)
            else:
                _four_one(Z, G, U, r, first, last, column, units, block)
            r += ROWS
        while r < end:
            if vectors == VECTORS:
                _one_six(Z, G, U, r, first, last, column, units, block)
            else:
                for v in range(vectors):
                    _one_one(Z, G, U, r, first, last, column + v * lanes, units, block)
            r += 1
        column += vectors * lanes


@intrinsic
def _count_ones(typingctx, word):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def _minus_signs(typingctx, X, start):  # type: ignore[no-untyped-def]
    """One bit for each of the 64 bytes from element `start` on: 1 if the byte is negative."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        vector = ir.VectorType(ir.IntType(8), 64)
        signs = builder.load(builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer()), align=1)
        return builder.bitcast(builder.icmp_signed("<", signs, ir.Constant(vector, None)), ir.IntType(64))

    return types.uint64(X, types.int64), generate


@njit(cache=True, nogil=True)
def gram(X: np.ndarray, first: int, count: int, length: int, bits: np.ndarray, G: np.ndarray) -> None:
    """Writes the products x_i · x_j of `count` rows of X from `first` on below the diagonal of G (B, B).

    Args:
        X: (N, 64 · W) int8. The entries after the first `length` signs are the same in all rows.
        bits: (W, B) uint64, workspace.
    """
    for r in range(count):
        for w in range(bits.shape[0]):
            bits[w, r] = _minus_signs(X, (first + r) * X.shape[1] + 64 * w)  # type: ignore[call-arg]
    for i in range(1, count):
        for w in range(bits.shape[0]):
            row_bits = bits[w, i]
            for j in range(i):
                differ = np.int64(_count_ones(row_bits ^ bits[w, j]))  # type: ignore[call-arg]
                G[i, j] = (length if w == 0 else G[i, j]) - 2 * differ
