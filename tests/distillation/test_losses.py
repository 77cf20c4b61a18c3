import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import losses as slow
from vigreux.curriculum import Divergence, Logits
from vigreux.distillation import losses as fast

TEMPERATURES = (1e-20, 1e-4, 0.5, 1.0, 2.0, 10.0)
DIVERGENCES: tuple[Divergence, ...] = ("soft-cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon")


@st.composite
def cases(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Logits]:
    """(student (N, C_S), teacher (N, C_T), labels (N,), target): widths that differ, ties, logits up to ±1e4,
    in `dtype`.
    """
    rows, student_classes, teacher_classes = (
        draw(st.integers(1, 4)),
        draw(st.integers(2, 9)),
        draw(st.integers(2, 9)),
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from((1.0, 10.0, 1e4)))
    student = scale * torch.randn(rows, student_classes, generator=generator, dtype=torch.float64).clamp(
        -1, 1
    )
    teacher = scale * torch.randn(rows, teacher_classes, generator=generator, dtype=torch.float64).clamp(
        -1, 1
    )
    if draw(st.booleans()):
        teacher = teacher.sign()  # ties everywhere
    labels = torch.randint(min(student_classes, teacher_classes), (rows,), generator=generator)
    if draw(st.booleans()):
        labels[0] = -100
    target = Logits(
        temperature=draw(st.sampled_from(TEMPERATURES)),
        alpha=draw(st.sampled_from((0.0, 0.3))),
        top_k=draw(st.sampled_from((None, 1, 2, 4, 50))),
        divergence=draw(st.sampled_from(DIVERGENCES)),
        student_temperature=draw(st.sampled_from((0.5, 1.0, 4.0))),
    )
    return student.to(dtype), teacher.to(dtype), labels, target


def slow_logits_loss(student: Tensor, teacher: Tensor, labels: Tensor, target: Logits) -> Tensor:
    """The definition, row by row; student classes that the teacher lacks have no teacher probability."""
    rows = []
    extra = [-math.inf] * (student.shape[1] - teacher.shape[1])
    for s, t, label in zip(
        student.double().tolist(), teacher.double()[:, : student.shape[1]].tolist(), labels.tolist()
    ):
        p = slow.probabilities(t + extra, target.temperature, target.top_k)
        floor = (fast.PROBABILITY_FLOOR,) if target.divergence == "reverse-kl" else ()
        divergence = getattr(slow, target.divergence.replace("-", "_"))(
            s, p, target.student_temperature, *floor
        )
        rows.append(
            target.alpha * slow.cross_entropy(s, label)
            + (1 - target.alpha) * divergence * target.student_temperature**2
        )
    return torch.tensor(rows, dtype=torch.float64)


def agree(found: Tensor, expected: Tensor, student: Tensor, target: Logits, precision: float) -> None:
    # The logarithms of the student's probabilities are as large as its logits' spread, and are summed to a
    # loss that may be small.
    spread = 100 + student.double().abs().max().item() / target.student_temperature
    torch.testing.assert_close(
        found.double(), expected, rtol=precision, atol=precision * spread * target.student_temperature**2
    )


