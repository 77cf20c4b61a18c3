"""The passes that one step makes over a row of hidden units, a logit or two at a time. All places are element numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vigreux.kernels.lanes import TILE, Lanes, lanes_intrinsic

EARLIER = 3  # rows of the same quad whose steps a row may still have to take in


def _activate(keep: bool) -> Callable[..., None]:
    """Corrects a row and takes it through the relu; with `keep` its pre-activations are written elsewhere as well."""

    def write(
        e: Lanes, Z: Any, U: Any, P: Any, z: Any, p: Any, u0: Any, u1: Any, u2: Any, g0: Any, g1: Any, g2: Any, scale: Any, units: Any
    ) -> None:
        """P[p :] ← scale · (Z[z :] + g0 U[u0 :] + g1 U[u1 :] + g2 U[u2 :]);  Z[z :] ← relu of it."""
        b, factor = e.builder, e.splat(scale)
        earlier = [(u, e.splat(g)) for u, g in ((u0, g0), (u1, g1), (u2, g2))]
        with e.loop(units, TILE * e.lanes) as j:
            for v in range(TILE):
                at = e.at(j, v * e.lanes)
                value = e.load(Z, e.at(z, at))
                for u, g in earlier:
                    value = e.fma(e.load(U, e.at(u, at)), g, value)
                value = b.fmul(factor, value)
                if keep:
                    e.store(value, P, e.at(p, at))
                e.store(e.positive_part(value), Z, e.at(z, at))

    return write


def _dots(logits: int) -> Callable[..., None]:
    """The inner products of a row of Z with rows of A."""

    def write(e: Lanes, Z: Any, A: Any, out: Any, z: Any, a: Any, o: Any, units: Any) -> None:
        """out[o + k] ← Σ_j A[a + k · units + j] Z[z + j], k < logits."""
        sums = [[e.register(e.zero()) for _ in range(TILE)] for _ in range(logits)]
        with e.loop(units, TILE * e.lanes) as j:
            for v in range(TILE):
                h = e.load(Z, e.at(z, j, v * e.lanes))
                for k in range(logits):
                    e.add_to(sums[k][v], e.load(A, e.at(a, e.times(units, k), j, v * e.lanes)), h)
        for k in range(logits):
            both = e.builder.fadd(e.builder.load(sums[k][0]), e.builder.load(sums[k][1]))
            e.builder.store(e.total(both), e.builder.gep(out, [e.at(o, k)]))

    return write


def _backward(logits: int, *, hidden: bool, output: bool, onto: bool = False) -> Callable[..., None]:
    """What `logits` of the logits do to the hidden layer (`hidden`) and to their own weights (`output`) in one pass.

    With `onto` the hidden layer's part is added to that of other logits.
    """

    def write(
        e: Lanes, Z: Any, U: Any, A: Any, z: Any, u: Any, a: Any, m0: Any, m1: Any, shrink: Any, r0: Any, r1: Any, units: Any
    ) -> None:
        """U[u :] ← 1[Z[z :] > 0] Σ_k m_k A_k;  A_k ← shrink A_k + r_k Z[z :]."""
        b = e.builder
        left = e.splat(shrink)
        amounts, rates = [e.splat(m) for m in (m0, m1)[:logits]], [e.splat(r) for r in (r0, r1)[:logits]]
        with e.loop(units, TILE * e.lanes) as j:
            for v in range(TILE):
                at = e.at(j, v * e.lanes)
                h = e.load(Z, e.at(z, at))
                places = [e.at(a, e.times(units, k), at) for k in range(logits)]
                weights = [e.load(A, place) for place in places]
                if hidden:
                    total = e.load(U, e.at(u, at)) if onto else e.zero()
                    for amount, weight in zip(amounts, weights):
                        total = e.fma(amount, weight, total)
                    e.store(e.where_positive(h, total), U, e.at(u, at))
                if output:
                    for rate, weight, place in zip(rates, weights, places):
                        e.store(e.fma(rate, h, b.fmul(left, weight)), A, place)

    return write


activate, activate_and_keep = lanes_intrinsic(_activate(False)), lanes_intrinsic(_activate(True))
dot_one, dot_two = lanes_intrinsic(_dots(1)), lanes_intrinsic(_dots(2))
both_of_one = lanes_intrinsic(_backward(1, hidden=True, output=True))
both_of_two = lanes_intrinsic(_backward(2, hidden=True, output=True))
both_of_one_more = lanes_intrinsic(_backward(1, hidden=True, output=True, onto=True))
both_of_two_more = lanes_intrinsic(_backward(2, hidden=True, output=True, onto=True))
hidden_of_one = lanes_intrinsic(_backward(1, hidden=True, output=False))
hidden_of_one_more = lanes_intrinsic(_backward(1, hidden=True, output=False, onto=True))
output_of_one = lanes_intrinsic(_backward(1, hidden=False, output=True))
