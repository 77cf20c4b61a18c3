"""Adds the steps of a block's earlier rows to the pre-activations of later ones: `Z_r += Σ_i G_ri U_i`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from vigreux.kernels.lanes import Lanes, lanes_intrinsic

ROWS, VECTORS = 4, 6  # of a tile: 24 sums, and 6 vectors of U, stay in the 32 registers of AVX-512


def _tile(rows: int, vectors: int) -> Callable[..., None]:
    """Sums `rows` rows of Z over `vectors` vectors of units, in registers, over all earlier rows."""

    def write(
        e: Lanes, Z: Any, G: Any, U: Any, row: Any, first: Any, last: Any, column: Any, units: Any, block: Any
    ) -> None:
        b = e.builder
        places = [
            [e.at(e.times(e.at(row, r), units), column, v * e.lanes) for v in range(vectors)]
            for r in range(rows)
        ]
        sums = [[e.register(e.load(Z, place)) for place in own] for own in places]
        with e.loop(b.sub(last, first)) as step:
            i = e.at(first, step)
            u = [e.load(U, e.at(e.times(i, units), column, v * e.lanes)) for v in range(vectors)]
            # the next tile of a long row lies on the same page, but no machine guesses that it comes next
            for v in range(vectors if vectors == VECTORS else 0):
                e.prefetch(U, e.at(e.times(i, units), column, (vectors + v) * e.lanes))
            for r in range(rows):
                g = e.splat(e.scalar(G, e.at(e.times(e.at(row, r), block), i)))
                for v in range(vectors):
                    e.add_to(sums[r][v], u[v], g)
        for own, variables in zip(places, sums):
            for place, variable in zip(own, variables):
                e.store(b.load(variable), Z, place)

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
    """Rows `row` … `end − 1` of Z take in the steps of rows `first` … `last − 1`.

    Args:
        Z, U: (B, m).
        G: (B, B).
        padded: units, whole vectors.
        lanes: numbers in a vector.
    """
    if first >= last:
        return
    units, block, column = Z.shape[1], G.shape[1], 0
    while column < padded:
        vectors = VECTORS if column + VECTORS * lanes <= padded else 2 if column + 2 * lanes <= padded else 1
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
def _minus_signs(typingctx, X, place):  # type: ignore[no-untyped-def]
    """A bit for each of 64 bytes from element `place` on: whether it is negative."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data, vector = (
            context.make_array(signature.args[0])(context, builder, arguments[0]).data,
            ir.VectorType(ir.IntType(8), 64),
        )
        found = builder.load(builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer()), align=1)
        return builder.bitcast(builder.icmp_signed("<", found, ir.Constant(vector, None)), ir.IntType(64))

    return types.uint64(X, types.int64), generate


@njit(cache=True, nogil=True)
def gram(X: np.ndarray, first: int, count: int, length: int, bits: np.ndarray, G: np.ndarray) -> None:
    """G (B, B), below the diagonal: products x_i · x_j of rows `first` … of X, `length` signs each.

    Args:
        X: (N, 64 · W) int8; what is beyond `length` is the same in all rows.
        bits: (W, B) uint64, workspace.
    """
    for r in range(count):
        for w in range(bits.shape[0]):
            bits[w, r] = _minus_signs(X, (first + r) * X.shape[1] + 64 * w)  # type: ignore[call-arg]
    for i in range(1, count):
        for w in range(bits.shape[0]):
            own, begin = bits[w, i], length if w == 0 else 0
            for j in range(i):
                differ = np.int64(_count_ones(own ^ bits[w, j]))  # type: ignore[call-arg]
                G[i, j] = (begin if w == 0 else G[i, j]) - 2 * differ