@given(case=cases())
def test_logits_loss_is_its_definition_in_float64(case: tuple[Tensor, Tensor, Tensor, Logits]) -> None:
    student, teacher, labels, target = case
    found = fast.logits_loss(student, target, teacher, labels)
    assert found.dtype == torch.float64
    agree(found, slow_logits_loss(student, teacher, labels, target), student, target, 1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@given(data=st.data())
def test_lower_precisions_are_computed_in_float32(dtype: torch.dtype, data: st.DataObject) -> None:
    student, teacher, labels, target = data.draw(cases(dtype))
    found = fast.logits_loss(student, target, teacher, labels)
    assert found.dtype == torch.float32
    agree(found, slow_logits_loss(student, teacher, labels, target), student, target, 1e-6)


@given(case=cases())
def test_gradients_are_finite_and_sum_to_zero_over_the_classes(
    case: tuple[Tensor, Tensor, Tensor, Logits],
) -> None:
    student, teacher, labels, target = case
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(fast.logits_loss(student, target, teacher, labels).sum(), student)
    assert gradient.isfinite().all()
    # A constant added to all logits changes no softmax.
    torch.testing.assert_close(
        gradient.sum(-1), torch.zeros(len(student), dtype=torch.float64), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize(
    ("divergence", "temperature", "top_k"),
    list(itertools.product(DIVERGENCES, (1e-20, 0.5, 1.0, 2.0), (None, 2))),
)
@given(seed=st.integers(0, 2**32), student_temperature=st.sampled_from((0.5, 1.0, 2.0)))
def test_gradients_are_those_of_finite_differences(
    divergence: Divergence, temperature: float, top_k: int | None, seed: int, student_temperature: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = 2 * torch.randn(3, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 3, -100])
    target = Logits(temperature, 0.3, top_k, divergence, student_temperature)
    assert torch.autograd.gradcheck(
        lambda s: fast.logits_loss(s, target, teacher, labels), (student,), atol=1e-6
    )


def test_half_precision_students_get_gradients_of_their_own_type() -> None:
    student = torch.randn(3, 5, dtype=torch.bfloat16, requires_grad=True)
    teacher = torch.randn(3, 5)
    fast.divergence(student, teacher, Logits()).sum().backward()
    expected = torch.softmax(student.detach().float(), -1) - torch.softmax(teacher, -1)
    assert student.grad is not None
    assert student.grad.dtype == torch.bfloat16
    torch.testing.assert_close(student.grad, expected.bfloat16())


def test_autocast_does_not_lower_the_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(4, 300, generator=generator) for _ in range(2))
    for divergence in DIVERGENCES:
        target = Logits(divergence=divergence, alpha=0.5)
        labels = torch.arange(4)
        with torch.autocast("cpu", torch.bfloat16):
            found = fast.logits_loss(student, target, teacher, labels)
        assert torch.equal(found, fast.logits_loss(student, target, teacher, labels))


def test_rows_are_the_same_however_they_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(2))

    def loss_and_gradient() -> list[Tensor]:
        leaf = student.clone().requires_grad_()
        loss = fast.divergence(leaf, teacher, Logits(0.5, top_k=3, student_temperature=2.0))
        return [loss.detach(), *torch.autograd.grad((loss * torch.arange(7.0)).sum(), leaf)]

    whole = loss_and_gradient()
    for elements in (1, 10, 14):  # 1 row, 2 rows with one left over, 2 rows
        monkeypatch.setattr(fast, "_CHUNK_ON_CPU", elements)
        assert all(torch.equal(a, b) for a, b in zip(whole, loss_and_gradient()))


def test_only_one_array_is_kept_for_the_backward_pass() -> None:
    student, teacher = torch.randn(6, 11, requires_grad=True), torch.randn(6, 11)
    kept: list[torch.Size] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        fast.divergence(student, teacher, Logits())
    assert kept == [(6, 11)]


def test_no_gradient_flows_into_the_teacher() -> None:
    student, teacher = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    fast.divergence(student, teacher, Logits(divergence="jensen-shannon")).sum().backward()
    assert teacher.grad is None
    assert not fast.teacher_probabilities(teacher, 1.0).requires_grad


# --- the teacher's distribution -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "temperature", "top_k", "expected"),
    [
        ([1.0, 3.0, 2.0], 1e-20, None, [0, 1, 0]),
        ([3.0, 3.0, 2.0], 1e-20, None, [0.5, 0.5, 0]),  # equal shares among exact ties
        ([3.0, 3.0, 3.0], 1e-20, 2, [0.5, 0.5, 0]),  # the lowest classes stay
        ([1.0, 1.0, 5.0], 1.0, 1, [0, 0, 1]),
        ([2.0, 2.0, 2.0, 2.0], 1.0, 3, [1 / 3, 1 / 3, 1 / 3, 0]),
        ([0.0, math.log(3), -math.inf], 1.0, None, [0.25, 0.75, 0]),
        ([0.0, math.log(3), -math.inf], 1.0, 7, [0.25, 0.75, 0]),  # more than there are
        ([1e4, -1e4], 1e-20, None, [1, 0]),
        ([10.0, 20.0], 1e-300, None, [0, 1]),  # below what float32 can divide by
        ([1e4, -1e4], 1e3, None, [1 / (1 + math.exp(-20)), 1 / (1 + math.exp(20))]),
    ],
)
def test_teacher_probabilities(
    logits: list[float], temperature: float, top_k: int | None, expected: list[float]
) -> None:
    found = fast.teacher_probabilities(torch.tensor([logits]), temperature, top_k)
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float32))


