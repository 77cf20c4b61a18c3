"""Which products of input coordinates a network's output depends on.

The measure is `c_A = E[g(x) χ_A(x)]` with `χ_A(x) = Π_{i∈A} x_i` and x ~ U({±1}^n).

g is a number read from the logits (`Readout`). Up to n = 20 the expectation is the mean over all 2^n inputs,
by a Walsh–Hadamard transform; beyond, it is estimated from fresh inputs by the sample covariance of g and
χ_A. Its mean is c_A, since E[χ_A] = 0, and g's own mean adds no noise to it. As χ_A² = 1, its variance needs
no fourth moment (Kendall & Stuart 1, section 13.1):

    Var = (N σ_g² − (N − 2) c_A²) / (N (N − 1))

Measure of arXiv 2410.05464, section 3.2: a teacher's correlations with single support variables rise inside
its phase transition.
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
from vigreux.probes.subsets import Monomial, Where, choose_monomials, places
from vigreux.tasks.synthetic.bits import BitStream
from vigreux.tasks.synthetic.parity import BooleanTask

Network = Callable[[Tensor], Tensor]  # (N, n) ±1 → logits (N, K)
Readout = Literal["difference", "probability", "tanh"]
Method = Literal["auto", "exact", "monte-carlo"]

EXACT_UP_TO = 20  # 2^20 inputs; g on all of them takes 8 MB a class
_DEGREE = 3  # beyond it only subsets of one feature are probed
_ROWS = 4096  # monomials of one matrix product
FAST_BLOCK = 4096  # inputs of one forward pass of a two-layer network
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class MonomialSettings:
    """What is read from the network, which subsets are probed, and on which inputs.

    Args:
        readout: g(x) of class c, with logits f: `difference`, f_c less the mean of the others (K = 2: f_1 −
            f_0); `probability`, softmax(f)_c; `tanh`, tanh((f_1 − f_0) / 2) = 2 p(y = 1) − 1, for two
            classes. A network with a single output gives the difference itself.
        classes: c, each with records of its own; `None` is class 1 of two, or every class of more.
        degree: largest size of A in and out of the support, 1 to 3. Degree 1 is always complete.
        feature_degree: largest size of A within one feature; `None` is the whole feature.
        inside: subsets of one size inside the support, at most; a random draw where there are more.
        outside: the same for subsets outside, and for those across its border.
        method: `auto` is exact up to n = 20.
        samples: fresh inputs of the Monte Carlo estimate.
        block: inputs of one forward pass.
        seed: of the inputs and of the draws of subsets.
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
        least = {"inside": 0, "outside": 0, "samples": 2, "block": 1, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"probe.{name}: {getattr(self, name)}; accepted: from {low}")


@dataclass(frozen=True)
class Correlation:
    """c_A of one class, with its 95 % interval (`low` = `value` = `high` where exact)."""

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
    """How many subsets of a size and place exist, and how many of them were probed."""

    degree: int
    where: Where
    probed: int
    existing: int


