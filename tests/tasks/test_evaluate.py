"""Evaluation against one row after another in float64, and its independence of batch size."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from torch import nn

from tests.reference.tasks import measures
from tests.tasks.conftest import SENTENCES
from vigreux.config.transformer import TaskConfig
from vigreux.tasks import evaluate as module
from vigreux.tasks.documents.sources import Record
from vigreux.tasks.documents.split import Documents
from vigreux.tasks.evaluate import EmbeddingRecord, LogitsRecord, compare_embeddings, evaluate, record_teacher
from vigreux.tasks.kinds.embedding import embedding
from vigreux.tasks.kinds.language import causal_lm, masked_lm
from vigreux.tasks.kinds.tensors import TensorTask

DOCUMENTS = Documents(
    [Record(s, None, "") for s in SENTENCES], [Record(s.upper(), None, "") for s in SENTENCES]
)
WITHOUT_ALL_LOGITS = ("loss", "accuracy", "agreement", "teacher_loss", "teacher_accuracy")


def tensor_task(n: int, classes: int, seed: int) -> tuple[TensorTask, torch.Tensor, torch.Tensor]:
    """A task whose inputs are row numbers, and two tables of logits (n, C) to look up."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=random)
    student, teacher = (3 * torch.randn(n, classes, generator=random) for _ in range(2))
    task = TensorTask(
        torch.arange(n), labels, eval_inputs=torch.arange(n), eval_labels=labels, num_labels=classes
    )
    return task, student, teacher


@given(
    n=st.integers(1, 30), classes=st.integers(2, 5), seed=st.integers(0, 99), batch_size=st.integers(1, 31)
)
def test_measures_against_float64(n, classes, seed, batch_size):
    task, student, teacher = tensor_task(n, classes, seed)
    found = evaluate(
        task, lambda b: student[b["inputs"]], lambda b: teacher[b["inputs"]], batch_size=batch_size
    )
    expected = measures(student.double().numpy(), teacher.double().numpy(), task.held_out.labels.numpy())
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(batch_size=st.integers(1, 31), recorded_with=st.integers(1, 31))
def test_record_of_the_teacher_gives_the_same(batch_size, recorded_with):
    task, student, teacher = tensor_task(30, 4, 0)
    record = record_teacher(task, lambda b: teacher[b["inputs"]], batch_size=recorded_with)
    assert isinstance(record, LogitsRecord)
    found = evaluate(task, lambda b: student[b["inputs"]], record, batch_size=batch_size)
    live = evaluate(
        task, lambda b: student[b["inputs"]], lambda b: teacher[b["inputs"]], batch_size=batch_size
    )
    assert found == pytest.approx({name: live[name] for name in WITHOUT_ALL_LOGITS})


def test_without_a_teacher():
    task, student, _ = tensor_task(10, 3, 0)
    assert set(evaluate(task, lambda b: student[b["inputs"]], batch_size=4)) == {"loss", "accuracy"}


def test_rows_in_parts_give_the_same(monkeypatch):
    task, student, teacher = tensor_task(30, 4, 0)
    forwards = [lambda b: student[b["inputs"]], lambda b: teacher[b["inputs"]]]
    whole = evaluate(task, *forwards, batch_size=30)
    record = record_teacher(task, forwards[1], batch_size=30)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    assert evaluate(task, *forwards, batch_size=30) == pytest.approx(whole)
    parts = record_teacher(task, forwards[1], batch_size=30)
    assert torch.equal(parts.argmax, record.argmax)
    assert torch.allclose(parts.label_log_prob, record.label_log_prob)


