"""A head is found where it is a linear layer, with the factor and cap that the model gives its logits; and
nowhere else.
"""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from tests.models.families import LANGUAGE_MODELS, VOCAB, batch_of, config_of, model_of
from vigreux.distillation.signals.cached import SAMPLES
from vigreux.models.heads import Head, find_head
from vigreux.models.student import build
from vigreux.models.views import LogitsView

SMALL = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,  # noqa: E501
    "head_dim": 8, "vocab_size": VOCAB, "max_position_embeddings": 32,
}  # fmt: skip
SCALED = {
    "Gemma2Config": ({"final_logit_softcapping": 5.0}, 1.0, 5.0),
    "CohereConfig": ({"logit_scale": 0.125}, 0.125, None),
    "GraniteConfig": ({"logits_scaling": 4.0}, 0.25, None),
}


def hooks(model: nn.Module) -> int:
    """transformers leaves some of its own behind when it is asked for hidden states."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize(("name", "auto_class"), LANGUAGE_MODELS)
def test_the_models_logits_come_from_what_the_head_is_given(name: str, auto_class: str) -> None:
    model, batch = model_of(name, auto_class), batch_of(name)
    view, before = LogitsView(model), hooks(model)
    head = find_head(model, view, batch)
    assert head is not None
    assert head.module is model.get_output_embeddings()
    positions = batch["attention_mask"].bool()
    rows = view.head_input(batch, head.module, positions)
    with torch.no_grad():
        torch.testing.assert_close(head.now().logits(rows), view(batch, positions), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        view.head_input(batch, head.module)[positions.flatten()], rows, rtol=1e-5, atol=1e-5
    )
    assert hooks(model) == before


def test_the_last_block_of_bert_works_on_the_rows_that_count() -> None:
    model, batch = model_of("bert", "AutoModelForMaskedLM"), batch_of("bert")
    view = LogitsView(model)
    head = find_head(model, view, batch)
    assert head is not None
    assert head.after == "bert.encoder.layer.2.attention"
    positions = batch["attention_mask"].bool() & (torch.arange(10) % 3 == 0)
    seen: list[int] = []
    handle = model.bert.encoder.layer[-1].intermediate.register_forward_hook(
        lambda module, args, output: seen.append(args[0].shape[:-1].numel())
    )
    early = view.head_input(batch, head.module, positions, after=head.after)
    late = view.head_input(batch, head.module, positions)
    handle.remove()
    assert seen == [int(positions.sum()), positions.numel()]
    torch.testing.assert_close(early, late, rtol=1e-5, atol=1e-5)


def test_only_where_nothing_is_mixed_after_it() -> None:
    found = {}
    for name, auto_class in LANGUAGE_MODELS:
        model, batch = model_of(name, auto_class), batch_of(name)
        head = find_head(model, LogitsView(model), batch)
        assert head is not None
        found[name] = head.after is not None
    assert found["bert"]
    assert not found["gpt2"]
    assert not found["llama"]


def test_not_under_gradient_checkpointing() -> None:
    """The recomputed block would not drop what the first one dropped."""
    model, batch = build(config_of("bert"), "AutoModelForMaskedLM", 0).train(), batch_of("bert")
    view = LogitsView(model)
    head = find_head(model, view, batch)
    assert head is not None
    model.gradient_checkpointing_enable()
    positions = batch["attention_mask"].bool()
    view.head_input(batch, head.module, positions, after=head.after).sum().backward()
    assert model.bert.encoder.layer[0].intermediate.dense.weight.grad is not None


@pytest.mark.parametrize("name", SCALED)
def test_what_is_done_with_the_product(name: str) -> None:
    options, scale, cap = SCALED[name]
    model = transformers.AutoModelForCausalLM.from_config(
        getattr(transformers, name)(**SMALL, **options)
    ).train()
    view, batch = LogitsView(model), batch_of("gpt2")
    head = find_head(model, view, batch)
    assert head is not None
    assert (head.scale, head.cap) == (scale, cap)
    assert model.training
    with torch.no_grad():
        torch.testing.assert_close(
            head.now().logits(view.head_input(batch, head.module)), view(batch).flatten(0, 1)
        )


def test_what_is_more_than_a_linear_layer_is_none() -> None:
    model, batch = model_of("gpt2", "AutoModelForCausalLM"), batch_of("gpt2")

    class Adapted(nn.Linear):
        pass

    plain = model.lm_head
    try:
        model.lm_head = Adapted(16, VOCAB, bias=False)
        assert find_head(model, LogitsView(model), batch) is None
    finally:
        model.lm_head = plain


def test_logits_that_no_head_explains_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of("gpt2", "AutoModelForCausalLM"), batch_of("gpt2")
    view = LogitsView(model)
    original = LogitsView.forward
    monkeypatch.setattr(
        LogitsView, "forward", lambda self, batch, positions=None: original(self, batch, positions) * 1.1
    )
    assert find_head(model, view, batch) is None


def test_the_slope_is_the_derivative() -> None:
    hidden = torch.randn(3, 4, dtype=torch.float64)
    head = Head(torch.randn(5, 4, dtype=torch.float64), None, 0.5, 2.0)
    product = (hidden @ head.weight.T).requires_grad_(True)
    logits = 2 * torch.tanh(0.5 * product / 2)
    (expected,) = torch.autograd.grad(logits.sum(), product)
    torch.testing.assert_close(head.slope(head.logits(hidden)), expected)


def test_logits_by_tiles_of_the_vocabulary() -> None:
    """More tokens than a tile, with and without a bias, into memory that is at hand."""
    hidden, weight, bias = torch.randn(3, 4), torch.randn(1100, 4), torch.randn(1100)
    for own in (None, bias):
        room = torch.empty(3, 1100)
        found = Head(weight, own).logits(hidden, out=room)
        assert found.data_ptr() == room.data_ptr()
        torch.testing.assert_close(found, hidden @ weight.T + (0 if own is None else own))


def test_a_trial_holds_few_logits() -> None:
    """Of a batch whose logits would not fit, a corner."""
    model = model_of("gpt2", "AutoModelForCausalLM")
    batch = {
        "input_ids": torch.zeros(64, 10, dtype=torch.long),
        "attention_mask": torch.ones(64, 10, dtype=torch.long),
    }
    batch[SAMPLES] = torch.arange(64)  # as from a cache
    rows: list[int] = []
    handle = model.lm_head.register_forward_hook(
        lambda module, args, output: rows.append(output.shape[:-1].numel())
    )
    assert find_head(model, LogitsView(model), batch) is not None
    handle.remove()
    assert 0 < max(rows) <= 20
