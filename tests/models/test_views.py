"""A view's output is the full model's hidden state, bit for bit; it holds what it uses and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tests.models.families import EVERY_MODEL, LANGUAGE_MODELS, LAYERS, batch_of, config_of, model_of
from tests.models.layout_check import verify_layout
from tests.models.test_layout import Mlp
from vigreux.errors import ConfigError
from vigreux.models.hidden_states import unused_parameters
from vigreux.models.layout import block_list, find_layout
from vigreux.models.student import build
from vigreux.models.views import LogitsView, PooledView, cut

FAMILIES = sorted({name for name, _ in EVERY_MODEL})
HEADLESS = [(name, auto) for name, auto in EVERY_MODEL if auto in ("AutoModel", "AutoModelForTextEncoding")]


def hidden_states(model: PreTrainedModel, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    states: tuple[Tensor, ...] = model(**inputs, output_hidden_states=True).hidden_states
    return states


@pytest.mark.parametrize(("name", "auto_class"), EVERY_MODEL)
def test_views_are_the_hidden_states_and_hold_what_they_use(name: str, auto_class: str) -> None:
    model, batch = model_of(name, auto_class), batch_of(name)
    states = hidden_states(model, batch)
    own = {id(parameter) for parameter in model.parameters()}
    for depth in range(LAYERS + 1):
        view = cut(model, depth)
        assert torch.equal(view(batch), states[depth])
        assert unused_parameters(view, batch) == []
        assert {id(parameter) for parameter in view.parameters()} <= own


@pytest.mark.parametrize(("name", "auto_class"), EVERY_MODEL)
def test_the_last_hidden_state_before_the_final_norm(name: str, auto_class: str) -> None:
    model, batch = model_of(name, auto_class), batch_of(name)
    layout = find_layout(model)
    if not layout.after:
        with pytest.raises(ConfigError, match=r"hidden.final_norm: .* has no norm after its last block"):
            cut(model, LAYERS, final_norm=False)
        return
    seen: list[Tensor] = []
    handle = block_list(model)[-1].register_forward_hook(
        lambda module, args, output: seen.append(output if isinstance(output, Tensor) else output[0])
    )
    hidden_states(model, batch)
    handle.remove()
    view = cut(model, LAYERS, final_norm=False)
    assert torch.equal(view(batch), seen[0])
    assert unused_parameters(view, batch) == []
    assert torch.equal(
        cut(model, 1, final_norm=False)(batch), hidden_states(model, batch)[1]
    )  # says nothing of other states


@pytest.mark.parametrize(("name", "auto_class"), HEADLESS)
def test_views_under_dropout(name: str, auto_class: str) -> None:
    model, batch = build(config_of(name), auto_class, 0).train(), batch_of(name)
    for depth in range(LAYERS + 1):
        torch.manual_seed(3)
        expected = hidden_states(model, batch)[depth]
        torch.manual_seed(3)
        found = cut(model, depth)(batch)
        if (
            name == "gpt2"
        ):  # differs in the last bit on some processors (Zen 4); another dropout mask would differ by tenths
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        else:
            assert torch.equal(found, expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_model_stays_as_it_was(name: str) -> None:
    auto_class = "AutoModelForTextEncoding" if name == "t5-encoder" else "AutoModel"
    model, batch = model_of(name, auto_class), batch_of(name)
    before, output = dict(model.named_modules()), hidden_states(model, batch)[-1]
    view = cut(model, 1)
    view(batch)
    PooledView(model)(batch)
    assert dict(model.named_modules()) == before
    assert torch.equal(hidden_states(model, batch)[-1], output)
    first = model.get_submodule(find_layout(model).blocks).get_submodule("0")
    assert any(module is first for module in view.modules())  # the block itself, not a copy


def test_training_a_view_trains_the_model() -> None:
    model, batch = build(config_of("gpt2"), "AutoModelForCausalLM", 0), batch_of("gpt2")
    before = copy.deepcopy(model.state_dict())
    view = cut(model, 2)
    optimizer = torch.optim.SGD(view.parameters(), lr=0.1)
    view(batch).pow(2).sum().backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert "transformer.h.1.mlp.c_fc.weight" in moved
    assert not any(name.startswith(("transformer.h.2.", "transformer.ln_f")) for name in moved)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5-encoder"])
def test_gradient_checkpointing(name: str, reentrant: bool) -> None:
    auto_class = "AutoModelForTextEncoding" if name == "t5-encoder" else "AutoModel"
    batch, gradients = batch_of(name), []
    for recompute in (False, True):
        model = build(config_of(name), auto_class, 0).train()
        view = cut(model, 2)
        if recompute:
            view.activation_checkpointing_enable({"use_reentrant": reentrant})
        torch.manual_seed(4)
        view(batch).pow(2).sum().backward()
        gradients.append([parameter.grad for parameter in view.parameters()])
    assert all(torch.allclose(plain, again, atol=1e-6) for plain, again in zip(*gradients))


def test_depth_outside_the_model() -> None:
    with pytest.raises(ConfigError, match=r"depth: 4 is outside the model; accepted: 0 \(embeddings\) to 3"):
        cut(model_of("bert"), LAYERS + 1)


# --- torch modules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "net"])
def test_views_of_plain_modules(path: str) -> None:
    whole = Mlp()
    model = whole.net if path == "" else whole
    layout = find_layout(model, blocks=path, after=["head"] if path else None)
    batch = {"inputs": torch.randn(5, 3), "labels": torch.zeros(5, dtype=torch.long)}
    for depth in range(5):
        view = cut(model, depth, layout)
        assert torch.equal(view(batch), whole.net[:depth](batch["inputs"]))
        assert list(view.parameters()) == list(whole.net[:depth].parameters())
    verify_layout(model, layout, batch)
    assert torch.equal(LogitsView(whole)(batch), whole(batch["inputs"]))


class Normed(Mlp):
    """Its norm runs after the blocks, under a name that nothing could guess."""

    def __init__(self) -> None:
        super().__init__()
        self.surprise = nn.LayerNorm(6)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.surprise(self.net(inputs))
        return out


def test_verify_layout_finds_what_was_not_named() -> None:
    model, batch = Normed(), {"inputs": torch.randn(5, 3)}
    with pytest.raises(
        ConfigError,
        match=r"does not depend on head\.weight, head\.bias, surprise\.weight.*teacher\.after_blocks",
    ):
        verify_layout(model, find_layout(model, blocks="net"), batch)
    named = find_layout(model, blocks="net", after=["surprise", "head"])
    verify_layout(model, named, batch)
    assert torch.equal(cut(model, 4, named)(batch), model.net(batch["inputs"]))


class Backwards(Mlp):
    def forward(self, inputs: Tensor) -> Tensor:
        for module in reversed(self.net):
            inputs = module(inputs)
        return inputs


def test_verify_layout_on_a_transformer_named_by_hand() -> None:
    model, batch = model_of("gpt2"), batch_of("gpt2")
    with pytest.raises(
        ConfigError,
        match=r"hidden state 0 does not depend on ln_f\.weight, ln_f\.bias; name .* teacher\.after_blocks",
    ):
        verify_layout(model, find_layout(model, blocks="h", after=[]), batch)
    verify_layout(model, find_layout(model, blocks="h", after=["ln_f"]), batch)


def test_verify_layout_finds_blocks_that_do_not_run_in_order() -> None:
    model = Backwards()
    model.net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with pytest.raises(ConfigError, match=r"run in the order \[1, 0\]"):
        verify_layout(model, find_layout(model, blocks="net"), {"inputs": torch.randn(2, 3)})


@pytest.mark.parametrize("name", ["bert", "gpt2", "deberta-v2", "vit"])
def test_verify_layout_passes_what_was_found(name: str) -> None:
    verify_layout(model_of(name), find_layout(model_of(name)), batch_of(name))


# --- logits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "auto_class"), LANGUAGE_MODELS)
def test_logits_at_the_positions_that_count(name: str, auto_class: str) -> None:
    model, batch = model_of(name, auto_class), batch_of(name)
    view = LogitsView(model)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    positions = torch.rand(3, 10, generator=torch.Generator().manual_seed(0)) > 0.6
    full = model(**inputs).logits[positions]  # (N, V)
    hooks = [len(module._forward_hooks) for module in model.modules()]
    selected = view(batch, positions)
    torch.testing.assert_close(selected, full)
    assert torch.equal(selected, view(batch, positions.flatten().nonzero().squeeze(1)))
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert torch.equal(view(batch), model(**inputs).logits)

    none = view(batch, torch.zeros(3, 10, dtype=torch.bool))
    assert none.shape == (0, full.shape[1])

    parameters = list(model.parameters())
    weights = torch.randn(full.shape)
    expected = torch.autograd.grad((full * weights).sum(), parameters)
    torch.testing.assert_close(
        torch.autograd.grad((selected * weights).sum(), parameters), expected, atol=1e-4, rtol=1e-4
    )
    assert all(gradient is not None for gradient in torch.autograd.grad(none.sum(), parameters))


def test_the_head_sees_only_the_selected_rows() -> None:
    model, batch = model_of("bert", "AutoModelForMaskedLM"), batch_of("bert")
    seen: list[torch.Size] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda module, args: seen.append(args[0].shape)
    )
    positions = torch.zeros(3, 10, dtype=torch.bool)
    positions[0, 2] = positions[2, 1] = True
    LogitsView(model)(batch, positions)
    handle.remove()
    assert seen == [torch.Size([1, 2, 32])]


def test_an_architecture_that_is_not_recognised_still_has_logits() -> None:
    from transformers import AlbertConfig, AlbertForMaskedLM

    sizes = {
        "hidden_size": 16,
        "embedding_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 61,
    }
    model = AlbertForMaskedLM(AlbertConfig(**sizes, num_hidden_layers=3)).eval()
    batch, positions = batch_of("bert"), torch.rand(3, 10) > 0.5
    expected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[positions]
    torch.testing.assert_close(LogitsView(model)(batch, positions), expected)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_classification_logits(name: str) -> None:
    model, batch = model_of(name, "AutoModelForSequenceClassification"), batch_of(name)
    assert LogitsView(model)(batch).shape == (3, 3)
    assert unused_parameters(LogitsView(model), batch) == []


def test_labels_never_reach_the_model() -> None:
    model, batch = model_of("gpt2", "AutoModelForCausalLM"), batch_of("gpt2")
    LogitsView(model)(batch | {"labels": torch.full((1,), 10**6)})  # would not survive the model's own loss


# --- pooling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_pooling(name: str) -> None:
    model, batch = model_of(name), batch_of(name)
    states, lengths = hidden_states(model, batch)[-1], [10, 7, 4]
    mean, cls, last = (PooledView(model, pooling)(batch) for pooling in ("mean", "cls", "last"))
    for row, length in enumerate(lengths):
        torch.testing.assert_close(mean[row], states[row, :length].mean(dim=0))
        assert torch.equal(cls[row], states[row, 0])
        assert torch.equal(last[row], states[row, length - 1])
    assert unused_parameters(PooledView(model), batch) == []


def test_last_token_under_left_padding() -> None:
    model, batch = model_of("gpt2"), batch_of("gpt2")
    flipped = {name: value.flip(1) for name, value in batch.items() if name != "labels"}
    assert torch.equal(PooledView(model, "last")(flipped), hidden_states(model, flipped)[-1][:, -1])