@pytest.mark.parametrize("kind", ["causal-lm", "masked-lm"])
def test_language_model_means_are_over_positions(kind, bpe, wordpiece):
    tokenizer = bpe if kind == "causal-lm" else wordpiece
    make = causal_lm if kind == "causal-lm" else masked_lm
    task = make(DOCUMENTS, tokenizer, TaskConfig(kind=kind, max_length=20))
    table = nn.Embedding(len(tokenizer), len(tokenizer))

    def forward(batch):
        return table(batch["input_ids"])[task.positions(batch)]

    found = [evaluate(task, forward, forward, batch_size=size) for size in (1, 3, 100)]
    for other in found[1:]:
        assert found[0] == pytest.approx(other, rel=1e-5, abs=1e-6)
    (batch,) = task.eval_batches(1000)
    rows, labels = forward(batch).detach().double(), batch["labels"][batch["labels"] != -100]
    expected = measures(rows.numpy(), rows.numpy(), labels.numpy())
    assert found[0] == pytest.approx(
        {**expected, "perplexity": math.exp(expected["loss"])}, rel=1e-4, abs=1e-6
    )
    assert found[0]["agreement"] == 1
    assert found[0]["kl"] == pytest.approx(0, abs=1e-6)


def test_perplexity_of_a_lost_student_is_infinite(bpe):
    task = causal_lm(DOCUMENTS, bpe, TaskConfig(max_length=20))

    def wrong(batch):
        labels = batch["labels"][task.positions(batch)]
        return torch.zeros(len(labels), 300).index_put(
            (torch.arange(len(labels)), labels), torch.tensor(-1e4)
        )

    assert evaluate(task, wrong, batch_size=4)["perplexity"] == math.inf


# --- embeddings ---------------------------------------------------------------------------------------------


def pairs(embeddings: np.ndarray) -> list[float]:
    n = len(embeddings)
    norms = [np.linalg.norm(row) for row in embeddings]
    return [
        float(embeddings[i] @ embeddings[j] / norms[i] / norms[j]) for i in range(n) for j in range(i + 1, n)
    ]


@given(n=st.integers(3, 9), seed=st.integers(0, 99))
def test_embedding_measures(n, seed):
    random = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(n, 4, generator=random), torch.randn(n, 6, generator=random)
    projection = torch.randn(6, 4, generator=random)
    found = compare_embeddings(student, teacher, projection)
    s, t = student.double().numpy(), teacher.double().numpy()
    target = t @ projection.double().numpy()
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(s, target)]
    assert found["cosine"] == pytest.approx(np.mean(cosines), abs=1e-5)
    assert found["similarity_pearson"] == pytest.approx(pearsonr(pairs(s), pairs(t)).statistic, abs=1e-5)
    assert found["similarity_spearman"] == pytest.approx(spearmanr(pairs(s), pairs(t)).statistic, abs=1e-5)


def test_embeddings_of_other_width_have_no_cosine():
    assert set(compare_embeddings(torch.randn(4, 2), torch.randn(4, 3))) == {
        "similarity_pearson",
        "similarity_spearman",
    }


@pytest.mark.parametrize("n", [1, 2, 9])
def test_collapsed_embeddings_have_no_correlation(n):
    random = torch.Generator().manual_seed(0)
    teacher = torch.randn(n, 3, generator=random)
    nearly = torch.ones(n, 3) + 1e-7 * torch.randn(n, 3, generator=random)
    found = compare_embeddings(nearly, teacher)
    assert (found["similarity_pearson"], found["similarity_spearman"]) == (0, 0)
    assert -1 <= found["cosine"] <= 1


def test_embedding_task(wordpiece):
    task = embedding(DOCUMENTS, wordpiece, TaskConfig(kind="embedding"))
    table = nn.Embedding(150, 5)

    def forward(batch):
        return table(batch["input_ids"]).sum(1) / batch["attention_mask"].sum(1, keepdim=True)

    record = record_teacher(task, forward, batch_size=1)
    assert isinstance(record, EmbeddingRecord)
    assert record.embeddings.shape == (6, 5)
    assert not record.embeddings.requires_grad
    expected = {"cosine": 1.0, "similarity_pearson": 1.0, "similarity_spearman": 1.0}
    assert evaluate(task, forward, record, batch_size=1) == pytest.approx(expected)
    assert evaluate(task, forward, forward, batch_size=1) == pytest.approx(expected)
