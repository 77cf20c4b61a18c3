"""The sequential part of a block: one SGD step after another on rows whose pre-activations are known up to the block's own steps.

Compiled with numba. Notation, for rows (samples) of one block:

    Z (B, m)       pre-activations; correct up to the steps of this block before `first` when a function is called, hidden
                   activations `h` afterwards
    G (B, B)       products of the inputs plus 1 (the bias is one more input that is always 1)
    U (B, m)       what each row adds to a unit: after step i,  W = s_i (W_0 + Σ_j U_j x_jᵀ)  and  b = s_i (b_0 + Σ_j U_j)
    A (K, m), c (K,)   output layer, updated in place at each step
    scale          s_i, the product of the `shrink` of the steps so far

and for all samples of a call, of which the block's begin at `offset`:

    targets, losses        a row a sample
    rate, shrink (steps,)  learning rate; 1 − rate · weight decay

A step is `batch` rows. Sums are float64 where they are short (logits, losses) and of the arrays' own type where they are long.
Arrays are handed on whole, with row numbers: a view, whose bounds are checked and whose references are counted, costs as much as a
narrow row's work.

Units can be shared out among threads, each with its own columns of Z, U and A: all that a step needs of the others is their part of
the logits, and for that they meet once a step.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from vigreux.kernels.barrier import wait

# "nnan" and "ninf" are left out: a diverging run must show its NaN
_FAST = {"contract", "reassoc", "nsz"}
_TILE = 2048  # units that go through a step's backward passes together: their A, Z and U stay in the first-level cache

SOFT_CROSS_ENTROPY, MULTI_MARGIN, SIGNED_MARGIN = 0, 1, 2  # losses of logits


@njit(cache=True, nogil=True, fastmath=_FAST)
def _correct(Z: np.ndarray, G: np.ndarray, U: np.ndarray, row: int, first: int, last: int) -> None:
    """Z[row] += Σ_{first ≤ i < last} G[row, i] · U[i]; four rows a pass, since a pass over Z costs a load and a store of it."""
    m = Z.shape[1]
    i = first
    while i + 4 <= last:
        g0, g1, g2, g3 = G[row, i], G[row, i + 1], G[row, i + 2], G[row, i + 3]
        for j in range(m):
            Z[row, j] += (g0 * U[i, j] + g1 * U[i + 1, j]) + (g2 * U[i + 2, j] + g3 * U[i + 3, j])
        i += 4
    while i < last:
        g = G[row, i]
        for j in range(m):
            Z[row, j] += g * U[i, j]
        i += 1


@njit(cache=True, nogil=True, fastmath=_FAST)
def _forward(
    Z: np.ndarray,
    G: np.ndarray,
    U: np.ndarray,
    A: np.ndarray,
    row: int,
    first: int,
    last: int,
    scale: float,
    parts: np.ndarray,
    thread: int,
    r: int,
) -> None:
    """Z[row] ← relu(scale · corrected Z[row]), and parts[thread, r] (K,) ← A Z[row]."""
    K, m = A.shape
    number = Z.dtype.type
    zero, factor = number(0), number(scale)
    _correct(Z, G, U, row, first, last)
    for j in range(m):
        value = factor * Z[row, j]
        Z[row, j] = zero if value <= zero else value  # NaN stays
    for k in range(K):
        total = zero
        for j in range(m):
            total += A[k, j] * Z[row, j]
        parts[thread, r, k] = total


@njit(cache=True, nogil=True)
def _loss_and_gradient(
    o: np.ndarray, targets: np.ndarray, sample: int, kind: int, alpha: float, gradients: np.ndarray, r: int
) -> float:
    """The loss of logits o (K,) for q = targets[sample], and its gradient in gradients[r] (K,)."""
    K = o.shape[0]
    g = gradients[r]
    loss = 0.0
    if kind == SOFT_CROSS_ENTROPY:  # −Σ q log softmax(o);  q sums to 1
        top = o[0]
        for k in range(1, K):
            top = max(top, o[k])
        total = 0.0
        for k in range(K):
            g[k] = math.exp(o[k] - top) if o[k] != top else 1.0
            total += g[k]
        log_total = math.log(total)
        for k in range(K):
            q = targets[sample, k]
            if q != 0:
                loss -= q * (o[k] - top - log_total)
            g[k] = g[k] / total - q
    elif kind == MULTI_MARGIN:  # Σ_y q_y Σ_{k≠y} max(0, 1 − o_y + o_k) / K
        g[:] = 0.0
        for y in range(K):
            q = targets[sample, y]
            if q != 0:
                for k in range(K):
                    margin = 1.0 - o[y] + o[k]
                    if k != y and not margin <= 0:
                        loss += q * margin / K
                        g[k] += q / K
                        g[y] -= q / K
    else:  # α max(0, 1 − f q_0) + (1 − α) max(0, 1 − f q_1), one logit f
        g[0] = 0.0
        for side in range(2):
            q, weight = targets[sample, side], alpha if side == 0 else 1.0 - alpha
            margin = 1.0 - o[0] * q
            if weight != 0 and not margin <= 0:
                loss += weight * margin
                g[0] -= weight * q
    return loss


@njit(cache=True, nogil=True, fastmath=_FAST)
def _backward(
    Z: np.ndarray,
    U: np.ndarray,
    A: np.ndarray,
    g: np.ndarray,
    row: int,
    batch: int,
    rate: float,
    hidden_rate: float,
    shrink: float,
) -> None:
    """One step of rows `row` to `row + batch`: U ← −hidden_rate · 1[h > 0] · g A, then A ← shrink · A − rate · gᵀ h; tile by tile.

    Z holds h; g (batch, K) gradients of the logits.
    """
    K, m = A.shape
    number = A.dtype.type
    zero = number(0)
    for start in range(0, m, _TILE):
        end = min(start + _TILE, m)
        for r in range(batch):
            h, u = Z[row + r, start:end], U[row + r, start:end]
            for k in range(K):
                a, amount = A[k, start:end], number(-hidden_rate * g[r, k])
                if k == 0:
                    for j in range(h.shape[0]):
                        u[j] = amount * a[j]
                else:
                    for j in range(h.shape[0]):
                        u[j] += amount * a[j]
            for j in range(h.shape[0]):
                u[j] = u[j] if h[j] > zero else zero
        for k in range(K):
            a = A[k, start:end]
            for r in range(batch):
                h, amount, kept = Z[row + r, start:end], number(rate * g[r, k]), number(shrink if r == 0 else 1.0)
                for j in range(h.shape[0]):
                    a[j] = kept * a[j] - amount * h[j]


@njit(cache=True, nogil=True)
def logits_steps(
    Z: np.ndarray,
    G: np.ndarray,
    U: np.ndarray,
    A: np.ndarray,
    c: np.ndarray,
    targets: np.ndarray,
    losses: np.ndarray,
    rate: np.ndarray,
    shrink: np.ndarray,
    batch: int,
    offset: int,
    first: int,
    last: int,
    scale: float,
    kind: int,
    alpha: float,
    work: np.ndarray,
    thread: int,
    counter: np.ndarray,
) -> float:
    """Takes the steps of rows `first` to `last` of a block on a loss of the logits; gives the scale after them.

    Args:
        Z, G, U, A, c, losses, rate, shrink, offset, scale: see the module.
        targets: (N, K) class probabilities; for the signed margin (N, 2): label and teacher's value.
        batch: rows a step; `offset`, `first` and `last` are multiples of it.
        kind: one of the losses of this module.
        alpha: weight of the label, signed margin only.
        work: (4, threads, batch, K), shared by the threads: their parts of the logits at this step and the one before (no thread is
            ahead of another by more than one meeting); each thread's logits; each thread's gradients.
        thread: this thread's number.
        counter: of the barrier.
    """
    K, threads = A.shape[0], work.shape[1]
    o, g = work[2, thread, 0], work[3, thread]
    for start in range(first, last, batch):
        step = (offset + start) // batch
        parts = work[step % 2]
        for r in range(batch):
            _forward(Z, G, U, A, start + r, first, start, scale, parts, thread, r)
        if threads > 1:
            wait(counter, threads * (step + 1))
        for r in range(batch):
            for k in range(K):
                o[k] = c[k]
                for other in range(threads):
                    o[k] += parts[other, r, k]
            losses[offset + start + r] = _loss_and_gradient(o, targets, offset + start + r, kind, alpha, g, r)
        scale *= shrink[step]
        mean_rate = rate[step] / batch
        _backward(Z, U, A, g, start, batch, mean_rate, mean_rate / scale, shrink[step])
        for k in range(K):
            total = 0.0
            for r in range(batch):
                total += g[r, k]
            c[k] = shrink[step] * c[k] - mean_rate * total
    return scale


@njit(cache=True, nogil=True, fastmath=_FAST)
def hidden_steps(
    Z: np.ndarray,
    G: np.ndarray,
    U: np.ndarray,
    targets: np.ndarray,
    losses: np.ndarray,
    rate: np.ndarray,
    shrink: np.ndarray,
    batch: int,
    offset: int,
    first: int,
    last: int,
    scale: float,
    before_relu: bool,
) -> float:
    """Takes the steps of rows `first` to `last` on ½ Σ_j (a_j − t_j)², `a` the hidden layer before or after relu.

    Args as `logits_steps`; targets (N, m). The output layer takes no part.
    """
    m = Z.shape[1]
    number = Z.dtype.type
    zero = number(0)
    for start in range(first, last, batch):
        step = (offset + start) // batch
        for row in range(start, start + batch):
            _correct(Z, G, U, row, first, start)
        next_scale = scale * shrink[step]
        now, amount = number(scale), number(rate[step] / batch / next_scale)
        for row in range(start, start + batch):
            z, u, t = Z[row], U[row], targets[offset + row]
            total = zero
            for j in range(m):
                value = now * z[j]
                passes = before_relu or not value <= zero  # NaN passes
                error = (value if passes else zero) - t[j]
                total += error * error
                u[j] = -amount * error if passes else zero
            losses[offset + row] = 0.5 * total
        scale = next_scale
    return scale
