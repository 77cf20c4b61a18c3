"""What the steps of a block's earlier rows add to the pre-activations of later ones: `Z_r += Σ_i G_ri U_i`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from vigreux.kernels.lanes import Lanes, lanes_intrinsic

ROWS, VECTORS = 4, 6  # of a tile: 24 sums, and 6 vectors of U, stay in the 32 registers of AVX-512


def _tile(rows: int, vectors: int) -> Callable[..., None]:
    """The sums of `rows` rows of Z over `vectors` vectors of units, held in registers while the earlier rows pass by."""

    def write(e: Lanes, Z: Any, G: Any, U: Any, row: Any, first: Any, last: Any, column: Any, units: Any, block: Any) -> None:
        b = e.builder
        places = [[e.at(e.times(e.at(row, r), units), column, v * e.lanes) for v in range(vectors)] for r in range(rows)]
        sums = [[e.register(e.load(Z, place)) for place in own] for own in places]
        with e.loop(b.sub(last, first)) as step:
            i = e.at(first, step)
            u = [e.load(U, e.at(e.times(i, units), column, v * e.lanes)) for v in range(vectors)]
            for r in range(rows):
                g = e.splat(e.scalar(G, e.at(e.times(e.at(row, r), block), i)))
                for v in range(vectors):
                    e.add_to(sums[r][v], u[v], g)
        for own, variables in zip(places, sums):
            for place, variable in zip(own, variables):
                e.store(b.load(variable), Z, place)

    return write


_four_six, _four_two = lanes_intrinsic(_tile(ROWS, VECTORS)), lanes_intrinsic(_tile(ROWS, 2))
_one_six, _one_two = lanes_intrinsic(_tile(1, VECTORS)), lanes_intrinsic(_tile(1, 2))


@njit(cache=True, nogil=True)
def correct(Z: np.ndarray, G: np.ndarray, U: np.ndarray, row: int, end: int, first: int, last: int, lanes: int) -> None:
    """Rows `row` … `end − 1` of Z take in the steps of rows `first` … `last − 1`.

    Args:
        Z, U: (B, m), m a multiple of two vectors.
        G: (B, B).
        lanes: numbers in a vector.
    """
    if first >= last:
        return
    units, block = Z.shape[1], G.shape[1]
    column = 0
    while column < units:
        wide = column + VECTORS * lanes <= units
        r = row
        while r < end:
            if r + ROWS <= end:
                if wide:
                    _four_six(Z, G, U, r, first, last, column, units, block)
                else:
                    _four_two(Z, G, U, r, first, last, column, units, block)
                r += ROWS
            else:
                if wide:
                    _one_six(Z, G, U, r, first, last, column, units, block)
                else:
                    _one_two(Z, G, U, r, first, last, column, units, block)
                r += 1
        column += VECTORS * lanes if wide else 2 * lanes


@intrinsic
def _count_ones(typingctx, word):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def gram(bits: np.ndarray, first: int, count: int, length: int, G: np.ndarray) -> None:
    """G (B, B), below the diagonal: products x_i · x_j of `count` vectors of `length` signs.

    Args:
        bits: (N, words) uint64, a bit a sign; the bits beyond `length` are the same in all rows.
    """
    for i in range(1, count):
        for j in range(i):
            differ = 0
            for w in range(bits.shape[1]):
                differ += np.int64(_count_ones(bits[first + i, w] ^ bits[first + j, w]))  # type: ignore[call-arg]
            G[i, j] = length - 2 * differ
