"""LLVM vector instructions on numba arrays, for loops that must not depend on automatic vectorisation.

A vector is always 64 bytes, one cache line. LLVM splits it on machines with shorter registers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BYTES = 64  # per vector
# Vectors of hidden units that a loop processes together, because their sums are independent.
TILE = 2
_INDEX = ir.IntType(64)


def aligned(*shape: int, dtype: Any) -> np.ndarray:
    """Zeros aligned to a cache line, because a vector across two lines costs two loads."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + BYTES, np.uint8)
    start = -raw.ctypes.data % BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


def lanes_of(dtype: Any) -> int:
    """The count of numbers in a vector."""
    return BYTES // np.dtype(dtype).itemsize


class Lanes:
    """Writes the instructions of one intrinsic. Arrays of any shape are indexed by element number.

    Its `arguments` are the data pointers of arrays, and the values of anything else.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> None:
        self.builder = builder
        self.arguments = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, arguments)
        ]
        number = next(
            kind.dtype
            for kind in signature.args
            if isinstance(kind, types.Array) and isinstance(kind.dtype, types.Float)
        )
        self.element = context.get_value_type(number)
        self.lanes = BYTES * 8 // number.bitwidth
        self.vector = ir.VectorType(self.element, self.lanes)
        self._suffix = f"v{self.lanes}f{number.bitwidth}"

    # --- indices --------------------------------------------------------------------------------------------

    def at(self, *terms: Any) -> Any:
        """The sum of element numbers; Python integers are constants."""
        total = self.integer(0)
        for term in terms:
            total = self.builder.add(total, self.integer(term))
        return total

    def times(self, one: Any, other: Any) -> Any:
        """The product of two element numbers."""
        return self.builder.mul(self.integer(one), self.integer(other))

    def integer(self, value: Any) -> Any:
        """A Python integer as an LLVM constant. Other values are returned unchanged."""
        return ir.Constant(_INDEX, value) if isinstance(value, int) else value

    @contextmanager
    def loop(self, count: Any, step: int = 1) -> Iterator[Any]:
        """`for i in range(0, count, step)`; yields i."""
        with cgutils.for_range_slice(
            self.builder, self.integer(0), self.integer(count), self.integer(step), _INDEX
        ) as (i, _):
            yield i

    def each_tile(self, units: Any, body: Callable[[Any, int], None]) -> None:
        """Calls `body(index, v)` for vector v of every tile, then with v = 0 for a single last vector."""
        tile = TILE * self.lanes
        tiled_units = self.times(self.builder.udiv(units, self.integer(tile)), tile)
        with self.loop(tiled_units, tile) as j:
            for v in range(TILE):
                body(self.at(j, v * self.lanes), v)
        with self.loop(self.builder.sub(units, tiled_units), self.lanes) as j:
            body(self.at(tiled_units, j), 0)

    # --- numbers --------------------------------------------------------------------------------------------

    def load(self, data: Any, index: Any) -> Any:
        """The vector that begins at an element."""
        return self.builder.load(self._pointer(data, index), align=BYTES)

    def store(self, value: Any, data: Any, index: Any) -> None:
        """Writes a vector."""
        self.builder.store(value, self._pointer(data, index), align=BYTES)

    def prefetch(self, data: Any, index: Any) -> None:
        """Fetches the cache line of an element that is used soon. Past the array's end it has no effect."""
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(ir.VoidType(), [byte, number, number, number]),
            "llvm.prefetch.p0",
        )
        address = self.builder.bitcast(self.builder.gep(data, [self.integer(index)]), byte)
        self.builder.call(
            function, [address, ir.Constant(number, 0), ir.Constant(number, 3), ir.Constant(number, 1)]
        )

    def scalar(self, data: Any, index: Any) -> Any:
        """One element."""
        return self.builder.load(self.builder.gep(data, [self.integer(index)]))

    def splat(self, value: Any) -> Any:
        """One number in all lanes. A double is rounded to the element type of the arrays."""
        if value.type != self.element:
            value = self.builder.fptrunc(value, self.element)
        one = self.builder.insert_element(
            ir.Constant(self.vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
        )
        first = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)
        return self.builder.shuffle_vector(one, ir.Constant(self.vector, ir.Undefined), first)

    def signed_one(self, minus: Any) -> Any:
        """−1 where the integer is 1, +1 where it is 0."""
        bits = ir.IntType(32 if self.element == ir.FloatType() else 64)
        short = self.builder.trunc(minus, bits) if bits.width < 64 else minus
        one = ir.Constant(bits, 0x3F800000 if bits.width == 32 else 0x3FF0000000000000)
        return self.builder.bitcast(
            self.builder.or_(self.builder.shl(short, ir.Constant(bits, bits.width - 1)), one), self.element
        )

    def zero(self) -> Any:
        """A vector of zeros."""
        return ir.Constant(self.vector, None)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a · b + c."""
        return self.builder.call(self._function("llvm.fma", self.vector, [self.vector] * 3), [a, b, c])

    def positive_part(self, a: Any) -> Any:
        """max(0, a); NaN stays NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", self.zero(), a), self.zero(), a)

    def where_positive(self, condition: Any, a: Any) -> Any:
        """a in lanes where the condition is positive, 0 in the others."""
        return self.builder.select(self.builder.fcmp_ordered(">", condition, self.zero()), a, self.zero())

    def total(self, a: Any) -> Any:
        """The sum of the lanes, as a double."""
        start = ir.Constant(self.element, -0.0)
        function = self._function("llvm.vector.reduce.fadd", self.element, [self.element, self.vector])
        total = self.builder.call(function, [start, a], fastmath=("reassoc",))
        double = ir.DoubleType()
        return total if total.type == double else self.builder.fpext(total, double)

    def register(self, value: Any) -> Any:
        """A variable that LLVM keeps in a register."""
        return cgutils.alloca_once_value(self.builder, value)

    def add_to(self, variable: Any, a: Any, b: Any) -> None:
        """variable ← a · b + variable."""
        self.builder.store(self.fma(a, b, self.builder.load(variable)), variable)

    def _pointer(self, data: Any, index: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [self.integer(index)]), self.vector.as_pointer())

    def _function(self, name: str, gives: Any, takes: Sequence[Any]) -> Any:
        return cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(gives, takes), f"{name}.{self._suffix}"
        )


def lanes_intrinsic(write: Callable[..., Any], gives: int = 0) -> Any:
    """Makes `write(lanes, *arguments)` callable from compiled code. The result is `gives` doubles."""

    def typed(typingctx: Any, *arguments: Any) -> Any:
        result = types.UniTuple(types.float64, gives) if gives else types.void

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            lanes = Lanes(context, builder, signature, values)
            results = write(lanes, *lanes.arguments)
            return cgutils.pack_array(builder, results) if gives else context.get_dummy_value()

        return result(*map(types.unliteral, arguments)), generate

    names = list(inspect.signature(write).parameters)[1:]
    # numba reads the number of arguments from the signature
    typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("typingctx", *names)]
    )
    return intrinsic(typed)
