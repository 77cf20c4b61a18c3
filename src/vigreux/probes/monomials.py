"""Correlations of a network's output with products of input coordinates.

The measure is `c_A = E[g(x) χ_A(x)]` with `χ_A(x) = Π_{i∈A} x_i` and x ~ U({±1}^n).

g is a number that is read from the logits (`Readout`). Up to n = 20 the expectation is the mean over all 2^n
inputs, computed by a Walsh–Hadamard transform. Beyond, the sample covariance of g and χ_A on fresh inputs
estimates it. The mean of that estimate is c_A, since E[χ_A] = 0, and the mean of g adds no noise. Its
variance needs no fourth moment, since χ_A² = 1 (Kendall & Stuart 1, section 13.1):

    Var = (N σ_g² − (N − 2) c_A²) / (N (N − 1))

The measure is that of arXiv 2410.05464, section 3.2: a teacher's correlations with single support variables
rise during its phase transition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, pstdev
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vigreux.errors import CheckpointError, ConfigError, unknown
from vigreux.kernels.forward import SignForward
from vigreux.models.two_layer import TwoLayer
from vigreux.probes.subsets import Monomial, Where, choose_monomials, subset_groups
from vigreux.tasks.synthetic.bits import BitStream
from vigreux.tasks.synthetic.parity import BooleanTask

Network = Callable[[Tensor], Tensor]  # (N, n) ±1 → logits (N, K)
Readout = Literal["difference", "probability", "tanh"]
Method = Literal["auto", "exact", "monte-carlo"]

EXACT_UP_TO = 20  # 2^20 inputs; g on all of them takes 8 MB per class
_DEGREE = 3  # above this degree, only subsets of one feature are probed
_ROWS = 4096  # monomials per matrix product
FAST_BLOCK = 4096  # inputs per forward pass of a two-layer network
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class MonomialSettings:
    """The readout of the network, the subsets to probe, and the inputs.

    Args:
        readout: g(x) of class c, with logits f. `difference` is f_c minus the mean of the others (K = 2:
            f_1 − f_0), `probability` is softmax(f)_c, and `tanh`, for two classes, is tanh((f_1 − f_0) / 2) =
            2 p(y = 1) − 1. The output of a network with a single logit is the difference.
        classes: the classes c. `None` is class 1 of two classes, or every class of more than two.
        degree: largest size of A inside and outside the support, 1 to 3. Degree 1 is always complete.
        feature_degree: largest size of A within one feature; `None` is the size of the feature.
        inside: maximum number of subsets per size inside the support. If there are more, a random sample is
            probed.
        outside: the same for subsets outside the support, and for subsets that are only partly inside.
        method: `auto` is exact up to n = 20.
        samples: number of fresh inputs for the Monte Carlo estimate.
        block: inputs per forward pass.
        seed: seed of the inputs and of the random samples of subsets.
    """

    readout: Readout = "difference"
    classes: tuple[int, ...] | None = None
    degree: int = _DEGREE
    feature_degree: int | None = None
    inside: int = 10_000
    outside: int = 1_000
    method: Method = "auto"
    samples: int = 100_000
    block: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.readout not in get_args(Readout):
            raise ConfigError(unknown("probe.readout", self.readout, get_args(Readout)))
        if self.method not in get_args(Method):
            raise ConfigError(unknown("probe.method", self.method, get_args(Method)))
        if not 1 <= self.degree <= _DEGREE:
            raise ConfigError(
                f"probe.degree: {self.degree};"
                f" accepted: 1 to {_DEGREE}; feature_degree sets larger ones in a feature"
            )
        if self.feature_degree is not None and self.feature_degree < 1:
            raise ConfigError(f"probe.feature_degree: {self.feature_degree}; accepted: from 1")
        minima = {"inside": 0, "outside": 0, "samples": 2, "block": 1, "seed": 0}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise ConfigError(f"probe.{name}: {getattr(self, name)}; accepted: from {minimum}")


@dataclass(frozen=True)
class Correlation:
    """c_A of one class, with its 95 % interval (`low` = `value` = `high` if exact)."""

    subset: tuple[int, ...]
    where: Where
    degree: int
    feature: int | None
    class_id: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Coverage:
    """The number of subsets of one size and position, and how many of them were probed."""

    degree: int
    where: Where
    probed: int
    existing: int


@dataclass(frozen=True)
class MonomialSummary:
    """|c_A| of one degree over all classes, for a line of JSON; `None` if no such subset was probed.

    Attributes:
        degree: size of A.
        in_mean, in_max: inside the support.
        out_mean, out_max: outside. A Monte Carlo estimate of 0 has |c| ≈ 0.8 of its standard error.
        ratio: in_mean / out_mean.
        z: (in_mean − out_mean) / standard deviation of |c| outside.
        features: mean inside each feature.
        products: |c_A| of each feature's full product, whatever `degree`: the largest over classes.
    """

    degree: int
    in_mean: float | None
    in_max: float | None
    out_mean: float | None
    out_max: float | None
    ratio: float | None
    z: float | None
    features: tuple[float | None, ...]
    products: tuple[float | None, ...]


@dataclass(frozen=True)
class MonomialProbe:
    """All correlations of one network.

    Attributes:
        correlations: the correlations by class, in order of degree.
        coverage: the number of subsets and of probed subsets, by size and position.
        inputs: number of inputs; 2^n if `exact`.
        exact: whether the mean is over the whole hypercube.
        features: the features of the task.
    """

    correlations: tuple[Correlation, ...]
    coverage: tuple[Coverage, ...]
    inputs: int
    exact: bool
    features: tuple[tuple[int, ...], ...]

    def summary(self, degree: int = 1) -> MonomialSummary:
        """The summary of the subsets of one size."""
        correlations = [c for c in self.correlations if c.degree == degree]
        inside = [abs(c.value) for c in correlations if c.where == "in"]
        outside = [abs(c.value) for c in correlations if c.where == "out"]
        in_mean, out_mean = _mean(inside), _mean(outside)
        ratio = z = None
        if in_mean is not None and out_mean is not None:
            deviation = pstdev(outside)
            ratio = in_mean / out_mean if out_mean else None
            z = (in_mean - out_mean) / deviation if deviation else None
        return MonomialSummary(
            degree=degree,
            in_mean=in_mean,
            in_max=max(inside, default=None),
            out_mean=out_mean,
            out_max=max(outside, default=None),
            ratio=ratio,
            z=z,
            features=tuple(
                _mean([abs(c.value) for c in correlations if c.feature == j])
                for j in range(len(self.features))
            ),
            products=tuple(
                max(
                    (abs(c.value) for c in self.correlations if c.feature == j and c.degree == len(feature)),
                    default=None,
                )
                for j, feature in enumerate(self.features)
            ),
        )


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def probe_monomials(
    network: Network, task: BooleanTask, settings: MonomialSettings | None = None
) -> MonomialProbe:
    """The correlations of a network with the monomials that `settings` select.

    Args:
        network: (N, n) ±1 → logits (N, K), where K is the number of classes, or (N, 1) for two classes. It is
            called without gradients. Its inputs have the dtype `network.dtype`, or else float32.
        task: n, the classes, and the features, whose union is the support.
        settings: the settings; `None` selects the defaults.

    Raises:
        ConfigError: the probe is exact with n above 20, a class is outside the task, `tanh` is used with more
            than two classes, or the network has another n or K.
        CheckpointError: the logits are not finite.
    """
    settings = settings or MonomialSettings()
    exact = settings.method == "exact" or (settings.method == "auto" and task.n <= EXACT_UP_TO)
    if exact and task.n > EXACT_UP_TO:
        raise ConfigError(
            f"probe.method: exact with task.n = {task.n}; accepted: n up to {EXACT_UP_TO}, or monte-carlo"
        )
    classes = _classes(task, settings)
    groups = subset_groups(
        task,
        degree=settings.degree,
        feature_degree=settings.feature_degree,
        inside=settings.inside,
        outside=settings.outside,
    )
    monomials = choose_monomials(task, groups, settings.seed)
    read = _reader(network, task, settings.readout, classes)
    if exact:
        # the fast pass of a two-layer network stores no hidden units, so a block may be long; the logits of a
        # row do not depend on the block
        block = max(settings.block, FAST_BLOCK) if isinstance(network, TwoLayer) else settings.block
        values, halves = _exact(read, task.n, monomials, block)
    else:
        values, halves = _sampled(read, task.n, monomials, settings)
    correlations = tuple(
        Correlation(m.subset, m.where, len(m.subset), m.feature, c, value, value - half, value + half)
        for c, class_values, class_halves in zip(classes, values.T.tolist(), halves.T.tolist())
        for m, value, half in zip(monomials, class_values, class_halves)
    )
    probed = Counter((len(m.subset), m.where) for m in monomials)
    coverage = tuple(Coverage(g.degree, g.where, probed[g.degree, g.where], g.existing) for g in groups)
    return MonomialProbe(
        correlations, coverage, 2**task.n if exact else settings.samples, exact, task.features
    )


# --- readout ------------------------------------------------------------------------------------------------


def _classes(task: BooleanTask, settings: MonomialSettings) -> tuple[int, ...]:
    if settings.readout == "tanh" and task.classes != 2:
        raise ConfigError(
            f"probe.readout: tanh with {task.classes} classes; accepted: difference or probability"
        )
    if settings.classes is None:
        return (1,) if task.classes == 2 else tuple(range(task.classes))
    wrong = [c for c in settings.classes if not 0 <= c < task.classes]
    if wrong or not settings.classes:
        raise ConfigError(
            f"probe.classes: {wrong[0] if wrong else 'empty'}; accepted: 0 to {task.classes - 1}"
        )
    return settings.classes


def _reader(
    network: Network, task: BooleanTask, readout: Readout, classes: tuple[int, ...]
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from inputs (B, n) int8 to g (B, C) float64."""
    n = getattr(network, "n", task.n)
    if n != task.n:
        raise ConfigError(f"probe: the network takes inputs of length {n}; accepted: task.n = {task.n}")
    logits_of = _logits_of(network)

    def read(X: np.ndarray) -> np.ndarray:
        logits = logits_of(X)
        if logits.shape == (len(X), 1) and task.classes == 2:
            logits = torch.cat((-logits / 2, logits / 2), dim=1)
        if logits.shape != (len(X), task.classes):
            shape = " × ".join(map(str, logits.shape))
            raise ConfigError(
                f"probe: the network gives {shape} logits for {len(X)} inputs;"
                f" accepted: {task.classes} an input"
            )
        if not logits.isfinite().all():
            raise CheckpointError(
                "probe: the network's logits are not finite; accepted: a checkpoint from before it diverged"
            )
        return _read_out(logits, readout)[:, list(classes)].numpy()

    return read


