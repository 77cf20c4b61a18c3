"""A barrier for compiled threads that synchronise every few microseconds by spinning on a growing counter.

numba has no CPU atomics. LLVM has them, and a short intrinsic exposes them.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# Reads of the counter before a thread yields its core, so that a busy machine makes progress.
_SPINS = 256


def new_counter() -> np.ndarray:
    """A new counter of arrivals, over all threads: (1,) int64."""
    return np.zeros(1, np.int64)


def release(counter: np.ndarray) -> None:
    """Opens the barrier permanently, because one thread failed and will not arrive."""
    _add(counter, 2**62)


@intrinsic
def _atomic_add(typingctx, counter, amount):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", array.data, arguments[1], ordering="acq_rel")

    return types.int64(counter, types.int64), generate


@intrinsic
def _atomic_read(typingctx, counter):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(array.data, ordering="acquire", align=8)

    return types.int64(counter), generate


@intrinsic
def _yield_core(typingctx):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(32), []), "sched_yield"
        )
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate


@njit(cache=True, nogil=True)
def _add(counter: np.ndarray, amount: int) -> None:
    _atomic_add(counter, amount)  # type: ignore[call-arg]


@njit(cache=True, nogil=True)
def wait(counter: np.ndarray, arrivals: int) -> None:
    """Arrives at the barrier, then waits until `counter` reaches `arrivals`.

    `arrivals` is the number of threads times the number of barriers so far, including this one.
    """
    _atomic_add(counter, 1)  # type: ignore[call-arg]
    spins = 0
    while _atomic_read(counter) < arrivals:
        spins += 1
        if spins % _SPINS == 0:
            _yield_core()
