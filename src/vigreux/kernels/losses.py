"""The losses of one sample's logits, and their gradients."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SOFT_CROSS_ENTROPY, MULTI_MARGIN, SIGNED_MARGIN = 0, 1, 2


@njit(cache=True, nogil=True, forceinline=True)
def loss_and_gradient(
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