def _logits_of(network: Network) -> Callable[[np.ndarray], Tensor]:
    """A function from inputs (B, n) int8 to logits (B, K) float64, fast for two-layer networks."""
    if isinstance(network, TwoLayer):
        fast = SignForward(*network.parameters_in_order())
        return lambda X: fast.logits(X).to(torch.float64)
    dtype = getattr(network, "dtype", torch.float32)

    def logits(X: np.ndarray) -> Tensor:
        with torch.no_grad():
            return network(torch.from_numpy(X).to(dtype)).to("cpu", torch.float64)

    return logits


def _read_out(f: Tensor, readout: Readout) -> Tensor:
    """Logits (B, K) → g of every class (B, K)."""
    if readout == "probability":
        return f.softmax(-1)
    K = f.shape[1]
    difference = (K * f - f.sum(-1, keepdim=True)) / (K - 1)
    return difference if readout == "difference" else (difference / 2).tanh()


# --- expectations -------------------------------------------------------------------------------------------


def _exact(
    read: Callable[[np.ndarray], np.ndarray],
    n: int,
    monomials: Sequence[Monomial],
    block: int,
) -> tuple[np.ndarray, np.ndarray]:
    """c_A (A, C) as means over the hypercube, `block` inputs at a time, and half-widths of 0."""
    blocks = [read(hypercube(n, first, min(block, 2**n - first))) for first in range(0, 2**n, block)]
    coefficients = walsh_hadamard(np.concatenate(blocks).T) / 2**n  # (C, 2^n)
    values = coefficients[:, [sum(1 << i for i in m.subset) for m in monomials]].T
    return values, np.zeros_like(values)


