"""A task from tensors, for plain torch modules."""

import pytest
import torch

from vigreux.errors import DataError
from vigreux.tasks.kinds.tensors import TensorTask

X, Y = torch.arange(12.0).reshape(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])


def test_task():
    task = TensorTask(X, Y, eval_inputs=X[:3] + 0.5, eval_labels=Y[:3])
    assert (task.kind, task.num_labels, task.tokens_per_sample) == ("tensor", 3, 1)
    samples = list(task.stream(0, 0, 6))
    batch = task.collate(samples)
    order = [sample.index for sample in samples]
    assert torch.equal(batch["inputs"], X[order])
    assert torch.equal(batch["labels"], Y[order])
    assert task.positions(batch) is None
    assert task.token_positions(batch) is None
    assert [task.counts(batch, what) for what in ("samples", "tokens", "positions")] == [6, 6, 6]
    assert [b["inputs"].shape for b in task.eval_batches(2)] == [(2, 2), (1, 2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": Y[:5]}, "inputs: 6 rows, and 5 of labels; accepted: the same number"),
        (
            {"eval_inputs": X[:0], "eval_labels": Y[:0]},
            "eval_inputs: 0 rows, and 0 of eval_labels; accepted: .* at least 1",
        ),
        ({"labels": Y.float()}, r"labels: shape \(6,\), torch.float32; accepted: one whole number per row"),
        ({"labels": Y[:, None]}, r"labels: shape \(6, 1\), torch.int64; accepted"),
        ({"labels": Y - 1}, "labels: row 0 is -1; accepted: 0 to 1"),
        ({"num_labels": 2}, "labels: row 2 is 2; accepted: 0 to 1"),
        ({"eval_labels": Y + 1}, "eval_labels: row 2 is 3; accepted: 0 to 2"),
    ],
)
def test_bad_tensors(change, message):
    good = {"inputs": X, "labels": Y, "eval_inputs": X, "eval_labels": Y, "num_labels": 3}
    TensorTask(**good)
    with pytest.raises(DataError, match=message):
        TensorTask(**{**good, **({"num_labels": None} if "num_labels" not in change else {}), **change})
