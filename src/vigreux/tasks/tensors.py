"""A task for a plain torch module, from tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vigreux.errors import DataError
from vigreux.tasks.stream import Example, Sample
from vigreux.tasks.task import Batch, Task, stack_labels


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
        DataError: lengths that differ, labels that are not whole numbers from 0 to C − 1, an empty tensor.
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
        for name, x, y in (("", inputs, labels), ("eval_", eval_inputs, eval_labels)):
            if len(x) != len(y) or len(x) == 0:
                raise DataError(
                    f"{name}inputs: {len(x)} rows, and {len(y)} of {name}labels; accepted: the same number, at least 1"
                )
            if y.dim() != 1 or y.is_floating_point():
                raise DataError(
                    f"{name}labels: shape {tuple(y.shape)}, {y.dtype}; accepted: one whole number a row"
                )
        classes = num_labels if num_labels is not None else int(labels.max()) + 1
        for name, y in (("labels", labels), ("eval_labels", eval_labels)):
            if wrong := torch.nonzero((y < 0) | (y >= classes)).flatten().tolist():
                raise DataError(f"{name}: row {wrong[0]} is {int(y[wrong[0]])}; accepted: 0 to {classes - 1}")
        names = {i: str(i) for i in range(classes)}
        super().__init__(
            "tensor", _Rows(inputs, labels), _Rows(eval_inputs, eval_labels), collate_tensors, 1, names
        )


def collate_tensors(samples: Sequence[Sample]) -> Batch:
    """inputs (B, …) and labels (B,)."""
    return {
        "inputs": torch.stack([torch.as_tensor(sample.example.inputs) for sample in samples]),
        "labels": stack_labels(samples),
    }
