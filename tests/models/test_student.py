"""A student's config from the teacher's, for every family; models by seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    Qwen3Config,
    T5Config,
)

from tests.models.families import EVERY_MODEL, FAMILIES, batch_of, config_of
from vigreux.errors import ConfigError
from vigreux.models.layout import find_layout, hidden_size, num_blocks
from vigreux.models.student import build, make_student, student_config
from vigreux.models.views import LogitsView, cut


@pytest.mark.parametrize(("name", "auto_class"), EVERY_MODEL)
def test_students_of_every_family_build_run_and_reload(name: str, auto_class: str, tmp_path: Path) -> None:
    student = make_student(config_of(name), auto_class, layers=2, hidden=16, seed=5).eval()
    assert (num_blocks(student), hidden_size(student, depth=1)) == (2, 16)
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}
    student.save_pretrained(tmp_path)
    again = getattr(transformers, auto_class).from_pretrained(tmp_path).eval()
    batch = batch_of(name)
    assert torch.equal(cut(again, 2)(batch), cut(student, 2)(batch))
    assert torch.equal(LogitsView(again)(batch), LogitsView(student)(batch))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_teachers_own_sizes_are_the_default(name: str) -> None:
    config = config_of(name)
    before = config.to_dict()
    spread = {name: before[name] for name in ("initializer_range", "init_std") if name in before}
    assert (
        student_config(config).to_dict() | spread == before
    )  # but for the spread of random weights, see below
    student_config(config, layers=1, hidden=16, heads=2, intermediate=20)
    assert config.to_dict() == before  # the caller's config is not edited


@pytest.mark.parametrize(("width", "std"), [(64, 0.125), (256, 0.0625), (1024, 0.03125), (4096, 0.02)])
def test_random_weights_keep_unit_gain(width: int, std: float) -> None:
    config = BertConfig(hidden_size=4096, num_attention_heads=64)
    assert student_config(config, hidden=width).initializer_range == pytest.approx(std)


def sizes(config: PreTrainedConfig) -> tuple[int | None, ...]:
    names = (
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
    )
    return tuple(getattr(config, name, None) for name in names)


SMOLLM = {"hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536}
QWEN3 = {
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
}
GEMMA = {
    "hidden_size": 2048,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 16384,
}


@pytest.mark.parametrize(
    ("teacher", "wanted", "expected"),
    [
        (
            LlamaConfig(**SMOLLM),
            {"layers": 6, "hidden": 192},
            (6, 192, 3, 1, 64, 512),
        ),  # head size 64 and groups of 3 kept
        (
            LlamaConfig(**SMOLLM),
            {"hidden": 200},
            (32, 200, 5, 5, 40, 533),
        ),  # 64 does not divide: largest fitting divisor
        (LlamaConfig(**SMOLLM), {"heads": 6}, (32, 576, 6, 2, 96, 1536)),
        (
            Qwen3Config(**QWEN3),
            {"hidden": 512},
            (32, 512, 8, 4, 128, 1536),
        ),  # heads × head size is not the hidden size
        (GemmaConfig(**GEMMA), {"hidden": 1024, "intermediate": 99}, (28, 1024, 4, 1, 256, 99)),
    ],
)
def test_heads_and_feed_forward(
    teacher: PreTrainedConfig, wanted: dict[str, int], expected: tuple[int, ...]
) -> None:
    assert sizes(student_config(teacher, **wanted)) == expected


def test_family_names() -> None:
    gpt2 = student_config(GPT2Config(), hidden=192, layers=2)
    assert (gpt2.n_embd, gpt2.n_layer, gpt2.n_head, gpt2.n_inner) == (192, 2, 3, None)
    assert student_config(GPT2Config(), hidden=192, intermediate=300).n_inner == 300
    t5 = student_config(T5Config(), hidden=128, layers=2)
    assert (t5.d_model, t5.num_layers, t5.num_decoder_layers, t5.num_heads, t5.d_kv, t5.d_ff) == (
        128,
        2,
        2,
        2,
        64,
        512,
    )
    assert student_config(config_of("distilbert"), hidden=16).hidden_dim == 24
    assert student_config(config_of("opt"), hidden=16).word_embed_proj_dim == 16
    assert student_config(config_of("opt-projected"), hidden=24).word_embed_proj_dim == 16
    assert student_config(config_of("electra"), hidden=24).embedding_size == 16
    assert student_config(config_of("vit"), hidden=16).pooler_output_size == 16
    assert student_config(config_of("deberta-v2"), hidden=16).pooler_hidden_size == 16


def test_per_layer_settings_are_cut_or_repeated() -> None:
    config = config_of("gemma2")
    assert config.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]
    assert student_config(config, layers=2).layer_types == ["sliding_attention", "full_attention"]
    assert student_config(config, layers=4).layer_types == [*config.layer_types, "sliding_attention"]
    assert student_config(config_of("qwen2"), layers=1).max_window_layers == 1


@given(
    hidden=st.integers(2, 300).map(lambda half: 2 * half), family=st.sampled_from(["bert", "llama", "qwen3"])
)
def test_default_heads_always_fit(hidden: int, family: str) -> None:
    student = student_config(config_of(family), hidden=hidden)
    heads = student.num_attention_heads
    assert hidden % heads == 0
    assert heads % getattr(student, "num_key_value_heads", heads) == 0
    student.validate()


def test_heads_that_do_not_fit() -> None:
    with pytest.raises(
        ConfigError,
        match=r"student\.heads: hidden size 30 does not divide into 4 heads; nearest that works: 3",
    ):
        student_config(config_of("bert"), hidden=30, heads=4)
    assert student_config(config_of("bert"), hidden=30, heads=3).num_attention_heads == 3
    with pytest.raises(ConfigError, match=r"into 10 heads of an even rotary size; nearest that works: 5"):
        student_config(config_of("llama"), hidden=30, heads=10)
    assert student_config(config_of("llama"), hidden=30).head_dim % 2 == 0
    with pytest.raises(ConfigError, match=r"no number of heads works: choose another student\.hidden"):
        student_config(config_of("llama"), hidden=15)
    assert build(student_config(config_of("phi"), hidden=24), "AutoModel").config.hidden_size == 24


def test_a_seed_is_the_weights_and_leaves_the_world_alone() -> None:
    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate()
    models = [build(config_of("bert"), "AutoModel", seed) for seed in (0, 0, 1)]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    first, again, other = (model.embeddings.word_embeddings.weight for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_class_that_the_family_lacks() -> None:
    with pytest.raises(
        ConfigError, match=r"AutoModelForMaskedLM: transformers has none for the family 'gpt2'"
    ):
        build(config_of("gpt2"), "AutoModelForMaskedLM")
    with pytest.raises(ConfigError, match=r"did you mean 'AutoModelForCausalLM'"):
        build(config_of("gpt2"), "AutoModelForCasualLM")
    assert find_layout(build(config_of("gpt2"), "GPT2LMHeadModel")).base == "transformer"
