"""The sequential part of a block: one SGD step after another on rows whose pre-activations are known up to the block's own steps.

Compiled with numba. Notation, for rows (samples) of one block:

    Z (B, m)       pre-activations; correct up to the steps of this block before `first` when a function is called, hidden
                   activations `h` afterwards
    G (B, B)       Gram matrix of the inputs plus 1 (the bias is one more input that is always 1)
    U (B, m)       what each row adds to a unit: after step i,  W = s_i (W_0 + Σ_j U_j x_jᵀ)  and  b = s_i (b_0 + Σ_j U_j)
    A (K, m), c (K,)   output layer, updated in place at each step
    rate, shrink (steps,)   learning rate; 1 − rate · weight decay
    scale          product of the `shrink` so far: s_i

A step is `batch` rows. Sums are float64 where they are short (logits, losses) and of the arrays' own type where they are long.

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
_TILE = 2048  # units worked on at a time: A, Z and U of a tile stay in the first-level cache

SOFT_CROSS_ENTROPY, MULTI_MARGIN, SIGNED_MARGIN = 0, 1, 2  # losses of logits


@njit(cache=True, nogil=True, fastmath=_FAST)
def _correct(z: np.ndarray, gram: np.ndarray, U: np.ndarray, first: int, last: int) -> None:
    """z (m,) += Σ_{first ≤ i < last} gram[i] · U[i]; four rows a pass, since a pass over z costs a load and a store."""
    i = first
    while i + 4 <= last:
        g0, g1, g2, g3 = gram[i], gram[i + 1], gram[i + 2], gram[i + 3]
        u0, u1, u2, u3 = U[i], U[i + 1], U[i + 2], U[i + 3]
        for j in range(z.shape[0]):
            z[j] += (g0 * u0[j] + g1 * u1[j]) + (g2 * u2[j] + g3 * u3[j])
        i += 4
    while i < last:
        g, u = gram[i], U[i]
        for j in range(z.shape[0]):
            z[j] += g * u[j]
        i += 1


@njit(cache=True, nogil=True, fastmath=_FAST)
def _activate(z: np.ndarray, scale: float) -> None:
    """z ← relu(scale · z)."""
    zero = z.dtype.type(0)
    scale = z.dtype.type(scale)
    for j in range(z.shape[0]):
        value = scale * z[j]
        z[j] = value if value > zero or value != value else zero  # NaN stays


@njit(cache=True, nogil=True, fastmath=_FAST)
def _logits(h: np.ndarray, A: np.ndarray, out: np.ndarray) -> None:
    """out (K,) ← A h."""
    for k in range(A.shape[0]):
        a = A[k]
        total = h.dtype.type(0)
        for j in range(h.shape[0]):
            total += a[j] * h[j]
        out[k] = total


@njit(cache=True, nogil=True)
def _loss_and_gradient(o: np.ndarray, q: np.ndarray, kind: int, alpha: float, g: np.ndarray) -> float:
    """The loss of logits o (K,) for a target q, and its gradient in g (K,)."""
    K = o.shape[0]
    loss = 0.0
    if kind == SOFT_CROSS_ENTROPY:  # −Σ q log softmax(o);  q sums to 1
        top = o.max()
        total = 0.0
        for k in range(K):
            g[k] = math.exp(o[k] - top)
            total += g[k]
        log_total = math.log(total)
        for k in range(K):
            if q[k] != 0:
                loss -= q[k] * (o[k] - top - log_total)
            g[k] = g[k] / total - q[k]
    elif kind == MULTI_MARGIN:  # Σ_y q_y Σ_{k≠y} max(0, 1 − o_y + o_k) / K
        g[:] = 0.0
        for y in range(K):
            if q[y] != 0:
                for k in range(K):
                    margin = 1.0 - o[y] + o[k]
                    if k != y and not margin <= 0:
                        loss += q[y] * margin / K
                        g[k] += q[y] / K
                        g[y] -= q[y] / K
    else:  # α max(0, 1 − f q_0) + (1 − α) max(0, 1 − f q_1), one logit f
        g[0] = 0.0
        for side in range(2):
            weight = alpha if side == 0 else 1.0 - alpha
            margin = 1.0 - o[0] * q[side]
            if weight != 0 and not margin <= 0:
                loss += weight * margin
                g[0] -= weight * q[side]
    return loss


@njit(cache=True, nogil=True, fastmath=_FAST)
def _backward(H: np.ndarray, U: np.ndarray, A: np.ndarray, g: np.ndarray, rate: float, hidden_rate: float, shrink: float) -> None:
    """One step of S rows: U ← −hidden_rate · 1[H > 0] · g A, then A ← shrink · A − rate · gᵀ H; tile by tile.

    H, U (S, m); A (K, m); g (S, K) gradients of the logits.
    """
    S, m = H.shape
    K = A.shape[0]
    number = A.dtype.type
    zero, decay, step = number(0), number(shrink), number(hidden_rate)
    for start in range(0, m, _TILE):
        end = min(start + _TILE, m)
        for r in range(S):
            h, u = H[r, start:end], U[r, start:end]
            for k in range(K):
                a, g_k = A[k, start:end], number(g[r, k])
                if k == 0:
                    for j in range(end - start):
                        u[j] = g_k * a[j]
                else:
                    for j in range(end - start):
                        u[j] += g_k * a[j]
            for j in range(end - start):
                u[j] = -step * u[j] if h[j] > zero else zero
        for k in range(K):
            a = A[k, start:end]
            for r in range(S):
                h, amount = H[r, start:end], number(rate * g[r, k])
                kept = decay if r == 0 else number(1)
                for j in range(end - start):
                    a[j] = kept * a[j] - amount * h[j]


@njit(cache=True, nogil=True)
def logits_steps(
    Z: np.ndarray,
    G: np.ndarray,
    U: np.ndarray,
    A: np.ndarray,
    c: np.ndarray,
    targets: np.ndarray,
    rate: np.ndarray,
    shrink: np.ndarray,
    batch: int,
    first: int,
    last: int,
    scale: float,
    kind: int,
    alpha: float,
    losses: np.ndarray,
    partial: np.ndarray,
    thread: int,
    counter: np.ndarray,
    met: int,
) -> float:
    """Takes the steps of rows `first` to `last` on a loss of the logits; gives the scale after them.

    Args:
        Z, G, U, A, c, rate, shrink, scale: see the module; `rate` and `shrink` of the whole block.
        targets: (B, K) class probabilities; for the signed margin (B, 2): label and teacher's value.
        batch: rows a step; `first` and `last` are multiples of it.
        kind: one of the losses of this module.
        alpha: weight of the label, signed margin only.
        losses: (B,) the rows' losses, written.
        partial: (2, threads, batch, K) the threads' parts of the logits, of this step and the one before: a thread can be ahead of
            another by no more than one meeting.
        thread: this thread's number.
        counter: of the barrier.
        met: steps before this call for which the threads have met.
    """
    K, threads = A.shape[0], partial.shape[1]
    o, g = np.empty(K), np.empty((batch, K))
    for start in range(first, last, batch):
        step, end = start // batch, start + batch
        part = partial[met % 2]
        for row in range(start, end):
            _correct(Z[row], G[row], U, first, start)
            _activate(Z[row], scale)
            _logits(Z[row], A, part[thread, row - start])
        met += 1
        if threads > 1:
            wait(counter, threads * met)
        for row in range(start, end):
            for k in range(K):
                o[k] = c[k] + part[:, row - start, k].sum()
            losses[row] = _loss_and_gradient(o, targets[row], kind, alpha, g[row - start])
        scale *= shrink[step]
        mean_rate = rate[step] / batch
        _backward(Z[start:end], U[start:end], A, g, mean_rate, mean_rate / scale, shrink[step])
        for k in range(K):
            c[k] = shrink[step] * c[k] - mean_rate * g[:, k].sum()
    return scale


@njit(cache=True, nogil=True, fastmath=_FAST)
def hidden_steps(
    Z: np.ndarray,
    G: np.ndarray,
    U: np.ndarray,
    targets: np.ndarray,
    rate: np.ndarray,
    shrink: np.ndarray,
    batch: int,
    first: int,
    last: int,
    scale: float,
    before_relu: bool,
    losses: np.ndarray,
) -> float:
    """Takes the steps of rows `first` to `last` on ½ Σ_j (a_j − t_j)², `a` the hidden layer before or after relu.

    Args as `logits_steps`; targets (B, m). The output layer takes no part.
    """
    m = Z.shape[1]
    number = Z.dtype.type
    zero = number(0)
    for start in range(first, last, batch):
        step, end = start // batch, start + batch
        for row in range(start, end):
            _correct(Z[row], G[row], U, first, start)
        next_scale = scale * shrink[step]
        now, amount = number(scale), number(rate[step] / batch / next_scale)
        for row in range(start, end):
            z, t, u = Z[row], targets[row], U[row]
            total = number(0)
            for j in range(m):
                value = now * z[j]
                passes = before_relu or not value <= zero  # NaN passes
                error = (value if passes else zero) - t[j]
                total += error * error
                u[j] = -amount * error if passes else zero
            losses[row] = 0.5 * total
        scale = next_scale
    return scale
