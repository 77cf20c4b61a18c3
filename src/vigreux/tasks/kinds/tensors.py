"""A task for a plain torch module, from tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vigreux.errors import DataError
from vigreux.tasks.stream import Example, Sample
from vigreux.tasks.task import Batch, Task, stack_labels

_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class _Rows:
    inputs: Tensor  # (n, …)
    labels: Tensor  # (n,)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Example:
        return Example(self.inputs[index], int(self.labels[index]))


class TensorTask(Task):
    """Classification of tensors by a module that is called as `module(inputs)` and gives logits (B, C).

    Args:
        inputs: (n, …) training inputs.
        labels: (n,) class ids.
        eval_inputs: (m, …) held-out inputs.
        eval_labels: (m,) class ids.
        num_labels: C; default the largest label plus one.

    Raises:
        DataError: see `check_tensors`; or a label is outside 0 to C − 1.
    """

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        eval_inputs: Tensor,
        eval_labels: Tensor,
        num_labels: int | None = None,
    ) -> None:
        check_tensors(inputs, labels, eval_inputs, eval_labels)
        classes = num_labels if num_labels is not None else int(labels.max()) + 1
        for name, y in (("labels", labels), ("eval_labels", eval_labels)):
            if wrong := torch.nonzero((y < 0) | (y >= classes)).flatten().tolist():
                raise DataError(f"{name}: row {wrong[0]} is {int(y[wrong[0]])}; accepted: 0 to {classes - 1}")
        names = {i: str(i) for i in range(classes)}
        super().__init__(
            "tensor",
            _Rows(inputs.detach(), labels),
            _Rows(eval_inputs.detach(), eval_labels),
            collate_tensors,
            1,
            names,
        )


def check_tensors(inputs: Tensor, labels: Tensor, eval_inputs: Tensor, eval_labels: Tensor) -> None:
    """Raises `DataError` unless inputs and labels match.

    Inputs are finite. Labels are whole numbers, one per row. Held-out inputs have the shape and type of the
    training inputs.
    """
    for name, x, y in (("", inputs, labels), ("eval_", eval_inputs, eval_labels)):
        if x.dim() == 0 or y.dim() == 0 or len(x) != len(y) or len(x) == 0:
            shapes = (
                f"{len(x) if x.dim() else 'no'} rows, and {len(y) if y.dim() else 'none'} of {name}labels"
            )
            raise DataError(f"{name}inputs: {shapes}; accepted: the same number, at least 1")
        if y.dim() != 1 or y.dtype not in _WHOLE:
            scores = "; scores and several labels a row are not learned yet" if y.is_floating_point() else ""
            raise DataError(
                f"{name}labels: shape {tuple(y.shape)}, {y.dtype}; accepted: one whole number per row{scores}"
            )
        if x.is_floating_point() and not (finite := torch.isfinite(x).reshape(len(x), -1).all(1)).all():
            raise DataError(f"{name}inputs: row {int((~finite).nonzero()[0])} is not finite")
    if inputs.shape[1:] != eval_inputs.shape[1:] or inputs.dtype != eval_inputs.dtype:
        raise DataError(
            f"eval_inputs: rows of shape {tuple(eval_inputs.shape[1:])}, {eval_inputs.dtype}; accepted: as in"
            f" training, {tuple(inputs.shape[1:])}, {inputs.dtype}"
        )


def collate_tensors(samples: Sequence[Sample]) -> Batch:
    """inputs (B, …) and labels (B,)."""
    return {
        "inputs": torch.stack([torch.as_tensor(sample.example.inputs) for sample in samples]),
        "labels": stack_labels(samples),
    }
