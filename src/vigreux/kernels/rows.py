"""The passes of one step over a row of hidden units, one or two logits at a time.

All indices are element numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vigreux.kernels.lanes import TILE, Lanes, lanes_intrinsic


def _activate(logits: int, *, keep: bool) -> Callable[..., list[Any]]:
    """Corrects a row and computes its relu and logits. With `keep`, it also stores the pre-activations."""

    def write(
        e: Lanes, Z: Any, U: Any, A: Any, P: Any, z: Any, a: Any, a_step: Any, p: Any, u0: Any,
        u1: Any, u2: Any, g0: Any, g1: Any, g2: Any, scale: Any, units: Any,
    ) -> list[Any]:  # fmt: skip
        """P[p :] ← scale · (Z[z :] + g0 U[u0 :] + g1 U[u1 :] + g2 U[u2 :]);  Z[z :] ← relu(P[p :]).

        Returns what `_dots` returns.
        """
        factor = e.splat(scale)
        sums = _zeros(e, logits)
        earlier = [(u, e.splat(g)) for u, g in ((u0, g0), (u1, g1), (u2, g2))]

        def body(at: Any, v: int) -> None:
            value = e.load(Z, e.at(z, at))
            for u, g in earlier:
                value = e.fma(e.load(U, e.at(u, at)), g, value)
            value = e.builder.fmul(factor, value)
            if keep:
                e.store(value, P, e.at(p, at))
            h = e.positive_part(value)
            e.store(h, Z, e.at(z, at))
            for k in range(logits):
                e.add_to(sums[k][v], e.load(A, e.at(a, e.times(a_step, k), at)), h)

        e.each_tile(units, body)
        return _totals(e, sums)

    return write


def _dots(logits: int) -> Callable[..., list[Any]]:
    """The inner products of a row of Z with rows of A."""

    def write(e: Lanes, Z: Any, A: Any, z: Any, a: Any, a_step: Any, units: Any) -> list[Any]:
        """Σ_j A[a + k · a_step + j] Z[z + j] for each k < logits."""
        sums = _zeros(e, logits)

        def body(at: Any, v: int) -> None:
            h = e.load(Z, e.at(z, at))
            for k in range(logits):
                e.add_to(sums[k][v], e.load(A, e.at(a, e.times(a_step, k), at)), h)

        e.each_tile(units, body)
        return _totals(e, sums)

    return write


def _zeros(e: Lanes, logits: int) -> list[list[Any]]:
    return [[e.register(e.zero()) for _ in range(TILE)] for _ in range(logits)]


def _totals(e: Lanes, sums: list[list[Any]]) -> list[Any]:
    return [e.total(e.builder.fadd(e.builder.load(one), e.builder.load(other))) for one, other in sums]


def _backward(logits: int, *, hidden: bool, output: bool, onto: bool = False) -> Callable[..., None]:
    """Updates from one or two logits, of the hidden layer (`hidden`) and of the output weights (`output`).

    With `onto`, the hidden update is added to that of the other logits.
    """

    def write(
        e: Lanes, Z: Any, U: Any, A: Any, z: Any, a: Any, a_step: Any, m0: Any, m1: Any,
        shrink: Any, r0: Any, r1: Any, units: Any,
    ) -> None:  # fmt: skip
        """U[z :] ← 1[Z[z :] > 0] Σ_k m_k A_k;  A_k ← shrink A_k + r_k Z[z :]."""
        decay = e.splat(shrink)
        amounts = [e.splat(m) for m in (m0, m1)[:logits]]
        rates = [e.splat(r) for r in (r0, r1)[:logits]]

        def body(at: Any, v: int) -> None:
            h = e.load(Z, e.at(z, at))
            indices = [e.at(a, e.times(a_step, k), at) for k in range(logits)]
            weights = [e.load(A, index) for index in indices]
            if hidden:
                total = e.load(U, e.at(z, at)) if onto else e.zero()
                for amount, weight in zip(amounts, weights):
                    total = e.fma(amount, weight, total)
                e.store(e.where_positive(h, total), U, e.at(z, at))
            if output:
                for rate, weight, index in zip(rates, weights, indices):
                    e.store(e.fma(rate, h, e.builder.fmul(decay, weight)), A, index)

        e.each_tile(units, body)

    return write


activate_one = lanes_intrinsic(_activate(1, keep=False), 1)
activate_two = lanes_intrinsic(_activate(2, keep=False), 2)
keep_one, keep_two = lanes_intrinsic(_activate(1, keep=True), 1), lanes_intrinsic(_activate(2, keep=True), 2)
dot_one, dot_two = lanes_intrinsic(_dots(1), 1), lanes_intrinsic(_dots(2), 2)
both_of_one = lanes_intrinsic(_backward(1, hidden=True, output=True))
both_of_two = lanes_intrinsic(_backward(2, hidden=True, output=True))
both_of_one_more = lanes_intrinsic(_backward(1, hidden=True, output=True, onto=True))
both_of_two_more = lanes_intrinsic(_backward(2, hidden=True, output=True, onto=True))
hidden_of_one = lanes_intrinsic(_backward(1, hidden=True, output=False))
hidden_of_one_more = lanes_intrinsic(_backward(1, hidden=True, output=False, onto=True))
output_of_one = lanes_intrinsic(_backward(1, hidden=False, output=True))
