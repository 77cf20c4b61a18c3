"""CKA by streamed sums against whole kernel matrices; what it must not depend on; pairs against every rising
choice.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForMaskedLM, BertModel

from tests.reference import cka as reference
from vigreux.curriculum.recipes import extraction, pair_layers
from vigreux.errors import ConfigError, DataError
from vigreux.models.views import cut
from vigreux.probes.similarity import compare_layers, linear_cka, suggest_pairs, token_states


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cka_of(X: torch.Tensor, Y: torch.Tensor, **kwargs) -> float:
    return linear_cka([([X], [Y])], **kwargs).item()


def bert(layers: int, hidden: int, seed: int, cls=BertForMaskedLM):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=8, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=2 * hidden,  # noqa: E501
        max_position_embeddings=16, initializer_range=0.5,
    )  # fmt: skip
    return cls(config).double()


def batches(count: int = 3, rows: int = 4, length: int = 7, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    for _ in range(count):
        mask = (torch.arange(length) < torch.randint(2, length + 1, (rows, 1), generator=rng)).long()
        yield {"input_ids": torch.randint(0, 8, (rows, length), generator=rng), "attention_mask": mask}


# --- CKA ----------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    tokens=st.integers(4, 9),
    widths=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    shift=st.floats(-5, 5),
    seed=st.integers(0, 99),
)
def test_the_same_as_from_kernel_matrices(tokens, widths, shift, seed):
    X, Y = draw(tokens, widths[0], seed=seed) + shift, draw(tokens, widths[1], seed=seed + 100)
    Y[:, 0] += X[:, 0]
    parts = [([X[rows]], [Y[rows]]) for rows in torch.arange(tokens).split(3)]
    kernels = X.numpy(), Y.numpy()
    assert linear_cka(parts, unbiased=False).item() == pytest.approx(
        reference.cka(*kernels, reference.biased_hsic), abs=1e-9
    )
    K, L = (A @ A.T for A in kernels)
    if (
        min(reference.unbiased_hsic(K, K), reference.unbiased_hsic(L, L)) > 1e-3
    ):  # of few tokens it can vanish: a ratio of rounding errors
        assert linear_cka(parts).item() == pytest.approx(
            reference.cka(*kernels, reference.unbiased_hsic), abs=1e-6
        )


@pytest.mark.parametrize("unbiased", [True, False])
def test_itself_turned_moved_and_scaled(unbiased):
    X, Y = draw(50, 6), draw(50, 4, seed=1) + draw(50, 6)[:, :4]
    rotation = torch.linalg.qr(draw(6, 6, seed=2)).Q
    before = cka_of(X, Y, unbiased=unbiased)
    assert 0.1 < before < 0.9
    assert cka_of(X, X, unbiased=unbiased) == pytest.approx(1)
    assert cka_of(3 * X @ rotation + 7, Y, unbiased=unbiased) == pytest.approx(before)
    assert cka_of(X @ torch.diag(torch.arange(1.0, 7).double() ** 2), Y, unbiased=unbiased) != pytest.approx(
        before, abs=0.01
    )
    assert cka_of(Y, X, unbiased=unbiased) == pytest.approx(before)


def test_only_the_unbiased_estimate_of_unrelated_layers_is_around_zero():
    found = np.array(
        [
            [cka_of(draw(40, 40, seed=s), draw(40, 40, seed=s + 500), unbiased=u) for u in (True, False)]
            for s in range(100)
        ]
    )
    assert abs(found[:, 0].mean()) < 4 * found[:, 0].std() / math.sqrt(100)
    assert found[:, 1].min() > 0.3


@pytest.mark.parametrize("unbiased", [True, False])
def test_a_layer_that_does_not_vary_resembles_none(unbiased):
    """A collapsed student: the same vector for every token, but for rounding."""
    X = draw(30, 5)
    constant = (X * 1e-13 + torch.full((5,), 0.3)).double()
    assert linear_cka(
        [([X, constant], [constant, X])], unbiased=unbiased
    ).flatten().tolist() == pytest.approx([0, 1, 0, 0])


def test_too_few_tokens():
    assert linear_cka([([draw(2, 1)], [draw(2, 1)])] * 2, unbiased=False).item() == pytest.approx(1)
    for parts in ([([draw(3, 1)], [draw(3, 1)])], []):
        with pytest.raises(DataError, match=f"similarity: {3 * len(parts)} tokens; accepted: at least 4"):
            linear_cka(parts)


# --- models -------------------------------------------------------------------------------------------------


def test_states_of_a_model_are_its_views_without_padding():
    model = bert(3, 16, 0).eval()
    (batch,) = batches(1)
    states = token_states(model, batch)
    assert len(states) == 4
    for depth, state in enumerate(states):
        torch.testing.assert_close(state, cut(model, depth)(batch)[batch["attention_mask"].bool()])


def test_layers_of_two_models():
    teacher, student = bert(4, 16, 0), bert(2, 8, 1, BertModel)
    student.eval()
    found = compare_layers(teacher, student, batches())
    assert (teacher.training, student.training) == (True, False)
    assert found.shape == (5, 3)
    rows = [(token_states(teacher.eval(), batch), token_states(student.eval(), batch)) for batch in batches()]
    for t in range(5):
        for s in range(3):
            X, Y = (torch.cat([row[side][layer] for row in rows]).numpy() for side, layer in ((0, t), (1, s)))
            both = compare_layers(teacher, student, batches(), unbiased=False)[t, s].item()
            assert both == pytest.approx(reference.cka(X, Y, reference.biased_hsic), abs=1e-9)


def test_a_model_resembles_itself_on_the_diagonal():
    found = compare_layers(bert(3, 16, 0), bert(3, 16, 0), batches())
    assert found.diagonal().tolist() == pytest.approx([1] * 4)
    assert (found[0, 1:] < 1).all()


# --- pairs --------------------------------------------------------------------------------------------------


@given(data=st.data(), seed=st.integers(0, 999))
def test_pairs_are_the_best_of_all_rising_ones(data, seed):
    L_T = data.draw(st.integers(1, 7))
    L_S = data.draw(st.integers(1, L_T))
    similarity = torch.rand(L_T + 1, L_S + 1, generator=torch.Generator().manual_seed(seed)).double()
    pairs = suggest_pairs(similarity)
    assert list(pairs.values()) == list(pair_layers(L_T, L_S).values())
    assert list(pairs) == sorted(set(pairs))
    assert sum(float(similarity[t, s]) for t, s in pairs.items()) == pytest.approx(
        reference.best_total(similarity.numpy())
    )
    assert extraction(layers=pairs, teacher_layers=L_T, student_layers=L_S)


def test_pairs_by_hand():
    """Depth 1 looks most like layer 3, but then nothing good is left for depth 2."""
    similarity = torch.zeros(6, 4)
    similarity[[2, 3], 1] = torch.tensor([0.7, 0.8])
    similarity[[3, 4], 2] = torch.tensor([0.9, 0.1])
    assert suggest_pairs(similarity) == {2: 1, 3: 2}


def test_a_student_deeper_than_its_teacher():
    assert suggest_pairs(torch.ones(4, 4)) == {1: 1, 2: 2}
    with pytest.raises(
        ConfigError,
        match=r"student.layers: 4 is deeper than the teacher's 3 blocks; give extraction.layers by hand",
    ):
        suggest_pairs(torch.ones(4, 5))
