"""The losses on logits and labels, each returned per row (N,).

The caller sums over the rows that count and divides by their global number.

Rows are the flattened positions that carry a loss; no row is padding. Half-precision inputs are computed in
float32; float64 stays float64. All logarithms are natural. No gradient flows into the teacher.

Differences from textbooks: the papers' "KL" is the soft cross-entropy, which is the forward KL plus the
teacher's entropy and has the same gradient. Only `logits_loss` applies the factor `student_temperature²`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vigreux.curriculum import Divergence, Logits

IGNORED_LABEL = -100

# A lower bound on teacher probabilities before their logarithm is taken: the smallest normal float32, with
# the logarithm −87.3. It keeps the reverse KL against an (almost) one-hot teacher finite: at most 87.3.
PROBABILITY_FLOOR = torch.finfo(torch.float32).tiny

# Elements of (N, C) taken at once. On a CPU the temporaries of such a chunk stay in the cache. At C = 50,257,
# N = 512, float32, one thread, the soft cross-entropy forward and backward takes 0.58 of the time of
# `-(softmax(f_T) * log_softmax(f_S)).sum(-1)` and 0.33 of `kl_div`'s; beside the logits 2 arrays of (N, C)
# are held at the peak, against 3 and 5. Accelerators want few launches.
_CHUNK_ON_CPU = 2**18
_CHUNK_ELSEWHERE = 2**26


# --- labels -------------------------------------------------------------------------------------------------


def cross_entropy(student: Tensor, labels: Tensor) -> Tensor:
    """`−log softmax(student)[label]`, (N, C), (N,) → (N,); 0 where the label is −100."""
    return F.cross_entropy(at_least_float32(student), labels, reduction="none", ignore_index=IGNORED_LABEL)


# --- the teacher's distribution -----------------------------------------------------------------------------


def teacher_probabilities(logits: Tensor, temperature: float, top_k: int | None = None) -> Tensor:
    """`softmax(logits / temperature)` over the last dimension, (N, C) → (N, C), for any positive temperature.

    As the temperature falls to 0, the mass goes to the largest logit, or in equal shares to several equal
    ones (common in bfloat16). `top_k` keeps the k largest logits and renormalises. Of equal logits at rank k,
    those of the lowest classes stay. A logit of −inf is a class without probability, for instance one that a
    top-k cache did not store.
    """
    logits = at_least_float32(logits.detach())
    if top_k is not None and top_k < logits.shape[-1]:
        logits = _keep_largest(logits, top_k)
    return torch.softmax(_divided(logits, temperature), dim=-1)


def _divided(logits: Tensor, temperature: float) -> Tensor:
    """The logits divided by the temperature, minus their row's maximum, so that none overflows to +inf."""
    if temperature == 1:
        return logits
    shifted = logits - logits.amax(dim=-1, keepdim=True)  # (N, C), at most 0
    # torch divides by multiplying with the reciprocal. Below `tiny` it is infinite, and 0 · inf is nan.
    return shifted.div_(max(temperature, torch.finfo(shifted.dtype).tiny))


def _keep_largest(logits: Tensor, k: int) -> Tensor:
    """The logits with all but the k largest of each row set to −inf.

    `topk` guarantees no order among equal logits, so these are counted.
    """
    kth = torch.topk(logits, k, dim=-1).values[:, -1:]  # (N, 1)
    above = logits > kth  # (N, C)
    equal = logits == kth  # (N, C)
    missing = k - above.sum(dim=-1, keepdim=True)  # (N, 1)
    keep = above | (equal & (equal.cumsum(dim=-1) <= missing))
    return logits.masked_fill(~keep, -math.inf)


def fit_classes(teacher: Tensor, classes: int, common_classes: int | None = None) -> Tensor:
    """The teacher's logits (N, C_T) over the student's classes, (N, classes).

    Vocabularies are padded to different sizes. Only the first `common_classes` (default: the smaller of both
    sizes) mean the same in both. The teacher is renormalised over these. The student's other classes stay in
    its softmax, with teacher probability 0. Without this they would stay untrained, and an untrained logit
    can be the largest when the student is used.
    """
    common = min(classes, teacher.shape[-1]) if common_classes is None else common_classes
    assert common <= min(classes, teacher.shape[-1]), (
        f"{common} common classes of {classes} and {teacher.shape[-1]}"
    )
    teacher = teacher[:, :common]
    return F.pad(teacher, (0, classes - common), value=-math.inf) if common < classes else teacher


