"""The sequential part of a block: SGD steps on rows whose pre-activations lack only the last few steps.

The arrays are those of `vocabulary.py`. Functions take whole arrays with row numbers, because a view counts
references, which costs as much as a step on a narrow row. Threads can share the units: each has its own
columns of Z, U and A. A step needs only the partial logits of the other threads, so the threads synchronise
once per step.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vigreux.kernels import rows
from vigreux.kernels.barrier import wait
from vigreux.kernels.corrections import correct
from vigreux.kernels.losses import loss_and_gradient, two_class_loss
from vigreux.kernels.signs import FOUR
from vigreux.kernels.vocabulary import Block, Network, Rules, Samples, SharedState, UnitRange

# without "nnan" and "ninf": a diverging run must show its NaN
_FAST = {"contract", "reassoc", "nsz"}


@njit(cache=True, nogil=True, forceinline=True)
def logits_steps(
    network: Network, block: Block, samples: Samples, rules: Rules, unit_range: UnitRange,
    shared: SharedState, offset: int, first: int, last: int, scale: float,
) -> float:  # fmt: skip
    """Takes a group's steps on a loss of the logits, and of the hidden layer if P has rows.

    The group is rows `first` to `last` of the block that begins at sample `offset`.

    Returns:
        The scale after the steps.
    """
    A, c, work, Z, G, U, P = network.A, network.c, shared.work, block.Z, block.G, block.U, block.P
    losses, targets, hidden = samples.losses, samples.targets, samples.hidden
    rates, shrinks, counter = samples.rate, samples.shrink, shared.counter
    K, threads, batch = len(c), work.shape[1], rules.batch
    column, units, padded = unit_range.column, unit_range.units, unit_range.padded
    thread = unit_range.thread
    o, g = work[2, thread, 0], work[3, thread]
    step = (offset + first) // batch
    for quad in range(first, last, rules.quad):
        end = min(quad + rules.quad, last)
        correct(Z, G, U, quad, end, first, quad, padded, unit_range.lanes)
        for start in range(quad, end, batch):
            side, sample = step & 1, offset + start
            for r in range(batch):
                _forward(A, Z, G, U, P, start + r, quad, start, scale, work, side, r, thread, padded)
            if threads > 1:
                wait(counter, threads * (step + 1))
            for r in range(batch):
                for k in range(K):
                    o[k] = c[k]
                    for other in range(threads):
                        o[k] += work[side, other, r, k]
                losses[0, sample + r] = loss_and_gradient(
                    o, targets, sample + r, rules.kind, rules.alpha, g, r, losses
                )
            shrink, rate = shrinks[step], rates[step]
            scale *= shrink
            _backward(A, Z, U, g, start, batch, rate, rate / scale, shrink, padded)
            for r in range(len(P)):
                amount = rules.weight * rate / scale
                losses[1, sample + r] = rules.weight * _match_hidden(
                    P, U, r, start + r, hidden, sample + r, column, units, amount, rules.before_relu
                )
            for k in range(K):
                total = 0.0
                for r in range(batch):
                    total += g[r, k]
                c[k] = shrink * c[k] - rate * total
            step += 1
    return scale


@njit(cache=True, nogil=True)
def two_class_steps(
    network: Network,
    block: Block,
    samples: Samples,
    unit_range: UnitRange,
    offset: int,
    first: int,
    last: int,
    scale: float,
) -> float:
    """`logits_steps` for the commonest case: two classes, soft cross-entropy, batch size 1 and one thread.

    The logits are then two numbers and their gradient is one. Without arrays for them, a narrow network takes
    a tenth less time.
    """
    A, c, Z, G, U, P = network.A, network.c, block.Z, block.G, block.U, block.P
    losses, targets, rates, shrinks = samples.losses, samples.targets, samples.rate, samples.shrink
    step, padded, c0, c1 = A.shape[1], unit_range.padded, float(c[0]), float(c[1])
    for quad in range(first, last, FOUR):
        end = min(quad + FOUR, last)
        correct(Z, G, U, quad, end, first, quad, padded, unit_range.lanes)
        for row in range(quad, end):
            sample, z = offset + row, row * Z.shape[1]
            u0, u1, u2, g0, g1, g2 = _unknown_steps(G, row, quad, row, step)
            o0, o1 = rows.activate_two(Z, U, A, P, z, 0, step, 0, u0, u1, u2, g0, g1, g2, scale, padded)
            q0, q1 = targets[sample, 0], targets[sample, 1]
            losses[0, sample], losses[2, sample], gradient = two_class_loss(o0 + c0, o1 + c1, q0, q1)
            shrink, rate = shrinks[sample], rates[sample]
            scale *= shrink
            output, hidden = rate * gradient, rate / scale * gradient
            rows.both_of_two(Z, U, A, z, 0, step, -hidden, hidden, shrink, -output, output, padded)
            c0, c1 = shrink * c0 - output, shrink * c1 + output
    c[0], c[1] = c0, c1
    return scale


@njit(cache=True, nogil=True)
def hidden_steps(
    block: Block, samples: Samples, rules: Rules, unit_range: UnitRange, offset: int, first: int, last: int,
    scale: float,
) -> float:  # fmt: skip
    """Takes steps on ½ ‖a − t‖², with hidden layer a. The output layer stays; threads run independently."""
    Z, G, U, batch = block.Z, block.G, block.U, rules.batch
    column, units, padded, lanes = unit_range.column, unit_range.units, unit_range.padded, unit_range.lanes
    hidden, losses, rates, shrinks = samples.hidden, samples.losses, samples.rate, samples.shrink
    step = (offset + first) // batch
    for quad in range(first, last, rules.quad):
        end = min(quad + rules.quad, last)
        correct(Z, G, U, quad, end, first, quad, padded, lanes)
        for start in range(quad, end, batch):
            correct(Z, G, U, start, start + batch, quad, start, padded, lanes)
            next_scale = scale * shrinks[step]
            amount = rates[step] / next_scale
            for row in range(start, start + batch):
                for j in range(units):
                    Z[row, j] *= scale
                    U[row, j] = 0
                losses[1, offset + row] = _match_hidden(
                    Z, U, row, row, hidden, offset + row, column, units, amount, rules.before_relu
                )
            scale = next_scale
            step += 1
    return scale


@njit(cache=True, nogil=True, forceinline=True)
def _forward(
    A: np.ndarray, Z: np.ndarray, G: np.ndarray, U: np.ndarray, P: np.ndarray, row: int, first: int,
    start: int, scale: float, work: np.ndarray, side: int, r: int, thread: int, m: int,
) -> None:  # fmt: skip
    """Z[row] ← relu(scale · corrected Z[row]), work[side, thread, r] (K,) ← A Z[row].

    If P has rows, P[r] ← the value before the relu.
    """
    K, step, z, p = len(A), A.shape[1], row * Z.shape[1], r * Z.shape[1]
    u0, u1, u2, g0, g1, g2 = _unknown_steps(G, row, first, start, step)
    o1 = 0.0
    if len(P) > 0:
        if K > 1:
            o0, o1 = rows.keep_two(Z, U, A, P, z, 0, step, p, u0, u1, u2, g0, g1, g2, scale, m)
        else:
            o0 = rows.keep_one(Z, U, A, P, z, 0, step, p, u0, u1, u2, g0, g1, g2, scale, m)[0]
    elif K > 1:
        o0, o1 = rows.activate_two(Z, U, A, P, z, 0, step, p, u0, u1, u2, g0, g1, g2, scale, m)
    else:
        o0 = rows.activate_one(Z, U, A, P, z, 0, step, p, u0, u1, u2, g0, g1, g2, scale, m)[0]
    work[side, thread, r, 0] = o0
    if K > 1:
        work[side, thread, r, 1] = o1
    for k in range(2, K - 1, 2):
        work[side, thread, r, k], work[side, thread, r, k + 1] = rows.dot_two(Z, A, z, k * step, step, m)
    if K > 1 and K % 2:
        work[side, thread, r, K - 1] = rows.dot_one(Z, A, z, (K - 1) * step, step, m)[0]


@njit(cache=True, nogil=True, forceinline=True)
def _unknown_steps(
    G: np.ndarray, row: int, first: int, start: int, step: int
) -> tuple[int, int, int, float, float, float]:
    """Indices in U of the steps that Z[row] lacks, and their weights.

    These are the steps of rows `first` … `start − 1`, at most 3. An absent step has weight 0.
    """
    available = start - first
    zero = G.dtype.type(0)
    g0 = G[row, first] if available > 0 else zero
    g1 = G[row, first + 1] if available > 1 else zero
    g2 = G[row, first + 2] if available > 2 else zero
    return first * step, (first + min(available, 1)) * step, (first + min(available, 2)) * step, g0, g1, g2


@njit(cache=True, nogil=True, forceinline=True)
def _backward(
    A: np.ndarray, Z: np.ndarray, U: np.ndarray, g: np.ndarray, start: int, batch: int, rate: float,
    hidden_rate: float, shrink: float, m: int,
) -> None:  # fmt: skip
    """One step: U ← −hidden_rate · 1[h > 0] · g A, then A ← shrink · A − rate · gᵀ h.

    Z holds h; g is (batch, K).
    """
    K, step = A.shape
    if batch == 1:
        z = start * step
        for k in range(0, K - 1, 2):
            m0, m1 = -hidden_rate * g[0, k], -hidden_rate * g[0, k + 1]
            r0, r1 = -rate * g[0, k], -rate * g[0, k + 1]
            if k == 0:
                rows.both_of_two(Z, U, A, z, 0, step, m0, m1, shrink, r0, r1, m)
            else:
                rows.both_of_two_more(Z, U, A, z, k * step, step, m0, m1, shrink, r0, r1, m)
        if K % 2:
            m0, r0 = -hidden_rate * g[0, K - 1], -rate * g[0, K - 1]
            if K == 1:
                rows.both_of_one(Z, U, A, z, 0, step, m0, 0.0, shrink, r0, 0.0, m)
            else:
                rows.both_of_one_more(Z, U, A, z, (K - 1) * step, step, m0, 0.0, shrink, r0, 0.0, m)
        return
    for r in range(batch):  # all rows see the same A
        z = (start + r) * step
        rows.hidden_of_one(Z, U, A, z, 0, step, -hidden_rate * g[r, 0], 0.0, 1.0, 0.0, 0.0, m)
        for k in range(1, K):
            rows.hidden_of_one_more(Z, U, A, z, k * step, step, -hidden_rate * g[r, k], 0.0, 1.0, 0.0, 0.0, m)
    for r in range(batch):
        for k in range(K):
            decay = shrink if r == 0 else 1.0
            rows.output_of_one(
                Z, U, A, (start + r) * step, k * step, step, 0.0, 0.0, decay, -rate * g[r, k], 0.0, m
            )


@njit(cache=True, nogil=True, fastmath=_FAST)
def _match_hidden(
    P: np.ndarray, U: np.ndarray, r: int, row: int, hidden: np.ndarray, sample: int, column: int, units: int,
    amount: float, before_relu: bool,
) -> float:  # fmt: skip
    """U[row] −= amount · (a − t), with a the hidden layer before or after the relu. Returns ½ ‖a − t‖².

    P[r] holds the layer before the relu.
    """
    number = P.dtype.type
    zero, weight, total = number(0), number(amount), number(0)
    for j in range(units):
        value = P[r, j]
        passes = before_relu or not value <= zero  # NaN passes
        error = (value if passes else zero) - hidden[sample, column + j]
        total += error * error
        U[row, j] -= weight * error if passes else zero
    return 0.5 * total
