"""Projections from the teacher's width to the student's: random matrices, PCA, and learned ones.

Random matrices depend only on kind, widths and seed.

Every kind except PCA keeps the mean variance per coordinate, exactly or in expectation over the matrix:
`mean_j Var((h P)_j) = mean_i Var(h_i)`. So `E ‖h P‖² = (d_S / d_T) ‖h‖²`, and inner products keep their
ratios (Johnson and Lindenstrauss 1984). PCA selects the directions of large variance instead. Source of the
method: curriculum extraction, arXiv 2503.17494.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vigreux.curriculum import Projection
from vigreux.errors import ConfigError

_DRAWN = 1024  # rows of random numbers in memory at a time


def projection_matrix(
    spec: Projection, d_teacher: int, d_student: int, *, hidden: Iterable[Tensor] | None = None
) -> Tensor:
    """The matrix `P` (d_T, d_S) of `h_S ≈ h_T P`, float32 on the CPU.

    It is the same in every process and does not depend on the global random generator.

    Args:
        spec: kind and seed.

            * `gaussian`: independent N(0, 1 / d_T) entries.
            * `orthogonal`: uniform (Haar) orthonormal columns; where `d_S > d_T`, orthonormal rows times
              `sqrt(d_S / d_T)`.
            * `sparse`: each teacher coordinate goes to `ceil(d_S / sqrt(d_T))` coordinates drawn without
              replacement, with random signs (density 1 / sqrt(d_T): Li, Hastie and Church 2006; a fixed
              number per row: Kane and Nelson, arXiv 1012.1577). A student coordinate reads about `sqrt(d_T)`
              teacher coordinates. With a probability of about `exp(−sqrt(d_T))` it reads none.
            * `pca`: the orthonormal directions of largest variance of `hidden` about its mean, in falling
              order, each with its largest entry positive; where `d_S > d_T` the further columns are 0.
            * `identity`: equal widths only.
            * `learned`: the start of a `LearnedProjection`, which is the Gaussian matrix.
        d_teacher, d_student: the widths d_T and d_S.
        hidden: batches of the teacher's states (N, d_T); needed by `pca`, ignored by all others.

    Raises:
        ConfigError: `identity` with different widths; `pca` without hidden states or with fewer rows than
            directions.
    """
    if spec.kind == "identity":
        return _identity(d_teacher, d_student)
    if spec.kind == "pca":
        return _pca(d_teacher, d_student, hidden)
    # Drawn in float64: float32 normals use vector instructions, and their last bit differs between machines.
    generator = torch.Generator().manual_seed(spec.seed)
    random = {"gaussian": _gaussian, "learned": _gaussian, "orthogonal": _orthogonal, "sparse": _sparse}
    return random[spec.kind](d_teacher, d_student, generator).to(torch.float32)


def _gaussian(d_teacher: int, d_student: int, generator: torch.Generator) -> Tensor:
    return torch.randn(d_teacher, d_student, generator=generator, dtype=torch.float64) / math.sqrt(d_teacher)


def _orthogonal(d_teacher: int, d_student: int, generator: torch.Generator) -> Tensor:
    tall = max(d_teacher, d_student)
    thin = min(d_teacher, d_student)
    Q, R = torch.linalg.qr(torch.randn(tall, thin, generator=generator, dtype=torch.float64))
    # The unique factor with a positive diagonal of R is uniform, and the same for every LAPACK.
    Q *= R.diagonal().sign()
    return Q if d_student <= d_teacher else Q.T * math.sqrt(d_student / d_teacher)


def _sparse(d_teacher: int, d_student: int, generator: torch.Generator) -> Tensor:
    columns, values = _sparse_entries(d_teacher, d_student, generator)
    return torch.zeros(d_teacher, d_student, dtype=torch.float64).scatter_(1, columns, values)


def sparse_projection(spec: Projection, d_teacher: int, d_student: int) -> Tensor:
    """`Pᵀ` (d_S, d_T) of the kind `sparse` in compressed rows, never built as a dense matrix; float32.

    A row of `P` has `ceil(d_S / sqrt(d_T))` entries, so `P h` costs less than the layer that computes `h`.
    """
    assert spec.kind == "sparse"
    columns, values = _sparse_entries(d_teacher, d_student, torch.Generator().manual_seed(spec.seed))
    order = columns.flatten().argsort(stable=True)  # by student unit, then by teacher unit
    ends = torch.bincount(columns.flatten(), minlength=d_student).cumsum(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.cat([torch.zeros(1, dtype=torch.int64), ends]),
            order // columns.shape[1],
            values.flatten()[order].to(torch.float32),
            (d_student, d_teacher),
            check_invariants=False,
        )


def projection_entries(spec: Projection, d_teacher: int, d_student: int) -> int:
    """Multiply-adds of `h P` for one `h`."""
    per_row = {"identity": 0, "sparse": _per_row(d_teacher, d_student)}
    return d_teacher * per_row.get(spec.kind, d_student)


def _per_row(d_teacher: int, d_student: int) -> int:
    return math.ceil(d_student / math.sqrt(d_teacher))


def _sparse_entries(d_teacher: int, d_student: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(d_T, n) the n student coordinates of each teacher coordinate, and their entries of `P`, float64."""
    per_row = _per_row(d_teacher, d_student)
    rows = (
        torch.rand(min(_DRAWN, d_teacher - i), d_student, generator=generator, dtype=torch.float64)
        for i in range(0, d_teacher, _DRAWN)
    )
    columns = torch.cat([block.topk(per_row, dim=1).indices for block in rows])
    signs = 2.0 * torch.randint(2, (d_teacher, per_row), generator=generator) - 1
    scale = math.sqrt(d_student / (d_teacher * per_row))
    return columns, scale * signs.to(torch.float64)


