"""One pass over the weights of a narrow network: takes in the last rows' updates and gives the next rows' pre-activations.

Where `W` stays in cache, what limits online SGD is arithmetic: 2 multiply-adds a weight and sample. Four rows go through together,

    W ← W + Σ_r U_r x_rᵀ  (the rows before)        Z_r = W x_r  (the rows to come),

so that a weight is loaded and stored once for 8 multiply-adds, all operands in registers. Neither numba's loops nor BLAS do both at
once; the loop is therefore written as vector instructions of LLVM, which are those of the machine it is compiled on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 4  # samples a pass; with 3 vectors of units a tile, 12 updates and 12 sums fill the 32 vector registers of AVX-512
BYTES = 64  # of a vector, and of a cache line


def aligned(*shape: int, dtype: Any) -> np.ndarray:
    """Zeros that start at a cache line: a vector across two lines costs two loads."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + BYTES, np.uint8)
    start = -raw.ctypes.data % BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


def vectors_of(width: int, dtype: Any) -> int:
    """How many vectors hold `width` units."""
    return -(-width * np.dtype(dtype).itemsize // BYTES)


def padded(width: int, dtype: Any) -> int:
    """`width` rounded up to pairs of vectors: compiled loops over a row then have no rest to do one by one."""
    vectors = vectors_of(width, dtype)
    return (vectors + vectors % 2) * BYTES // np.dtype(dtype).itemsize


def _tile_pass(vectors: int) -> Any:
    """The pass over one tile of `vectors` vectors of units, for all inputs."""

    @intrinsic
    def tile_pass(typingctx, W, U, Z, X, updates, products, column):  # type: ignore[no-untyped-def]
        signature = types.void(W, U, Z, X, types.int64, types.int64, types.int64)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _Pass(context, builder, signature, arguments, vectors).generate()
            return context.get_dummy_value()

        return signature, generate

    return tile_pass


class _Pass:
    """Emits the loop over inputs j: loads W[j], adds the updates, stores it, and adds it to the products."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, vectors: int) -> None:
        self.builder, self.vectors = builder, vectors
        arrays = [context.make_array(kind)(context, builder, value) for kind, value in zip(signature.args[:4], arguments[:4])]
        self.W, self.U, self.Z, self.X = (array.data for array in arrays)
        shapes = [cgutils.unpack_tuple(builder, array.shape) for array in arrays]
        self.inputs, self.units, self.x_length = shapes[0][0], shapes[0][1], shapes[3][1]
        self.updates, self.products, self.column = arguments[4:]
        self.element = context.get_value_type(signature.args[0].dtype)
        self.lanes = BYTES * 8 // signature.args[0].dtype.bitwidth
        self.vector = ir.VectorType(self.element, self.lanes)
        of_three = ir.FunctionType(self.vector, [self.vector] * 3)
        bits = signature.args[0].dtype.bitwidth
        self.multiply_add = cgutils.get_or_insert_function(builder.module, of_three, f"llvm.fma.v{self.lanes}f{bits}")

    def generate(self) -> None:
        b = self.builder
        updates = [[b.load(self._vector(self.U, self._int(r), v), align=BYTES) for v in range(self.vectors)] for r in range(ROWS)]
        before, loop, after = b.block, b.append_basic_block("inputs"), b.append_basic_block("done")
        b.branch(loop)
        b.position_at_end(loop)
        j = b.phi(ir.IntType(64))
        j.add_incoming(self._int(0), before)
        sums = [[self._sum(before) for _ in range(self.vectors)] for _ in range(ROWS)]
        totals = self._multiply(j, updates, sums)
        following = b.add(j, self._int(1))
        j.add_incoming(following, loop)
        for row, total in zip(sums, totals):
            for phi, value in zip(row, total):
                phi.add_incoming(value, loop)
        b.cbranch(b.icmp_signed("<", following, self.inputs), loop, after)
        b.position_at_end(after)
        for r in range(ROWS):
            for v in range(self.vectors):
                b.store(totals[r][v], self._vector(self.Z, self._int(r), v), align=BYTES)

    def _multiply(self, j: Any, updates: Any, sums: Any) -> Any:
        """One input's part: 2 · ROWS multiply-adds a vector of weights."""
        b = self.builder
        x_before = [self._input(b.add(self.updates, self._int(r)), j) for r in range(ROWS)]
        x_next = [self._input(b.add(self.products, self._int(r)), j) for r in range(ROWS)]
        totals: list[list[Any]] = [[] for _ in range(ROWS)]
        for v in range(self.vectors):
            place = self._vector(self.W, j, v)
            w = b.load(place, align=BYTES)
            for r in range(ROWS):
                w = b.call(self.multiply_add, [updates[r][v], x_before[r], w])
            b.store(w, place, align=BYTES)
            for r in range(ROWS):
                totals[r].append(b.call(self.multiply_add, [w, x_next[r], sums[r][v]]))
        return totals

    def _sum(self, before: Any) -> Any:
        phi = self.builder.phi(self.vector)
        phi.add_incoming(ir.Constant(self.vector, None), before)  # zeros
        return phi

    def _vector(self, data: Any, row: Any, v: int) -> Any:
        """Where vector v of the tile begins in a row of W, U or Z."""
        b = self.builder
        place = b.add(b.mul(row, self.units), b.add(self.column, self._int(v * self.lanes)))
        return b.bitcast(b.gep(data, [place]), self.vector.as_pointer())

    def _input(self, row: Any, j: Any) -> Any:
        """X[row, j] in all lanes."""
        b = self.builder
        x = b.load(b.gep(self.X, [b.add(b.mul(row, self.x_length), j)]))
        one = b.insert_element(ir.Constant(self.vector, ir.Undefined), x, ir.Constant(ir.IntType(32), 0))
        lanes = ir.VectorType(ir.IntType(32), self.lanes)
        return b.shuffle_vector(one, ir.Constant(self.vector, ir.Undefined), ir.Constant(lanes, None))

    @staticmethod
    def _int(value: int) -> Any:
        return ir.Constant(ir.IntType(64), value)


_three, _two, _one = _tile_pass(3), _tile_pass(2), _tile_pass(1)


@njit(cache=True, nogil=True)
def fused_pass(W: np.ndarray, U: np.ndarray, Z: np.ndarray, X: np.ndarray, updates: int, products: int, vectors: int) -> None:
    """W ← W + X[updates : updates + 4]ᵀ U, then Z ← X[products : products + 4] W.

    Args:
        W: (n, m) weights, an input a row; m whole vectors. All arrays start at a cache line.
        U: (4, m) updates.
        Z: (4, m) products, written.
        X: (N, n) inputs.
        updates: the row of X to which U[0] belongs.
        products: the row of X to which Z[0] belongs.
        vectors: so many of each row are worked on.
    """
    lanes = BYTES // W.itemsize
    column, left = 0, vectors
    while left > 0:  # tiles of 3 and 2 vectors; one alone would leave the multipliers waiting for each other
        if left == 1:
            _one(W, U, Z, X, updates, products, column)
            left, column = left - 1, column + lanes
        elif left == 2 or left == 4:
            _two(W, U, Z, X, updates, products, column)
            left, column = left - 2, column + 2 * lanes
        else:
            _three(W, U, Z, X, updates, products, column)
            left, column = left - 3, column + 3 * lanes
