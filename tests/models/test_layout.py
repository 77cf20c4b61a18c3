"""Blocks are found by structure in every family, and by a dotted path anywhere else."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AlbertModel, PreTrainedConfig, PreTrainedModel, T5Config, T5Model

from tests.models.families import EVERY_MODEL, LAYERS, model_of
from vigreux.errors import ConfigError
from vigreux.models.layout import Layout, find_layout, hidden_size, num_blocks


@pytest.mark.parametrize(("name", "auto_class"), EVERY_MODEL)
def test_every_family_is_found(name: str, auto_class: str) -> None:
    model = model_of(name, auto_class)
    layout = find_layout(model)
    assert num_blocks(model) == LAYERS
    assert hidden_size(model, depth=1) == 32
    blocks = model.get_submodule(layout.blocks)
    assert len({type(block) for block in blocks.children()}) == 1
    assert find_layout(model, blocks=layout.blocks) == layout


def test_literal_layouts() -> None:
    assert find_layout(model_of("gpt2", "AutoModelForCausalLM")) == Layout(
        "transformer", "transformer.h", ("transformer.ln_f",)
    )
    assert find_layout(model_of("bert")) == Layout("", "encoder.layer", unused=("pooler",))
    assert find_layout(model_of("opt-projected")).after == ("decoder.project_out",)
    assert find_layout(model_of("vit")).unused == (
        "pooler",
        "layernorm",
    )  # its hidden_states[L] come before the norm
    assert find_layout(model_of("deberta-v2")).between == ("encoder.rel_embeddings", "encoder.LayerNorm")


def test_the_last_hidden_state_may_be_narrower() -> None:
    model = model_of("opt-projected")
    assert [hidden_size(model, depth=depth) for depth in (0, LAYERS - 1, LAYERS)] == [32, 32, 16]


class Odd(PreTrainedModel):
    """A model with two lists of blocks, so that neither can be chosen for the user."""

    config_class = PreTrainedConfig

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.left = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.right = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.finish = nn.LayerNorm(4)


@pytest.fixture
def odd() -> Odd:
    config = PreTrainedConfig()
    config.num_hidden_layers, config.hidden_size = 2, 4
    return Odd(config)


def test_an_unknown_architecture_says_how_to_name_its_blocks(odd: Odd) -> None:
    with pytest.raises(
        ConfigError, match=r"several lists of 2 blocks: name .* teacher\.blocks.*'left' \(2\), 'right' \(2\)"
    ):
        find_layout(odd)
    assert find_layout(odd, blocks="left", after=["finish"]) == Layout("", "left", ("finish",))


def test_a_wrong_path_names_the_nearest(odd: Odd) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.blocks: unknown value 'lefft'; did you mean 'left'"):
        find_layout(odd, blocks="lefft")
    with pytest.raises(
        ConfigError, match=r"'finish' is a LayerNorm, not a list of blocks; accepted: 'left', 'right'"
    ):
        find_layout(odd, blocks="finish")
    with pytest.raises(
        ConfigError, match=r"teacher\.after_blocks: unknown value 'finich'; did you mean 'finish'"
    ):
        find_layout(odd, blocks="left", after=["finich"])


def test_shared_blocks_are_refused_and_separate_ones_are_not() -> None:
    sizes = {
        "hidden_size": 16,
        "embedding_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 20,
    }
    with pytest.raises(ConfigError, match=r"AlbertModel runs 1 block\(s\) 3 times"):
        find_layout(AlbertModel(AlbertConfig(**sizes, num_hidden_layers=3)))
    separate = AlbertModel(AlbertConfig(**sizes, num_hidden_layers=3, num_hidden_groups=3))
    assert num_blocks(separate) == 3


def test_an_encoder_decoder_is_ambiguous() -> None:
    config = T5Config(d_model=16, num_layers=2, num_heads=2, d_kv=8, d_ff=16, vocab_size=20)
    with pytest.raises(ConfigError, match=r"'encoder\.block' \(2\), 'decoder\.block' \(2\)"):
        find_layout(T5Model(config))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU())
        self.head = nn.Linear(6, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.net(inputs))
        return out


def test_plain_modules() -> None:
    mlp = Mlp()
    assert find_layout(mlp.net) == Layout("", "")
    with pytest.raises(ConfigError, match=r"Mlp is not a Hugging Face model: name its blocks .*'net' \(4\)"):
        find_layout(mlp)
    layout = find_layout(mlp, blocks="net")
    assert layout == Layout("", "net")
    assert [hidden_size(mlp, layout, depth) for depth in range(5)] == [3, 8, 8, 6, 6]