# --- divergences of the student's distribution q from the teacher's p ---------------------------------------

# A formula takes log q and p, both (N, C), and may overwrite log q. It returns the loss (N,) and its gradient
# (N, C) in the logits of q. Explicit gradients need half of the temporaries that autograd would keep, and
# they contain no 0 · inf. A class with p = 0 adds nothing.
_Formula = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _soft_cross_entropy(log_q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """`−Σ_c p_c log q_c`, at least the teacher's entropy.

    Source: Hinton et al. 2015; with the student's temperature at 1, the "KL" of arXiv 2410.05464, section 2.
    """
    loss = -(p * log_q).sum(dim=-1)
    return loss, log_q.exp_().sub_(p)


def _forward_kl(log_q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """`KL(p ‖ q) = Σ_c p_c (log p_c − log q_c)`: the soft cross-entropy less the teacher's entropy."""
    loss, gradient = _soft_cross_entropy(log_q, p)
    return loss - torch.special.entr(p).sum(dim=-1), gradient


def _reverse_kl(log_q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """`KL(q ‖ p) = Σ_c q_c (log q_c − log p_c)`, with `p_c` at least `PROBABILITY_FLOOR` in its logarithm.

    The floor matters if the teacher almost excludes a class (low temperatures, `top_k`). The true value tends
    to infinity then. With the floor it is at most 87.3, and the pull on the student away from such classes
    has a fixed strength.
    """
    q = log_q.exp()
    ratio = log_q - p.clamp_min(PROBABILITY_FLOOR).log()
    loss = (q * ratio).sum(dim=-1)
    return loss, q * (ratio - loss[:, None])


def _jensen_shannon(log_q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """`½ KL(p ‖ m) + ½ KL(q ‖ m)`, `m = ½ (p + q)`: symmetric in p and q, from 0 to log 2."""
    q = log_q.exp()
    log_p = p.clamp_min(PROBABILITY_FLOOR).log()
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    ratio = log_q - log_m
    from_student = (q * ratio).sum(dim=-1)
    loss = 0.5 * (p * (log_p - log_m)).sum(dim=-1) + 0.5 * from_student
    return loss, 0.5 * q * (ratio - from_student[:, None])


# the divergences of logits, by their name in a curriculum
FORMULAS: dict[Divergence, _Formula] = {
    "soft-cross-entropy": _soft_cross_entropy,
    "forward-kl": _forward_kl,
    "reverse-kl": _reverse_kl,
    "jensen-shannon": _jensen_shannon,
}


def _of_chunk(
    student: Tensor,
    teacher: Tensor,
    formula: _Formula,
    temperature: float,
    student_temperature: float,
    top_k: int | None,
) -> tuple[Tensor, Tensor]:
    """Loss (N,) and gradient (N, C) in `student / student_temperature`, for one chunk of rows."""
    log_q = _log_softmax(_divided(at_least_float32(student), student_temperature))
    return formula(log_q, teacher_probabilities(teacher, temperature, top_k).to(log_q.dtype))


def _log_softmax(logits: Tensor) -> Tensor:
    """`log_softmax`, but finite: a class that the student masks has log q = −inf, and 0 · inf is nan."""
    return torch.log_softmax(logits, dim=-1).clamp_(min=torch.finfo(logits.dtype).min / 4)


def _chunks(logits: Tensor) -> Iterator[slice]:
    step = max(1, (_CHUNK_ON_CPU if logits.device.type == "cpu" else _CHUNK_ELSEWHERE) // logits.shape[-1])
    return (slice(start, start + step) for start in range(0, len(logits), step))


class _Divergence(torch.autograd.Function):
    """A formula over chunks of rows. The forward pass computes the gradient and saves nothing else."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        formula: _Formula,
        temperature: float,
        student_temperature: float,
        top_k: int | None,
    ) -> Tensor:
        rows, classes = student.shape
        dtype = torch.promote_types(student.dtype, torch.float32)
        loss = student.new_empty(rows, dtype=dtype)
        gradient = student.new_empty(student.shape if ctx.needs_input_grad[0] else (0, classes), dtype=dtype)
        for chunk in _chunks(student):
            loss[chunk], of_chunk = _of_chunk(
                student[chunk], teacher[chunk], formula, temperature, student_temperature, top_k
            )
            if ctx.needs_input_grad[0]:
                gradient[chunk] = of_chunk
        ctx.save_for_backward(gradient)
        ctx.student_temperature = student_temperature
        ctx.student_dtype = student.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors  # (N, C)
        of_student = gradient * (of_loss / ctx.student_temperature)[:, None]
        return of_student.to(ctx.student_dtype), None, None, None, None, None


def divergence(student: Tensor, teacher: Tensor, target: Logits) -> Tensor:
    """The divergence that `target` names, from logits (N, C), (N, C) → (N,).

    `p = softmax(teacher / temperature)`, after `top_k` (see `teacher_probabilities`), and
    `q = softmax(student / student_temperature)`.
    """
    loss: Tensor = _Divergence.apply(
        student,
        teacher,
        FORMULAS[target.divergence],
        target.temperature,
        target.student_temperature,
        target.top_k,
    )
    return loss


def logits_loss(
    student: Tensor,
    target: Logits,
    teacher: Tensor | None,
    labels: Tensor | None = None,
    *,
    common_classes: int | None = None,
) -> Tensor:
    """`alpha · CE + (1 − alpha) · D · student_temperature²`, per row (N,): the loss of the target `logits`.

    Args:
        student: logits (N, C_S).
        target: divergence, temperatures, top_k and alpha; see `vigreux.curriculum.Logits`.
        teacher: logits (N, C_T), always needed because `alpha < 1`; see `fit_classes` for `C_T ≠ C_S`.
        labels: (N,), needed if `alpha > 0`. A row with the label −100 has no cross-entropy, only its
            divergence.
        common_classes: the number of classes that mean the same in both, by default the smaller of `C_S` and
            `C_T`.
    """
    assert teacher is not None, "alpha < 1 needs a teacher"
    teacher = fit_classes(teacher, student.shape[-1], common_classes)
    loss = (1 - target.alpha) * target.student_temperature**2 * divergence(student, teacher, target)
    if target.alpha == 0:
        return loss
    assert labels is not None, "alpha > 0 needs labels"
    return loss + target.alpha * cross_entropy(student, labels)


# --- losses with their gradients, in place ------------------------------------------------------------------


def logits_rows(
    student: Tensor,
    target: Logits,
    teacher: Tensor,
    labels: Tensor | None = None,
    *,
    common_classes: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss (N,) of `logits_loss` and its gradient in the student's logits (N, C), which it overwrites."""
    loss = student.new_empty(len(student), dtype=torch.promote_types(student.dtype, torch.float32))
    formula = FORMULAS[target.divergence]
    student_temperature = target.student_temperature
    for chunk in _chunks(student):
        chunk_teacher = fit_classes(teacher[chunk], student.shape[-1], common_classes)
        of_chunk, gradient = _of_chunk(
            student[chunk], chunk_teacher, formula, target.temperature, student_temperature, target.top_k
        )
        of_chunk *= (1 - target.alpha) * student_temperature**2
        if target.alpha or student_temperature != 1:
            gradient *= (1 - target.alpha) * student_temperature
        if target.alpha:
            assert labels is not None, "alpha > 0 needs labels"
            of_labels, mixed = _label_chunk(student[chunk], labels[chunk])
            of_chunk += target.alpha * of_labels
            gradient.add_(mixed, alpha=target.alpha)
        loss[chunk] = of_chunk
        student[chunk] = gradient
    return loss, student


def label_rows(student: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The `cross_entropy` (N,) and its gradient in the student's logits (N, C), which it overwrites."""
    loss = student.new_empty(len(student), dtype=torch.promote_types(student.dtype, torch.float32))
    for chunk in _chunks(student):
        loss[chunk], student[chunk] = _label_chunk(student[chunk], labels[chunk])
    return loss, student


def _label_chunk(student: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    counts = labels != IGNORED_LABEL
    safe = labels.where(counts, 0).unsqueeze(-1)  # (N, 1)
    log_q = torch.log_softmax(at_least_float32(student), dim=-1)
    loss = -log_q.gather(-1, safe).squeeze(-1) * counts
    gradient = log_q.exp_().scatter_add_(-1, safe, torch.full_like(safe, -1, dtype=log_q.dtype))
    return loss, gradient.mul_(counts.unsqueeze(-1))


def at_least_float32(x: Tensor) -> Tensor:
    """Converts half precision to float32; float32 and float64 stay as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
