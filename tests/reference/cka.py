"""Linear CKA from whole (N, N) kernel matrices, and pairs by trying every rising choice."""

import itertools

import numpy as np


def biased_hsic(K, L):
    """tr(K H L H) / (N − 1)², H centres."""
    N = len(K)
    H = np.eye(N) - np.ones((N, N)) / N
    return np.trace(K @ H @ L @ H) / (N - 1) ** 2


def unbiased_hsic(K, L):
    """Mean over all quadruples of different tokens of K_ij (L_ij + L_kl − 2 L_ik): the U-statistic by its
    definition.
    """
    quadruples = list(itertools.permutations(range(len(K)), 4))
    return sum(K[i, j] * (L[i, j] + L[k, m] - 2 * L[i, k]) for i, j, k, m in quadruples) / len(quadruples)


def cka(X, Y, hsic):
    K, L = X @ X.T, Y @ Y.T
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


def best_total(similarity):
    """The largest sum of similarities over rising teacher layers for the student's depths below the whole
    one.
    """
    L_T, L_S = similarity.shape[0] - 1, similarity.shape[1] - 1
    depths, layers = range(1, max(L_S, 2)), range(1, L_T + 1 if L_S == 1 else L_T)
    return max(
        sum(similarity[t, s] for t, s in zip(chosen, depths))
        for chosen in itertools.combinations(layers, len(depths))
    )