def test_ties_of_bfloat16_logits_share() -> None:
    logits = torch.tensor([[100.0, 100.2, 99.0]], dtype=torch.bfloat16)  # both 100 in bfloat16
    assert fast.teacher_probabilities(logits, 1e-20).tolist() == [[0.5, 0.5, 0.0]]


@given(seed=st.integers(0, 2**32), k=st.integers(1, 12))
def test_top_k_keeps_k_classes_among_any_ties(seed: int, k: int) -> None:
    logits = torch.randint(-2, 3, (3, 9), generator=torch.Generator().manual_seed(seed)).double()
    found = fast.teacher_probabilities(logits, 1.0, k)
    assert (found > 0).sum(-1).tolist() == [min(k, 9)] * 3
    for row, p in zip(logits.tolist(), found):
        torch.testing.assert_close(p, torch.tensor(slow.probabilities(row, 1.0, k), dtype=torch.float64))


# --- ranges, edges ------------------------------------------------------------------------------------------


@given(case=cases())
def test_jensen_shannon_lies_between_0_and_log_2(case: tuple[Tensor, Tensor, Tensor, Logits]) -> None:
    student, teacher, _, target = case
    found = fast.logits_loss(
        student, replace(target, divergence="jensen-shannon", alpha=0.0, student_temperature=1.0), teacher
    )
    assert (found >= -1e-12).all()
    assert (found <= math.log(2) + 1e-12).all()


def test_equal_distributions_are_at_distance_0_and_opposite_ones_at_the_bounds() -> None:
    logits = torch.randn(4, 6, dtype=torch.float64)
    for divergence in ("forward-kl", "reverse-kl", "jensen-shannon"):
        found = fast.divergence(logits, logits, Logits(divergence=divergence))
        torch.testing.assert_close(found, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-14)
    student, teacher = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1.0]])
    bounds = {"jensen-shannon": math.log(2), "reverse-kl": -math.log(fast.PROBABILITY_FLOOR)}
    for divergence, bound in bounds.items():
        found = fast.divergence(student, teacher, Logits(1e-20, divergence=divergence))
        assert found.item() == pytest.approx(bound)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_classes_masked_by_both_add_nothing(divergence: Divergence) -> None:
    student = torch.tensor([[0.5, -1.0, -math.inf]], requires_grad=True)
    teacher = torch.tensor([[2.0, 1.0, -math.inf]])
    target = Logits(divergence=divergence)
    loss = fast.divergence(student, teacher, target)
    torch.testing.assert_close(loss, fast.divergence(student[:, :2], teacher[:, :2], target))
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert gradient.isfinite().all()
    assert gradient[0, 2] == 0


def test_common_classes_leave_out_the_padding_of_both() -> None:
    student, teacher = (
        torch.randn(2, 6, dtype=torch.float64, requires_grad=True),
        torch.randn(2, 8, dtype=torch.float64),
    )
    found = fast.logits_loss(student, Logits(), teacher, common_classes=4)
    p = torch.softmax(teacher[:, :4], -1)
    torch.testing.assert_close(found, -(p * torch.log_softmax(student, -1)[:, :4]).sum(-1))
    (gradient,) = torch.autograd.grad(found.sum(), student)
    assert (gradient[:, 4:] > 0).all()  # descent lowers the student's own padding


def test_ignored_labels_add_no_cross_entropy() -> None:
    student = torch.randn(2, 3)
    found = fast.cross_entropy(student, torch.tensor([-100, 1]))
    assert found.tolist() == pytest.approx([0.0, slow.cross_entropy(student[1].tolist(), 1)], rel=1e-5)


def test_no_rows_give_no_losses() -> None:
    student = torch.randn(0, 5, requires_grad=True)
    loss = fast.logits_loss(
        student, Logits(alpha=0.5, top_k=2), torch.randn(0, 5), torch.empty(0, dtype=torch.long)
    )
    assert loss.shape == (0,)
    loss.sum().backward()
    assert student.grad is not None
    assert student.grad.shape == (0, 5)
