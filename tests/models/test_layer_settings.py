"""Blocks of several kinds: a student's config says of its blocks what the teacher's says of those that they
follow.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, LongformerConfig, PreTrainedModel

from vigreux.errors import ConfigError
from vigreux.models.copy_layers import copy_layers_
from vigreux.models.layer_settings import paired_layers, spread_layers
from vigreux.models.layout import block_list
from vigreux.models.student import build, make_student, student_config

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
NEO = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_layers": 6,
    "num_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "window_size": 4,
    "attention_types": [[["global", "local"], 3]],
}
MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
}
# In each of these the first three blocks are of other kinds than blocks 0, 2 and 5.
KINDS: dict[str, dict[str, Any]] = {
    "gemma2": SIZES | {"sliding_window": 4, "head_dim": 8},
    "gemma3_text": SIZES
    | {"sliding_window": 4, "head_dim": 8, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2},  # noqa: E501
    "qwen2": SIZES | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3},
    "smollm3": SIZES | {"no_rope_layer_interval": 3},
    "gpt_neo": NEO,
    "qwen3_moe": SIZES | EXPERTS | {"head_dim": 8, "mlp_only_layers": [2], "decoder_sparse_step": 2},
    "jamba": SIZES
    | {"attn_layer_offset": 5, "attn_layer_period": 6, "expert_layer_offset": 2, "expert_layer_period": 6}
    | {"num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": 4, "mamba_dt_rank": 4},
    "bamba": SIZES | MAMBA | {"attn_layer_indices": [1, 5]},
    "nemotron_h": {name: value for name, value in SIZES.items() if name != "num_hidden_layers"}
    | {"head_dim": 8, "layers_block_type": ["linear_attention", "mlp", "full_attention"] * 2}
    | {"mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 8},
    "lfm2_moe": SIZES | EXPERTS | {"layer_types": ["conv", "full_attention", "conv"] * 2, "num_dense_layers": 1},  # noqa: E501
    "recurrent_gemma": SIZES | {"lru_width": 32, "attention_window_size": 8},
}  # fmt: skip
COPIED = [0, 2, 5]


def hand_on(block: nn.Module, args: Any, named: Any, output: Any) -> Any:
    """A hook: the block's output becomes its input."""
    hidden = args[0] if args else named["hidden_states"]
    return hidden if isinstance(output, Tensor) else (hidden, *output[1:])


def teacher_of(family: str) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **KINDS[family])
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def without_the_others(teacher: PreTrainedModel, ids: Tensor) -> Tensor:
    """Its logits when the blocks that are not copied hand their input on."""
    for index, block in enumerate(block_list(teacher)):
        if index not in COPIED:
            block.register_forward_hook(hand_on, with_kwargs=True)
    logits: Tensor = teacher(input_ids=ids, use_cache=False).logits
    return logits


@pytest.mark.parametrize("family", KINDS)
def test_copied_blocks_keep_their_kind(family: str) -> None:
    teacher, ids = teacher_of(family), torch.arange(3, 19)[None]
    student = make_student(teacher.config, "AutoModelForCausalLM", from_layers=COPIED).eval()
    copy_layers_(student, teacher, COPIED)
    again = type(student.config).from_dict(student.config.to_dict())  # as a saved student is opened
    opened = build(again, "AutoModelForCausalLM").eval()
    opened.load_state_dict(student.state_dict())
    with torch.no_grad():
        found = opened(input_ids=ids, use_cache=False).logits
    expected = without_the_others(teacher, ids)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_blocks_of_another_kind_are_refused_and_left_as_they_are() -> None:
    teacher = teacher_of("gemma2")
    student = make_student(teacher.config, "AutoModelForCausalLM", from_layers=[0, 1, 2])
    before = {name: value.clone() for name, value in student.state_dict().items()}
    message = r"block 1 of the student is not of the kind of the teacher's block 2 \(layer_types is .*\); accepted: "  # noqa: E501
    with pytest.raises(ConfigError, match=message):
        copy_layers_(student, teacher, COPIED)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    copy_layers_(student, teacher, [2, 3, 4])