@dataclass(frozen=True)
class MonomialSummary:
    """|c_A| of one degree over all classes, for a line of JSON; `None` where nothing of that kind was probed.

    Attributes:
        degree: size of A.
        in_mean, in_max: inside the support.
        out_mean, out_max: outside. A Monte Carlo estimate of 0 has |c| ≈ 0.8 of its standard error.
        ratio: in_mean / out_mean.
        z: (in_mean − out_mean) / standard deviation of |c| outside.
        features: mean inside each feature.
        products: of each feature's whole product, whatever `degree`; the largest over classes.
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
        correlations: class by class, by rising degree.
        coverage: what share of the subsets they are.
        inputs: number of inputs, 2^n where `exact`.
        exact: over the whole hypercube.
        features: the task's.
    """

    correlations: tuple[Correlation, ...]
    coverage: tuple[Coverage, ...]
    inputs: int
    exact: bool
    features: tuple[tuple[int, ...], ...]

    def summary(self, degree: int = 1) -> MonomialSummary:
        """Of the subsets of one size."""
        found = [c for c in self.correlations if c.degree == degree]
        inside = [abs(c.value) for c in found if c.where == "in"]
        outside = [abs(c.value) for c in found if c.where == "out"]
        in_mean, out_mean = _mean(inside), _mean(outside)
        ratio = z = None
        if in_mean is not None and out_mean is not None:
            spread = pstdev(outside)
            ratio = in_mean / out_mean if out_mean else None
            z = (in_mean - out_mean) / spread if spread else None
        return MonomialSummary(
            degree=degree,
            in_mean=in_mean,
            in_max=max(inside, default=None),
            out_mean=out_mean,
            out_max=max(outside, default=None),
            ratio=ratio,
            z=z,
            features=tuple(
                _mean([abs(c.value) for c in found if c.feature == j]) for j in range(len(self.features))
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
    """The correlations of a network with the monomials that `settings` ask for.

    Args:
        network: (N, n) ±1 → logits (N, K), K the task's classes, or (N, 1) for two classes. Called without
            gradients; its inputs have the type of `network.dtype` where it has one, float32 otherwise.
        task: n, classes and the features whose union is the support.
        settings: `None` is the defaults.

    Raises:
        ConfigError: an exact probe beyond n = 20, a class outside the task, `tanh` with more than two
            classes, or a network for another n or K.
        CheckpointError: logits that are not finite.
    """
    settings = settings or MonomialSettings()
    exact = settings.method == "exact" or (settings.method == "auto" and task.n <= EXACT_UP_TO)
    if exact and task.n > EXACT_UP_TO:
        raise ConfigError(
            f"probe.method: exact with task.n = {task.n}; accepted: n up to {EXACT_UP_TO}, or monte-carlo"
        )
    classes = _classes(task, settings)
    among = places(
        task,
        degree=settings.degree,
        feature_degree=settings.feature_degree,
        inside=settings.inside,
        outside=settings.outside,
    )
    monomials = choose_monomials(task, among, settings.seed)
    read = _reader(network, task, settings.readout, classes)
    if exact:
        # a two-layer network's fast pass holds no hidden units, so a block may be long; a row's logits are
        # the same in any
        block = max(settings.block, FAST_BLOCK) if isinstance(network, TwoLayer) else settings.block
        values, halves = _exact(read, task.n, monomials, block)
    else:
        values, halves = _sampled(read, task.n, monomials, settings)
    correlations = tuple(
        Correlation(m.subset, m.where, len(m.subset), m.feature, c, value, value - half, value + half)
        for c, of_class, widths in zip(classes, values.T.tolist(), halves.T.tolist())
        for m, value, half in zip(monomials, of_class, widths)
    )
    probed = Counter((len(m.subset), m.where) for m in monomials)
    coverage = tuple(Coverage(p.degree, p.where, probed[p.degree, p.where], p.existing) for p in among)
    return MonomialProbe(
        correlations, coverage, 2**task.n if exact else settings.samples, exact, task.features
    )


# --- what is read from the network --------------------------------------------------------------------------


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
    """(B, n) int8 → g (B, C) float64."""
    takes = getattr(network, "n", task.n)
    if takes != task.n:
        raise ConfigError(f"probe: the network takes inputs of length {takes}; accepted: task.n = {task.n}")
    logits_of = _logits_of(network)

    def read(X: np.ndarray) -> np.ndarray:
        logits = logits_of(X)
        if logits.shape == (len(X), 1) and task.classes == 2:
            logits = torch.cat((-logits / 2, logits / 2), dim=1)
        if logits.shape != (len(X), task.classes):
            found = " × ".join(map(str, logits.shape))
            raise ConfigError(
                f"probe: the network gives {found} logits for {len(X)} inputs;"
                f" accepted: {task.classes} an input"
            )
        if not logits.isfinite().all():
            raise CheckpointError(
                "probe: the network's logits are not finite; accepted: a checkpoint from before it diverged"
            )
        return _read_out(logits, readout)[:, list(classes)].numpy()

    return read


def _logits_of(network: Network) -> Callable[[np.ndarray], Tensor]:
    """(B, n) int8 → (B, K) float64; a two-layer network by its fast forward pass."""
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
    """c_A (A, C) as means over the hypercube, `block` inputs at a time, and half widths of 0."""
    blocks = [read(hypercube(n, first, min(block, 2**n - first))) for first in range(0, 2**n, block)]
    coefficients = walsh_hadamard(np.concatenate(blocks).T) / 2**n  # (C, 2^n)
    values = coefficients[:, [sum(1 << i for i in m.subset) for m in monomials]].T
    return values, np.zeros_like(values)


def hypercube(n: int, first: int, count: int) -> np.ndarray:
    """(count, n) int8: inputs `first` … of the 2^n. Coordinate i of input t is −1 where bit i of t is set."""
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
    """Sample covariances of g and χ_A (A, C), and the half widths of their 95 % intervals."""
    stream, N, indices = BitStream(n, settings.seed, "probe"), settings.samples, list(_indices(monomials))
    shift = read(stream.block(0, 1))  # (1, C); sums of what is left of g lose no digits to a large mean
    C = shift.shape[1]
    g_sum, g_squares, products = np.zeros(C), np.zeros(C), np.zeros((len(monomials), C + 1))
    for first in range(0, N, settings.block):
        X = stream.block(first, min(settings.block, N - first))
        g = read(X) - shift
        g_sum += g.sum(axis=0)
        g_squares += (g * g).sum(axis=0)
        products += _monomial_sums(X, np.column_stack((g, np.ones(len(g)))), indices)
    variance = (g_squares - g_sum**2 / N) / (N - 1)
    values = (products[:, :-1] - products[:, -1:] * g_sum / N) / (N - 1)
    # where g is a multiple of χ_A, c² = σ², so that no true variance is smaller; an estimate can be
    of_estimate = np.maximum(N * variance - (N - 2) * values**2, 2 * variance) / (N * (N - 1))
    return values, _Z * np.sqrt(of_estimate)


def _indices(monomials: Sequence[Monomial]) -> Iterator[np.ndarray]:
    """(rows, degree) coordinates of the monomials in order, in arrays of one degree and ≤ `_ROWS` rows."""
    start = 0
    while start < len(monomials):
        degree, stop = len(monomials[start].subset), start
        while stop < min(start + _ROWS, len(monomials)) and len(monomials[stop].subset) == degree:
            stop += 1
        yield np.array([m.subset for m in monomials[start:stop]])
        start = stop


def _monomial_sums(X: np.ndarray, G: np.ndarray, indices: Iterable[np.ndarray]) -> np.ndarray:
    """`Σ_x χ_A(x) G(x)`: X (B, n) int8, G (B, C) → (A, C)."""
    rows, sums = np.ascontiguousarray(X.T), []
    for index in indices:
        chi = rows[index[:, 0]]  # (A, B)
        for place in range(1, index.shape[1]):
            chi *= rows[index[:, place]]
        sums.append(chi.astype(np.float64) @ G)
    return np.concatenate(sums)
