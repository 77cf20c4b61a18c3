"""A language model's loss on logits, computed from the inputs of the output heads, one chunk at a time.

The logits of all rows are never in memory together. For each chunk of rows, the forward pass computes the
logits of student and teacher, the loss, and its gradient in the logits, which overwrites the student's
logits. From it follow the gradients of hidden states, head weight and bias. So no logits are computed twice,
and the memory for the backward pass is that of the hidden states and the head. The result equals
`losses.logits_loss` of the full logits up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vigreux.curriculum import Logits
from vigreux.distillation.losses import label_rows, logits_rows
from vigreux.distillation.signals.base import ChunkedLogits
from vigreux.models.heads import Head

# Bytes of one chunk's logits (rows × V). Each chunk reads and writes the whole gradient of the head once, so
# few chunks are better. Two such blocks exist at a time.
CHUNK_BYTES = 2**25
FEWEST_ROWS = 32  # with fewer rows, matrix products slow down by more than the saved memory is worth


def fused_loss(
    hidden: Tensor,
    head: Head,
    target: Logits | None,
    *,
    teacher: ChunkedLogits | None = None,
    labels: Tensor | None = None,
    common_classes: int | None = None,
) -> Tensor:
    """() the loss of `losses.logits_loss` (or the cross-entropy with the labels), summed over the rows.

    Args:
        hidden: (N, d_S) the input of the student's head.
        head: the student's head.
        target: how logits are compared; `None` for labels alone.
        teacher: rows → the teacher's logits (n, V) of these rows; `None` for labels alone.
        labels: (N,), if the target needs them.
        common_classes: see `losses.fit_classes`.
    """
    return _Fused.apply(hidden, head.weight, head.bias, head, target, teacher, labels, common_classes)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Head,
        target: Logits | None,
        teacher: ChunkedLogits | None,
        labels: Tensor | None,
        common_classes: int | None,
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
        parts = list(chunks(len(hidden), weight.shape[0], total.element_size()))
        # The first chunk overwrites the buffers, so filling them with zeros would be a wasted pass.
        make = torch.empty_like if parts else torch.zeros_like
        of_hidden, of_weight, of_bias = (
            make(x) if x is not None and needs_gradient else None
            for x, needs_gradient in zip((hidden, weight, bias), ctx.needs_input_grad[:3])
        )
        # The buffer holds each chunk's logits, and then their gradient.
        buffer = hidden.new_empty(parts[0].stop if parts else 0, weight.shape[0])
        for rows in parts:
            chunk_hidden = hidden[rows]
            chunk_labels = None if labels is None else labels[rows]
            logits = head.logits(chunk_hidden, out=buffer[: len(chunk_hidden)])
            slope = head.slope(logits)
            if target is None:
                assert chunk_labels is not None
                loss, gradient = label_rows(logits, chunk_labels)
            else:
                assert teacher is not None
                loss, gradient = logits_rows(
                    logits, target, teacher(rows), chunk_labels, common_classes=common_classes
                )
            total += loss.sum()
            if not isinstance(slope, float) or slope != 1:
                gradient.mul_(slope)  # (c, V), now in h Wᵀ + b
            if of_hidden is not None:
                of_hidden[rows] = gradient @ weight.to(gradient.dtype)
            first = rows.start == 0
            if of_weight is not None:
                _add_product(of_weight, gradient.T, chunk_hidden, first=first)
            if of_bias is not None:
                of_bias.copy_(gradient.sum(0)) if first else of_bias.add_(gradient.sum(0))
        ctx.save_for_backward(of_hidden, of_weight, of_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor | None, ...]:
        # In place: the gradients are as large as the head, and nothing else refers to them.
        gradients = (
            None if saved is None else saved.mul_(of_total.to(saved.dtype)) for saved in ctx.saved_tensors
        )
        return (*gradients, *(None,) * 5)


def _add_product(total: Tensor, a: Tensor, b: Tensor, *, first: bool) -> None:
    """`total += a @ b`, or `total = a @ b` with `first`. Under autocast the product is in half precision."""
    same_dtype = a.dtype == b.dtype == total.dtype
    if first:
        torch.mm(a, b, out=total) if same_dtype else total.copy_(a @ b.to(a.dtype))
    elif same_dtype:
        total.addmm_(a, b)
    else:
        total += a @ b.to(a.dtype)


def chunks(rows: int, classes: int, bytes_each: int) -> Iterator[slice]:
    """Equal chunks of rows whose logits take at most `CHUNK_BYTES`, but at least `FEWEST_ROWS` rows."""
    most = max(FEWEST_ROWS, CHUNK_BYTES // (classes * bytes_each))
    count = max(1, -(-rows // most))
    step = max(1, -(-rows // count))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