def test_blocks_that_are_scaled_by_their_place() -> None:
    sizes = {"n_embd": 32, "n_layer": 4, "n_head": 4, "vocab_size": 61, "n_positions": 32}
    teacher = build(GPT2Config(**sizes, scale_attn_by_inverse_layer_idx=True), "AutoModelForCausalLM")
    student = make_student(teacher.config, "AutoModelForCausalLM", layers=2)
    with pytest.raises(ConfigError, match=r"scale_attn_by_inverse_layer_idx"):
        copy_layers_(student, teacher, [0, 2])
    copy_layers_(student, teacher, [0, 1])


def test_a_rule_that_cannot_say_it_is_refused() -> None:
    teacher = teacher_of("jamba")  # attention in block 5 of 6, experts in block 2
    for layers in ([2, 3, 4], [0, 1, 5], [2, 5]):
        student = make_student(teacher.config, "AutoModelForCausalLM", from_layers=layers)
        copy_layers_(student, teacher, layers)
    teacher.config.attn_layer_period, teacher.config.attn_layer_offset = 3, 2
    teacher = build(teacher.config, "AutoModelForCausalLM")  # attention in blocks 2 and 5
    student = make_student(teacher.config, "AutoModelForCausalLM", from_layers=[1, 2, 5])
    with pytest.raises(
        ConfigError, match=r"block \d of the student is not of the kind of the teacher's block"
    ):
        copy_layers_(student, teacher, [1, 2, 5])


@pytest.mark.parametrize(
    ("types", "layers", "expected"),
    [
        (["linear_attention"] * 3 + ["full_attention"], 2, [0, 3]),
        (["linear_attention"] * 2 + ["full_attention"] + ["linear_attention"], 2, [0, 2]),
        (["linear_attention"] * 2 + ["full_attention"] + ["linear_attention"], 1, [2]),
        (["sliding_attention", "full_attention"] * 3, 2, [0, 5]),
        (["sliding_attention"] * 6, 3, [0, 2, 5]),
        (["sliding_attention", "full_attention"] * 2, 5, [0, 1, 2, 3, 0]),
    ],
)
def test_every_kind_is_there(types: list[str], layers: int, expected: list[int]) -> None:
    config = AutoConfig.for_model(
        "gemma3_text", **SIZES | {"num_hidden_layers": len(types), "layer_types": types}
    )
    assert paired_layers(config, layers) == expected
    assert student_config(config, layers=layers).layer_types == [types[layer] for layer in expected]


def test_a_list_of_another_name() -> None:
    config = LongformerConfig(**SIZES | {"attention_window": [2, 4, 6, 8, 10, 12]})
    assert student_config(config, layers=3).attention_window == [2, 6, 12]
    assert student_config(config, layers=3, hidden=16).attention_window == [2, 6, 12]


def test_from_layers_says_how_many() -> None:
    config = AutoConfig.for_model("gemma2", **KINDS["gemma2"])
    assert student_config(config, from_layers=[1, 3]).num_hidden_layers == 2
    with pytest.raises(ConfigError, match=r"student\.from_layers: 2 layers for 3 student blocks"):
        student_config(config, layers=3, from_layers=[1, 3])
    with pytest.raises(
        ConfigError, match=r"student\.from_layers: 6 is outside the teacher; accepted: 0 to 5"
    ):
        student_config(config, from_layers=[1, 6])


def test_spread_layers() -> None:
    assert spread_layers(12, 6) == [0, 2, 4, 7, 9, 11]
    assert spread_layers(6, 3) == [0, 2, 5]
    assert spread_layers(4, 4) == [0, 1, 2, 3]
    assert spread_layers(4, 1) == [0]
    with pytest.raises(ConfigError, match=r"student\.layers: 5 cannot be copied from a teacher of 4"):
        spread_layers(4, 5)
