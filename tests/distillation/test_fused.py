"""From hidden states, a chunk of logits at a time: the same loss and gradients as from all logits at once."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vigreux.curriculum import Divergence, Logits
from vigreux.distillation import fused
from vigreux.distillation.fused import chunks, fused_loss
from vigreux.distillation.losses import IGNORED_LABEL, cross_entropy, logits_loss
from vigreux.models.heads import Head

D_S, D_T = 5, 7


def plain_logits(head: Head, hidden: Tensor) -> Tensor:
    """As a model writes it."""
    logits = hidden @ head.weight.T
    logits = (logits if head.bias is None else logits + head.bias) * head.scale
    return logits if head.cap is None else torch.tanh(logits / head.cap) * head.cap


@st.composite
def heads(draw: st.DrawFn, width: int, classes: int, seed: int) -> Head:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    bias = torch.randn(classes, generator=generator, dtype=torch.float64) if draw(st.booleans()) else None
    return Head(weight, bias, draw(st.sampled_from([1.0, 0.25])), draw(st.sampled_from([None, 3.0])))


targets = st.one_of(
    st.none(),
    st.builds(
        Logits,
        temperature=st.sampled_from([1.0, 2.0, 1e-20]),
        alpha=st.sampled_from([0.0, 0.3]),
        top_k=st.sampled_from([None, 2, 50]),
        divergence=st.sampled_from(get_args(Divergence)),
        student_temperature=st.sampled_from([1.0, 2.0]),
    ),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Head, Tensor, Head, Tensor, Logits | None, int]:
    rows, classes, seed = draw(st.integers(1, 9)), draw(st.integers(2, 11)), draw(st.integers(0, 9999))
    generator = torch.Generator().manual_seed(seed)
    hidden, theirs = (torch.randn(rows, d, generator=generator, dtype=torch.float64) for d in (D_S, D_T))
    labels = torch.randint(classes, (rows,), generator=generator)
    labels[torch.rand(rows, generator=generator) < 0.3] = IGNORED_LABEL
    head = draw(heads(D_S, classes, seed + 1))
    teacher_head = draw(heads(D_T, classes + draw(st.integers(-1, 2)), seed + 2))
    return hidden, head, theirs, teacher_head, labels, draw(targets), draw(st.integers(1, 4))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_the_loss_and_gradients_of_all_logits_at_once(
    case: tuple[Tensor, Head, Tensor, Head, Tensor, Logits | None, int],
) -> None:
    hidden, head, theirs, teacher_head, labels, target, fewest = case
    leaves = [hidden, head.weight] + ([] if head.bias is None else [head.bias])
    for leaf in leaves:
        leaf.requires_grad_(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "CHUNK_BYTES", 1)
        patch.setattr(fused, "FEWEST_ROWS", fewest)
        found = fused_loss(
            hidden, head, target, teacher=lambda rows: teacher_head.logits(theirs[rows]), labels=labels
        )
    logits, teacher = plain_logits(head, hidden), plain_logits(teacher_head, theirs)
    rows = cross_entropy(logits, labels) if target is None else logits_loss(logits, target, teacher, labels)
    expected = rows.sum()
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    weight = 0.7
    own, plain = torch.autograd.grad(weight * found, leaves), torch.autograd.grad(weight * expected, leaves)
    torch.testing.assert_close(own, plain, rtol=1e-10, atol=1e-11)


def test_no_more_than_a_chunk_of_logits_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "CHUNK_BYTES", 64 * 1000 * 4)
    seen: list[int] = []
    original = Head.logits
    monkeypatch.setattr(
        Head, "logits", lambda self, hidden, out=None: seen.append(len(hidden)) or original(self, hidden, out)
    )
    hidden = torch.randn(300, D_S, requires_grad=True)
    head, teacher_head = Head(torch.randn(1000, D_S, requires_grad=True)), Head(torch.randn(1000, D_T))
    theirs = torch.randn(300, D_T)
    fused_loss(hidden, head, Logits(), teacher=lambda rows: teacher_head.logits(theirs[rows])).backward()
    assert max(seen) <= 64
    assert sum(seen) == 2 * 300


@pytest.mark.parametrize(
    ("rows", "sizes"), [(0, []), (1, [1]), (64, [64]), (65, [33, 32]), (200, [50, 50, 50, 50])]
)
def test_chunks_are_even(rows: int, sizes: list[int]) -> None:
    found = [len(range(rows)[part]) for part in chunks(rows, 2**17, 4)]
    assert found == sizes
