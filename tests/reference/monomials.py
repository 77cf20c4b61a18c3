"""Correlations with monomials by plain loops over inputs and subsets, and which subsets those are."""

import itertools
import math


def hypercube(n):
    return list(itertools.product([1, -1], repeat=n))


def chi(x, subset):
    return math.prod(x[i] for i in subset)


def readout(logits, kind, c):
    """g of class c, from the K logits of one input."""
    if kind == "difference":
        others = [f for j, f in enumerate(logits) if j != c]
        return logits[c] - sum(others) / len(others)
    exponentials = [math.exp(f) for f in logits]
    p = exponentials[c] / sum(exponentials)
    return p if kind == "probability" else 2 * p - 1


def exact(g, n, subset):
    """`2^{-n} Σ_x g(x) χ_A(x)`; g takes a tuple."""
    return sum(g(x) * chi(x, subset) for x in hypercube(n)) / 2**n


def sampled(values, inputs, subset):
    """The sample covariance of g and χ_A, and the estimate of its variance, from g's values on the inputs."""
    N = len(inputs)
    products = [chi(x, subset) for x in inputs]
    mean_g, mean_chi = sum(values) / N, sum(products) / N
    covariance = sum((g - mean_g) * (p - mean_chi) for g, p in zip(values, products)) / (N - 1)
    variance = sum((g - mean_g) ** 2 for g in values) / (N - 1)
    return covariance, max(N * variance - (N - 2) * covariance**2, 2 * variance) / (N * (N - 1))


def subsets(n, features, degree, feature_degree):
    """Subset → (where, feature), of every size up to `degree`, and within a feature up to
    `feature_degree`.
    """
    support = {i for feature in features for i in feature}
    found = {}
    for size in range(1, n + 1):
        for subset in itertools.combinations(range(n), size):
            within = [j for j, feature in enumerate(features) if set(subset) <= set(feature)]
            inside = sum(i in support for i in subset)
            where = "in" if inside == size else "out" if inside == 0 else "mixed"
            if size <= degree or (within and size <= feature_degree):
                found[subset] = (where, within[0] if within else None)
    return found
