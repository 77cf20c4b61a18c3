import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vigreux.curriculum import Projection, ProjectionKind
from vigreux.distillation.projection import LearnedProjection, projection_matrix
from vigreux.errors import ConfigError

RANDOM: tuple[ProjectionKind, ...] = ("gaussian", "orthogonal", "sparse")


@pytest.mark.parametrize("kind", [*RANDOM, "learned"])
@pytest.mark.parametrize(("d_teacher", "d_student"), [(1, 1), (7, 3), (3, 7), (16, 16), (1, 5), (5, 1)])
def test_a_matrix_is_a_function_of_kind_widths_and_seed_alone(
    kind: ProjectionKind, d_teacher: int, d_student: int
) -> None:
    torch.manual_seed(1)
    one = projection_matrix(Projection(kind, 5), d_teacher, d_student)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    other = projection_matrix(Projection(kind, 5), d_teacher, d_student)
    assert one.shape == (d_teacher, d_student)
    assert one.dtype == torch.float32
    assert torch.equal(one, other)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())  # the global generator was not touched
    if d_teacher * d_student > 1:
        assert not torch.equal(one, projection_matrix(Projection(kind, 6), d_teacher, d_student))


GOLDEN: dict[str, list[float]] = {
    "gaussian": [0.0220892, 0.0156639, 0.6121795, 0.4558968, 0.3737862, 0.6199157, 0.2004097, 0.2459432],
    "orthogonal": [0.0245154, 0.0045529, 0.6414563, 0.3551247, 0.4148425, 0.4769790, 0.1686133, 0.3660385],
    "sparse": [0.0, 0.0, 0.4714045, 0.4714045, 0.4714045, -0.4714045, 0.0, 0.0],
}


@pytest.mark.parametrize("kind", RANDOM)
def test_golden_values(kind: ProjectionKind) -> None:
    found = projection_matrix(Projection(kind, 7), 9, 4)
    assert found[:2].flatten().tolist() == pytest.approx(GOLDEN[kind], abs=1e-6)


