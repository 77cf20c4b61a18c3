"""Losses on the logits of one sample, and their gradients."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SOFT_CROSS_ENTROPY, MULTI_MARGIN, SIGNED_MARGIN = 0, 1, 2


@njit(cache=True, nogil=True, forceinline=True)
def two_class_loss(o0: float, o1: float, q0: float, q1: float) -> tuple[float, float, float]:
    """Soft cross-entropy of two logits, without branches that depend on the data.

    Returns:
        The loss without its logarithm, the argument of the logarithm (see `loss_and_gradient`), and the
        gradient of o0. The gradient of o1 is its negative, since q0 + q1 = 1.
    """
    difference = o1 - o0
    small = math.exp(-abs(difference))  # of the less likely class; the likely class has 1
    total = 1.0 + small
    likely = 1.0 / total
    first = small * likely if difference > 0 else likely
    return q0 * max(difference, 0.0) + q1 * max(-difference, 0.0), total, first - q0


@njit(cache=True, nogil=True, forceinline=True)
def loss_and_gradient(
    o: np.ndarray,
    targets: np.ndarray,
    sample: int,
    kind: int,
    alpha: float,
    g: np.ndarray,
    r: int,
    losses: np.ndarray,
) -> float:
    """The loss of logits o (K,) for q = targets[sample], and its gradient in g[r] (K,).

    For the soft cross-entropy, the caller adds log(losses[2, sample]). No later step needs that logarithm, so
    it is computed for all samples together. For the other losses, losses[2, sample] stays 1.
    """
    K = o.shape[0]
    loss = 0.0
    if kind == SOFT_CROSS_ENTROPY and K == 2:
        loss, losses[2, sample], gradient = two_class_loss(o[0], o[1], targets[sample, 0], targets[sample, 1])
        g[r, 0], g[r, 1] = gradient, -gradient
    elif kind == SOFT_CROSS_ENTROPY:  # −Σ q log softmax(o);  q sums to 1
        top = o[0]
        for k in range(1, K):
            top = max(top, o[k])
        total = 0.0
        for k in range(K):
            g[r, k] = math.exp(o[k] - top)
            total += g[r, k]
        losses[2, sample] = total
        for k in range(K):
            q = targets[sample, k]
            loss -= q * (o[k] - top)
            g[r, k] = g[r, k] / total - q
    elif kind == MULTI_MARGIN:  # Σ_y q_y Σ_{k≠y} max(0, 1 − o_y + o_k) / K
        for k in range(K):
            g[r, k] = 0.0
        for y in range(K):
            q = targets[sample, y]
            if q != 0:
                for k in range(K):
                    margin = 1.0 - o[y] + o[k]
                    if k != y and not margin <= 0:
                        loss += q * margin / K
                        g[r, k] += q / K
                        g[r, y] -= q / K
    else:  # α max(0, 1 − f q_0) + (1 − α) max(0, 1 − f q_1), one logit f
        g[r, 0] = 0.0
        for side in range(2):
            q, weight = targets[sample, side], alpha if side == 0 else 1.0 - alpha
            margin = 1.0 - o[0] * q
            if weight != 0 and not margin <= 0:
                loss += weight * margin
                g[r, 0] -= weight * q
    return loss
