"""M_robust and M_close: by hand for a model that is a bigram table, and as the whole model gives them one
sentence at a time.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from tests.reference import ngrams as reference
from vigreux.errors import ConfigError
from vigreux.probes.ngrams import NgramSettings, predictor, probe_ngrams, span_of

MASK, BOS, EOS, VOCABULARY = 5, 3, 4, 8


def bigram_table(table: torch.Tensor):
    """Predicts a token from its left neighbour alone: `table[left]`, or `table[MASK]` where that
    is masked.
    """

    def predict(batch, places):
        return table.log()[batch["input_ids"].flatten()[places - 1]]

    return predict


def tiny(seed: int = 0) -> BertForMaskedLM:
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,  # noqa: E501
        max_position_embeddings=32, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(seed)
    return BertForMaskedLM(config).double()


def sentence(*tokens: int) -> np.ndarray:
    return np.array([BOS, *tokens, EOS])


def test_spans_are_those_of_the_paper():
    assert [list(span_of(10, n)) for n in (2, 3, 4, 5)] == [
        [9, 10],
        [9, 10, 11],
        [8, 9, 10, 11],
        [8, 9, 10, 11, 12],
    ]


def test_a_bigram_table_by_hand():
    """Its prediction hangs on the left neighbour, which every n-gram holds: M_close is 0, M_robust the
    distance to the table's own answer for a masked neighbour.
    """
    table = torch.full((VOCABULARY, VOCABULARY), 1e-30)
    table[0, :2] = torch.tensor([0.9, 0.1])
    table[1, :2] = torch.tensor([0.2, 0.8])
    table[MASK, :2] = torch.tensor([0.5, 0.5])
    sentences = [sentence(0, 1, 0, 0, 1, 0, 0), sentence(1, 1, 1, 0, 1, 1, 1)]
    # position 4: its left neighbour is the third token: 0 → distance ½(0.4 + 0.4), 1 → ½(0.3 + 0.3)
    found = probe_ngrams(
        bigram_table(table), sentences, MASK, [BOS, EOS], NgramSettings(n=(2, 3, 5), positions=(4,))
    )
    for score in found:
        assert score.robust == pytest.approx((0.4 + 0.3) / 2, abs=1e-6)
        assert score.close == pytest.approx(0, abs=1e-6)
        assert (score.sentences, score.places) == (2, 2)
    both = probe_ngrams(
        bigram_table(table),
        sentences,
        MASK,
        [BOS, EOS],
        NgramSettings(n=(2,), positions=(4,), convention="l1"),
    )
    assert both[0].robust == pytest.approx(2 * 0.35, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(5, 12), min_size=1, max_size=4),
    n=st.integers(2, 6),
    attend=st.booleans(),
    batch=st.sampled_from([1, 4, 256]),
    seed=st.integers(0, 99),
)
def test_the_same_as_one_sentence_and_position_at_a_time(lengths, n, attend, batch, seed):
    model, draw = tiny(seed), np.random.default_rng(seed)
    sentences = [sentence(*draw.integers(0, 3, length)) for length in lengths]
    chosen = NgramSettings(n=(n,), positions=(2, 4, 5, 9), attend_masked=attend, batch_size=batch)
    expected = reference.ngrams(model, sentences, MASK, (BOS, EOS), n, chosen.positions, attend)
    if expected is None:
        with pytest.raises(ConfigError, match="no sentence has room for a"):
            probe_ngrams(predictor(model), sentences, MASK, [BOS, EOS], chosen)
        return
    (found,) = probe_ngrams(predictor(model), sentences, MASK, [BOS, EOS], chosen)
    assert (found.robust, found.close) == pytest.approx(expected, abs=1e-9)
    assert found.robust > 0


def test_a_causal_model_is_refused():
    causal = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=8, n_embd=8, n_layer=1, n_head=1, n_positions=16, bos_token_id=3, eos_token_id=4
        )
    )
    with pytest.raises(ConfigError, match="from the left alone"):
        predictor(causal)


def test_a_model_is_left_as_it_was():
    model = tiny().train()
    probe_ngrams(
        predictor(model), [sentence(0, 1, 2, 0, 1, 2)], MASK, [BOS, EOS], NgramSettings(positions=(4,))
    )
    assert model.training


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", (1,)),
        ("n", ()),
        ("positions", (-1,)),
        ("positions", ()),
        ("batch_size", 0),
        ("convention", "total"),
    ],
)
def test_settings_that_cannot_be(field, value):
    with pytest.raises(ConfigError, match=f"{field}: .*accepted"):
        NgramSettings(**{field: value})