def test_another_process_makes_the_same_matrix() -> None:
    code = (
        "import torch; torch.manual_seed(99); from vigreux.curriculum import Projection; "
        "from vigreux.distillation.projection import projection_matrix; "
        "print([projection_matrix(Projection(k, 3), 20, 8).sum(1).tolist() for k in ('gaussian',"
        " 'orthogonal', 'sparse')])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert printed == str([projection_matrix(Projection(kind, 3), 20, 8).sum(1).tolist() for kind in RANDOM])


@pytest.mark.parametrize("kind", RANDOM)
@pytest.mark.parametrize(("d_teacher", "d_student"), [(12, 5), (5, 12), (8, 8)])
def test_the_mean_variance_per_coordinate_is_kept_in_expectation(
    kind: ProjectionKind, d_teacher: int, d_student: int
) -> None:
    variances = (
        torch.arange(1, d_teacher + 1, dtype=torch.float32) ** 2
    )  # of independent teacher coordinates, far from equal
    seeds = 400
    projected = torch.stack(
        [
            variances @ projection_matrix(Projection(kind, seed), d_teacher, d_student).square()
            for seed in range(seeds)
        ]
    ).mean(dim=1)  # (seeds,) mean over the student's coordinates
    deviation = projected.std().item() / math.sqrt(seeds)
    assert projected.mean().item() == pytest.approx(variances.mean().item(), abs=4 * deviation + 1e-4)


@pytest.mark.parametrize("kind", RANDOM)
def test_norms_and_inner_products_are_kept_up_to_the_ratio_of_the_widths(kind: ProjectionKind) -> None:
    d_teacher, d_student = 400, 200
    rows = torch.nn.functional.normalize(
        torch.randn(30, d_teacher, generator=torch.Generator().manual_seed(0)), dim=1
    )
    projected = rows @ projection_matrix(Projection(kind, 0), d_teacher, d_student)
    error = (d_teacher / d_student) * projected @ projected.T - rows @ rows.T
    # Johnson–Lindenstrauss: the error of one pair has a standard deviation of about sqrt(2 / d_S) = 0.1 at
    # most; 465 pairs.
    assert error.abs().max() < 0.45
    assert error.square().mean().sqrt() < 0.11


@given(d_teacher=st.integers(1, 12), d_student=st.integers(1, 12), seed=st.integers(0, 100))
def test_orthogonal_columns_or_scaled_rows_are_orthonormal(d_teacher: int, d_student: int, seed: int) -> None:
    P = projection_matrix(Projection("orthogonal", seed), d_teacher, d_student)
    if d_student <= d_teacher:
        torch.testing.assert_close(P.T @ P, torch.eye(d_student), rtol=0, atol=1e-6)
    else:
        torch.testing.assert_close(P @ P.T, d_student / d_teacher * torch.eye(d_teacher), rtol=0, atol=1e-5)


def test_orthogonal_matrices_favour_no_direction() -> None:
    # Without the sign of R's diagonal LAPACK's Q has a biased diagonal.
    diagonals = torch.stack(
        [projection_matrix(Projection("orthogonal", seed), 4, 4).diagonal() for seed in range(300)]
    )
    assert diagonals.mean(0).abs().max() < 4 * 0.5 / math.sqrt(300)


@pytest.mark.parametrize(
    ("d_teacher", "d_student", "per_row"), [(100, 30, 3), (100, 31, 4), (10_000, 20, 1), (4, 100, 50)]
)
def test_sparse_rows_have_a_fixed_number_of_equal_entries_of_either_sign(
    d_teacher: int, d_student: int, per_row: int
) -> None:
    P = projection_matrix(Projection("sparse", 0), d_teacher, d_student)
    assert ((P != 0).sum(1) == per_row).all()
    torch.testing.assert_close(P.square().sum(1), torch.full((d_teacher,), d_student / d_teacher))
    assert len(P[P != 0].abs().unique()) == 1
    assert P.sign().sum().abs() < 4 * math.sqrt(d_teacher * per_row)
    if d_teacher >= 100:  # the chance of an empty column is about exp(−sqrt(d_T))
        assert ((P != 0).sum(0) > 0).all()


def test_identity_needs_equal_widths() -> None:
    assert torch.equal(projection_matrix(Projection("identity"), 3, 3), torch.eye(3))
    with pytest.raises(
        ConfigError, match="'identity' needs equal widths, the teacher has 4 and the student 3"
    ):
        projection_matrix(Projection("identity"), 4, 3)


# --- PCA ----------------------------------------------------------------------------------------------------


def hidden_rows(rows: int = 60, width: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = 2.0 ** -torch.arange(width)
    return 50 + torch.randn(rows, width, generator=generator) * spread @ torch.randn(
        width, width, generator=generator
    )


@pytest.mark.parametrize("sizes", [[60], [1, 20, 39], [30, 30]])
def test_pca_is_the_svd_of_the_centred_rows(sizes: list[int]) -> None:
    rows = hidden_rows()
    P = projection_matrix(Projection("pca"), 6, 4, hidden=rows.split(sizes))
    exact = rows.double().numpy()
    _, _, directions = np.linalg.svd(exact - exact.mean(0), full_matrices=False)
    for j, direction in enumerate(directions[:4]):
        sign = np.sign(direction[np.abs(direction).argmax()])
        np.testing.assert_allclose(P[:, j].double().numpy(), sign * direction, atol=1e-6)
    assert P.dtype == torch.float32


@pytest.mark.parametrize("data", range(5))
def test_pca_has_positive_largest_entries_and_falling_variances_whatever_the_seed(data: int) -> None:
    rows = hidden_rows(seed=data)
    P = projection_matrix(Projection("pca", 0), 6, 6, hidden=[rows])
    assert (P.gather(0, P.abs().argmax(0, keepdim=True)) > 0).all()
    assert (rows.double() @ P.double()).var(0).diff().max() <= 0
    assert torch.equal(P, projection_matrix(Projection("pca", 9), 6, 6, hidden=[rows]))


def test_pca_to_a_wider_student_leaves_the_further_coordinates_zero() -> None:
    P = projection_matrix(Projection("pca"), 6, 9, hidden=[hidden_rows()])
    assert torch.equal(P[:, :6], projection_matrix(Projection("pca"), 6, 6, hidden=[hidden_rows()]))
    assert (P[:, 6:] == 0).all()


def test_pca_needs_as_many_rows_as_directions() -> None:
    with pytest.raises(ConfigError, match="needs hidden states of the teacher"):
        projection_matrix(Projection("pca"), 6, 3)
    with pytest.raises(ConfigError, match="2 hidden rows has no 3 directions; accepted: at least 3 rows"):
        projection_matrix(Projection("pca"), 6, 3, hidden=[hidden_rows(2)])
    assert projection_matrix(Projection("pca"), 6, 3, hidden=[hidden_rows(3)]).shape == (6, 3)
    assert projection_matrix(Projection("pca"), 6, 9, hidden=[hidden_rows(6)]).shape == (6, 9)


# --- learned ------------------------------------------------------------------------------------------------


def test_a_learned_projection_starts_as_the_way_back_from_the_gaussian_one() -> None:
    P = projection_matrix(Projection("gaussian", 4), 8, 3)
    assert torch.equal(projection_matrix(Projection("learned", 4), 8, 3), P)
    learned = LearnedProjection(8, 3, seed=4)
    student = torch.randn(5, 3)
    torch.testing.assert_close(learned(student), student @ P.T)


def test_a_learned_projection_is_trained() -> None:
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    learned = LearnedProjection(8, 3)
    student = rows @ projection_matrix(Projection("orthogonal", 1), 8, 3)
    best = (rows - student @ torch.linalg.lstsq(student, rows).solution).square().mean().item()
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(300):
        loss = (learned(student) - rows).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(best, rel=1e-2)
    assert best > 0.3  # nothing has collapsed: five of eight dimensions cannot be reached
