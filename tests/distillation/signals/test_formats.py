"""What was written comes back within the stated error, and takes the stated bytes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vigreux.distillation.signals.formats import Dense, TopClasses, from_plain, to_plain
from vigreux.errors import ConfigError

rows = st.integers(0, 99).map(
    lambda seed: 10 ** (seed % 7 - 3) * torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))
)


def stored(parts):
    return sum(part.numel() * part.element_size() for part in parts.values())


@given(rows)
def test_dense_rows_within_the_stated_error(x):
    assert torch.equal(Dense(6, "float32").decode(Dense(6, "float32").encode(x)), x)
    half = Dense(6, "bfloat16")
    assert ((half.decode(half.encode(x)) - x).abs() <= x.abs() / 256).all()
    eight = Dense(6, "int8")
    assert (
        (eight.decode(eight.encode(x)) - x).abs() <= x.abs().amax(1, keepdim=True) / 254 * (1 + 1e-5)
    ).all()
    for form in (half, eight):
        assert stored(form.encode(x)) == 5 * form.bytes_per_row
    assert eight.bytes_per_row <= 6 + 8


def test_rows_of_zeros_stay_zeros():
    for precision in ("float32", "bfloat16", "int8"):
        form = Dense(3, precision)
        assert torch.equal(form.decode(form.encode(torch.zeros(2, 3))), torch.zeros(2, 3))


@given(rows, st.integers(1, 6))
def test_the_most_likely_classes_and_the_rest(x, k):
    x = x.clamp(-20, 20)
    form = TopClasses(6, k)
    parts = form.encode(x)
    assert stored(parts) == 5 * form.bytes_per_row
    p, found = x.softmax(-1), form.decode(parts).logits().exp()
    top = p.topk(k).indices
    kept = p.gather(-1, top)
    torch.testing.assert_close(found.gather(-1, top), kept, rtol=0.02, atol=1e-6)
    others = (1 - kept.sum(-1)).clamp(min=0)
    mask = torch.ones_like(p).scatter(-1, top, 0)
    torch.testing.assert_close((found * mask).sum(-1), others, rtol=1e-3, atol=1e-5)
    for row, keep in zip(found, mask.bool()):
        assert row[keep].unique().numel() <= 1


def test_some_rows_alone():
    form = TopClasses(9, 3)
    whole = form.decode(form.encode(torch.randn(7, 9)))
    assert torch.equal(whole.logits(slice(2, 5)), whole.logits()[2:5])
    assert len(whole) == 7


def test_a_teacher_that_is_certain():
    logits = torch.tensor([[0.0, -math.inf, -math.inf]])
    for k in (1, 3):
        found = TopClasses(3, k).decode(TopClasses(3, k).encode(logits)).logits().softmax(-1)
        assert torch.equal(found, torch.tensor([[1.0, 0.0, 0.0]]))


def test_sixteen_classes_take_a_hundred_bytes():
    assert TopClasses(50_257, 16).bytes_per_row <= 100


def test_bad_values():
    with pytest.raises(ConfigError, match=r"cache.precision: unknown value 'int4'"):
        Dense(3, "int4")
    with pytest.raises(ConfigError, match=r"cache.k: 5; accepted: 1 to 4"):
        TopClasses(4, 5)


@pytest.mark.parametrize("form", [Dense(7, "bfloat16"), TopClasses(20, 4)])
def test_plain_values(form):
    assert from_plain(to_plain(form)) == form
