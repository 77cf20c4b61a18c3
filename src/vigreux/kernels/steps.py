"""The sequential part of a block: one SGD step after another on rows whose pre-activations are known up to the last few steps.

Notation, for rows (samples) of one block:

    Z (B, m)       pre-activations; correct up to the steps before `first` when a function is called, hidden activations `h` after it
    G (B, B)       products of the inputs plus 1 (the bias is one more input that is always 1)
    U (B, m)       what each row adds to a unit: after step i,  W = s_i (W_0 + Σ_j U_j x_jᵀ)  and  b = s_i (b_0 + Σ_j U_j)
    A (K, m), c (K,)   output layer, updated in place at each step
    scale          s_i, the product of the `shrink` of the steps so far

and for all samples of a call, of which the block's begin at `offset`:

    targets, losses        a row a sample
    rate, shrink (steps,)  learning rate / batch; 1 − learning rate · weight decay

A step is `batch` rows. m is rounded up to an odd number of vectors, so that rows do not fall on each other in the cache; the units beyond
the network's stay 0. Arrays are handed on whole, with
row numbers: a view, whose references are counted, costs as much as a narrow row's work.

Units can be shared out among threads, each with its own columns of Z, U and A: all that a step needs of the others is their part of
the logits, and for that they meet once a step.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vigreux.kernels import rows
from vigreux.kernels.barrier import wait
from vigreux.kernels.corrections import correct
from vigreux.kernels.losses import loss_and_gradient

# "nnan" and "ninf" are left out: a diverging run must show its NaN
_FAST = {"contract", "reassoc", "nsz"}


@njit(cache=True, nogil=True, forceinline=True)
def _forward(
    Z: np.ndarray, G: np.ndarray, U: np.ndarray, A: np.ndarray, P: np.ndarray, row: int, first: int, start: int, scale: float,
    work: np.ndarray, side: int, r: int, thread: int, m: int,
) -> None:  # fmt: skip
    """Z[row] ← relu(scale · corrected Z[row]), and work[side, thread, r] (K,) ← A Z[row]; where P has rows, P[r] ← before the relu."""
    K, step, z, p = len(A), A.shape[1], row * Z.shape[1], r * Z.shape[1]
    known = start - first  # 0 to 3 rows whose steps Z[row] does not know yet; a missing one has the weight 0
    g0 = G[row, first] if known > 0 else 0.0
    g1 = G[row, first + 1] if known > 1 else 0.0
    g2 = G[row, first + 2] if known > 2 else 0.0
    u0, u1, u2 = first * step, (first + min(known, 1)) * step, (first + min(known, 2)) * step
    place = ((side * work.shape[1] + thread) * work.shape[2] + r) * K
    if len(P) > 0:
        if K > 1:
            rows.keep_two(Z, U, A, P, work, z, 0, step, p, place, u0, u1, u2, g0, g1, g2, scale, m)
        else:
            rows.keep_one(Z, U, A, P, work, z, 0, step, p, place, u0, u1, u2, g0, g1, g2, scale, m)
    elif K > 1:
        rows.activate_two(Z, U, A, P, work, z, 0, step, p, place, u0, u1, u2, g0, g1, g2, scale, m)
    else:
        rows.activate_one(Z, U, A, P, work, z, 0, step, p, place, u0, u1, u2, g0, g1, g2, scale, m)
    for k in range(2, K - 1, 2):
        rows.dot_two(Z, A, work, z, k * step, step, place + k, m)
    if K > 1 and K % 2:
        rows.dot_one(Z, A, work, z, (K - 1) * step, step, place + K - 1, m)


@njit(cache=True, nogil=True, forceinline=True)
def _backward(
    Z: np.ndarray, U: np.ndarray, A: np.ndarray, g: np.ndarray, start: int, batch: int, rate: float, hidden_rate: float,
    shrink: float, m: int,
) -> None:  # fmt: skip
    """One step: U ← −hidden_rate · 1[h > 0] · g A, then A ← shrink · A − rate · gᵀ h.  Z holds h; g (batch, K)."""
    K, step = A.shape
    if batch == 1:
        z = start * step
        for k in range(0, K - 1, 2):
            m0, m1, r0, r1 = -hidden_rate * g[0, k], -hidden_rate * g[0, k + 1], -rate * g[0, k], -rate * g[0, k + 1]
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
            kept = shrink if r == 0 else 1.0
            rows.output_of_one(Z, U, A, (start + r) * step, k * step, step, 0.0, 0.0, kept, -rate * g[r, k], 0.0, m)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _match_hidden(
    P: np.ndarray, U: np.ndarray, r: int, row: int, hidden: np.ndarray, sample: int, column: int, units: int, amount: float, before: bool
) -> float:  # fmt: skip
    """U[row] −= amount · (a − t), `a` the hidden layer before or after relu, P[r] the one before; gives ½ ‖a − t‖²."""
    number = P.dtype.type
    zero, weight, total = number(0), number(amount), number(0)
    for j in range(units):
        value = P[r, j]
        passes = before or not value <= zero  # NaN passes
        error = (value if passes else zero) - hidden[sample, column + j]
        total += error * error
        U[row, j] -= weight * error if passes else zero
    return 0.5 * total


@njit(cache=True, nogil=True, forceinline=True)
def logits_steps(
    Z: np.ndarray, G: np.ndarray, U: np.ndarray, A: np.ndarray, c: np.ndarray, P: np.ndarray, targets: np.ndarray, hidden: np.ndarray,
    weight: float, before: bool, losses: np.ndarray, rate: np.ndarray, shrink: np.ndarray, batch: int, offset: int, first: int,
    last: int, scale: float, kind: int, alpha: float, column: int, units: int, padded: int, work: np.ndarray, thread: int, counter: np.ndarray,
) -> float:  # fmt: skip
    """Takes the steps of rows `first` to `last` of a block on a loss of the logits; gives the scale after them.

    Args:
        Z, G, U, A, c, losses, rate, shrink, offset, scale: see the module. `losses` (3, N): of the logits; of the hidden layer; see `losses.py`.
        P: (batch, m) workspace where the hidden layer is matched as well, else (0, m).
        targets: (N, K) class probabilities; for the signed margin (N, 2): label and teacher's value.
        hidden: (N, all units) targets of the hidden layer; `weight` of their loss; `before`: before the relu.
        batch: rows a step; `offset`, `first` and `last` are multiples of it.
        kind: one of `losses`.
        alpha: weight of the label, signed margin only.
        column, units, padded: this thread's first unit of the network, how many it has, and these rounded up to whole vectors.
        work: (4, threads, batch, K), shared by the threads: their parts of the logits at this step and the one before (no thread is
            ahead of another by more than one meeting); each thread's logits; each thread's gradients.
        thread: this thread's number.
        counter: of the barrier.
    """
    K, threads = A.shape[0], work.shape[1]
    o, g = work[2, thread, 0], work[3, thread]
    step = (offset + first) // batch
    for start in range(first, last, batch):
        side = step & 1
        for r in range(batch):
            _forward(Z, G, U, A, P, start + r, first, start, scale, work, side, r, thread, padded)
        if threads > 1:
            wait(counter, threads * (step + 1))
        for r in range(batch):
            for k in range(K):
                o[k] = c[k]
                for other in range(threads):
                    o[k] += work[side, other, r, k]
            losses[0, offset + start + r] = loss_and_gradient(o, targets, offset + start + r, kind, alpha, g, r, losses)
        scale *= shrink[step]
        mean_rate = rate[step]
        _backward(Z, U, A, g, start, batch, mean_rate, mean_rate / scale, shrink[step], padded)
        for r in range(len(P)):
            losses[1, offset + start + r] = weight * _match_hidden(
                P, U, r, start + r, hidden, offset + start + r, column, units, weight * mean_rate / scale, before
            )
        for k in range(K):
            total = 0.0
            for r in range(batch):
                total += g[r, k]
            c[k] = shrink[step] * c[k] - mean_rate * total
        step += 1
    return scale


@njit(cache=True, nogil=True)
def hidden_steps(
    Z: np.ndarray, G: np.ndarray, U: np.ndarray, hidden: np.ndarray, before: bool, losses: np.ndarray, rate: np.ndarray,
    shrink: np.ndarray, batch: int, offset: int, first: int, last: int, scale: float, column: int, units: int, padded: int, lanes: int,
) -> float:  # fmt: skip
    """The same on ½ ‖a − t‖², `a` the hidden layer; the output layer takes no part, and threads need not meet."""
    for start in range(first, last, batch):
        step = (offset + start) // batch
        correct(Z, G, U, start, start + batch, first, start, padded, lanes)
        next_scale = scale * shrink[step]
        amount = rate[step] / next_scale
        for row in range(start, start + batch):
            for j in range(units):
                Z[row, j] *= scale
                U[row, j] = 0
            losses[1, offset + row] = _match_hidden(Z, U, row, row, hidden, offset + row, column, units, amount, before)
        scale = next_scale
    return scale