def hypercube(n: int, first: int, count: int) -> np.ndarray:
    """Inputs `first` … of the 2^n, (count, n) int8. Coordinate i of input t is −1 if bit i of t is set."""
    codes = np.arange(first, first + count)
    return 1 - 2 * (codes[:, None] >> np.arange(n) & 1).astype(np.int8)


def walsh_hadamard(values: np.ndarray) -> np.ndarray:
    """(C, 2^n) → (C, 2^n): `out[a] = Σ_t (−1)^{popcount(a & t)} values[t]`, in n·2^n additions."""
    C, size = values.shape
    half = 1
    while half < size:
        pairs = values.reshape(C, -1, 2, half)
        values = np.stack((pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]), axis=2)
        half *= 2
    return values.reshape(C, size)


def _sampled(
    read: Callable[[np.ndarray], np.ndarray],
    n: int,
    monomials: Sequence[Monomial],
    settings: MonomialSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample covariances of g and χ_A (A, C), and the half-widths of their 95 % intervals."""
    stream = BitStream(n, settings.seed, "probe")
    N = settings.samples
    indices = list(_indices(monomials))
    shift = read(stream.block(0, 1))  # (1, C); g − shift has a small mean, so its sums keep their digits
    C = shift.shape[1]
    g_sum, g_squares = np.zeros(C), np.zeros(C)
    products = np.zeros((len(monomials), C + 1))
    for first in range(0, N, settings.block):
        X = stream.block(first, min(settings.block, N - first))
        g = read(X) - shift
        g_sum += g.sum(axis=0)
        g_squares += (g * g).sum(axis=0)
        products += _monomial_sums(X, np.column_stack((g, np.ones(len(g)))), indices)
    variance = (g_squares - g_sum**2 / N) / (N - 1)
    values = (products[:, :-1] - products[:, -1:] * g_sum / N) / (N - 1)
    # The smallest true variance is that of g = a multiple of χ_A, with c² = σ². An estimate may be smaller.
    estimate_variance = np.maximum(N * variance - (N - 2) * values**2, 2 * variance) / (N * (N - 1))
    return values, _Z * np.sqrt(estimate_variance)


def _indices(monomials: Sequence[Monomial]) -> Iterator[np.ndarray]:
    """The coordinates of the monomials in order, in arrays (≤ `_ROWS`, degree) of one degree."""
    start = 0
    while start < len(monomials):
        degree, stop = len(monomials[start].subset), start
        while stop < min(start + _ROWS, len(monomials)) and len(monomials[stop].subset) == degree:
            stop += 1
        yield np.array([m.subset for m in monomials[start:stop]])
        start = stop


def _monomial_sums(X: np.ndarray, G: np.ndarray, indices: Iterable[np.ndarray]) -> np.ndarray:
    """`Σ_x χ_A(x) G(x)`: X (B, n) int8, G (B, C) → (A, C)."""
    rows = np.ascontiguousarray(X.T)
    sums = []
    for index in indices:
        chi = rows[index[:, 0]]  # (A, B)
        for column in range(1, index.shape[1]):
            chi *= rows[index[:, column]]
        sums.append(chi.astype(np.float64) @ G)
    return np.concatenate(sums)