def _identity(d_teacher: int, d_student: int) -> Tensor:
    if d_teacher != d_student:
        raise ConfigError(
            f"projection.kind: 'identity' needs equal widths, the teacher has {d_teacher} and the student"
            f" {d_student}; "
            "accepted: gaussian, orthogonal, sparse, pca, learned, or a student of the teacher's width"
        )
    return torch.eye(d_teacher)


def _pca(d_teacher: int, d_student: int, hidden: Iterable[Tensor] | None) -> Tensor:
    if hidden is None:
        raise ConfigError(
            "projection.kind: 'pca' needs hidden states of the teacher, none were given;"
            " accepted without: gaussian, orthogonal"
        )
    directions = min(d_teacher, d_student)
    rows, scatter = _scatter(hidden, d_teacher)
    if rows < directions:
        raise ConfigError(
            f"projection.kind: 'pca' of {rows} hidden rows has no {directions} directions;"
            f" accepted: at least {directions} rows"
        )
    _, vectors = torch.linalg.eigh(scatter)  # (d_T, d_T), rising eigenvalues
    vectors = vectors.flip(1)[:, :directions]
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))  # (1, d)
    P = torch.zeros(d_teacher, d_student, dtype=torch.float64)
    P[:, :directions] = vectors * largest.sign()
    return P.to(torch.float32)


def _scatter(batches: Iterable[Tensor], width: int) -> tuple[int, Tensor]:
    """The number of rows, and Σ (h − mean)ᵀ (h − mean) (d, d) in float64.


    Batches are merged one by one (Chan, Golub and LeVeque 1979).
    """
    count = 0
    mean = torch.zeros(width, dtype=torch.float64)
    scatter = torch.zeros(width, width, dtype=torch.float64)
    for batch in batches:
        rows = batch.detach().to("cpu", torch.float64)  # (N, d)
        delta = rows.mean(dim=0) - mean
        total = count + len(rows)
        centred = rows - rows.mean(dim=0)
        scatter += centred.T @ centred + torch.outer(delta, delta) * (count * len(rows) / total)
        mean += delta * (len(rows) / total)
        count = total
    return count, scatter


class LearnedProjection(nn.Module):
    """A linear map from the *student's* width up to the teacher's, `h_S W ≈ h_T`.

    It is trained with its stage and discarded after it.

    The direction matters. A learned map of the teacher's states could shrink them, and with them the
    student's, to zero at loss 0. A map of the student's states has the teacher's states as a fixed target
    (FitNets, arXiv 1412.6550, section 2.2).

    `W` (d_S, d_T) starts as the transpose of the Gaussian matrix of the same seed: for a student that starts
    at `h_T P` (projected embeddings) this is close to the least-squares way back.
    """

    def __init__(self, d_teacher: int, d_student: int, *, seed: int = 0) -> None:
        super().__init__()
        start = projection_matrix(Projection("learned", seed), d_teacher, d_student)
        self.weight = nn.Parameter(start.T.contiguous())  # (d_S, d_T)

    def forward(self, student: Tensor) -> Tensor:
        """(…, d_S) student states → (…, d_T), to be compared with the teacher's."""
        return student @ self.weight
