"""Starts of families whose embeddings end in other ways; teachers of text and images; teachers that
accelerate has placed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from tests.models.families import SIZES, config_of
from vigreux.errors import ConfigError
from vigreux.models.copy_layers import copy_layers_
from vigreux.models.heads import find_head
from vigreux.models.initialise import projected_embeddings_
from vigreux.models.layout import find_layout, hidden_size, num_blocks
from vigreux.models.placed import device_of
from vigreux.models.student import build, make_student, student_config
from vigreux.models.text_config import text_config
from vigreux.models.views import LogitsView, cut

CAUSAL, MASKED = "AutoModelForCausalLM", "AutoModelForMaskedLM"
BERT = SIZES | {"intermediate_size": 48}
IDS = torch.arange(3, 51).view(4, 12)
BATCH = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
P = torch.randn(32, 16, generator=torch.Generator().manual_seed(0)) / 32**0.5


def perturbed(config: Any, auto_class: str) -> PreTrainedModel:
    model = build(config, auto_class).eval()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def fit(student: PreTrainedModel, teacher: PreTrainedModel) -> tuple[float, float]:
    """Correlation of the student's hidden state 0 with its target, and its size against the target's."""
    state, target = cut(student.eval(), 0)(BATCH).flatten(), (cut(teacher, 0)(BATCH) @ P).flatten()
    return float(torch.corrcoef(torch.stack([state, target]))[0, 1]), float(state.norm() / target.norm())


MOBILE = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "embedding_size": 16,
    "intra_bottleneck_size": 32,
    "true_hidden_size": 32,
}
LUKE = {"entity_vocab_size": 10, "entity_emb_size": 16}
RECURRENT = {"num_key_value_heads": 2, "lru_width": 32, "attention_window_size": 8, "pad_token_id": 0}


@pytest.mark.parametrize(
    ("family", "auto_class", "more", "least"),
    [
        ("deberta", MASKED, {}, 0.9),
        ("ibert", MASKED, {}, 0.9),
        ("luke", MASKED, LUKE, 0.9),
        ("mobilebert", MASKED, MOBILE, 0.999),
        ("recurrent_gemma", CAUSAL, RECURRENT, 0.999),
        ("esm", MASKED, {"mask_token_id": 1, "pad_token_id": 0, "token_dropout": False}, 0.9),
    ],
)
def test_the_start_is_what_it_claims(
    family: str, auto_class: str, more: dict[str, Any], least: float
) -> None:
    teacher = perturbed(AutoConfig.for_model(family, **BERT | more), auto_class)
    student = make_student(teacher.config, auto_class, layers=2, hidden=16)
    projected_embeddings_(student, teacher, P)
    correlation, size = fit(student, teacher)
    assert correlation > least
    assert size == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("family", ["xglm", "ctrl"])
def test_a_start_that_does_not_reach_its_target(family: str) -> None:
    config = AutoConfig.for_model(family, vocab_size=61)
    for name, value in {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}.items():
        setattr(config, name, value)
    teacher = perturbed(config, CAUSAL)
    student = make_student(config, CAUSAL, hidden=16)
    with pytest.raises(
        ConfigError, match=r"does not reach the teacher's hidden state 0 .*; accepted: random"
    ):
        projected_embeddings_(student, teacher, P)


@pytest.mark.parametrize(
    ("family", "sizes", "reason"),
    [
        (
            "mamba2",
            {"num_heads": 4, "head_dim": 16, "n_groups": 1, "hidden_size": 32},
            r"num_heads \* head_dim",
        ),
        ("convnext", {}, r"hidden_size"),
        ("funnel", {"block_sizes": [2, 2], "d_model": 32, "n_head": 4, "d_head": 8}, r"num_hidden_layers"),
    ],
)
def test_a_family_that_cannot_be_made_smaller_is_one_line(
    family: str, sizes: dict[str, Any], reason: str
) -> None:
    config = AutoConfig.for_model(family, **sizes)
    with pytest.raises(
        ConfigError, match=rf"{family}.* cannot be made in these sizes \(.*{reason}"
    ) as caught:
        student_config(config, layers=1, hidden=16)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["falcon", "mamba"])
def test_families_with_other_heads(family: str) -> None:
    heads = {"num_attention_heads": 4} if family == "falcon" else {}
    config = AutoConfig.for_model(family, vocab_size=61, hidden_size=32, num_hidden_layers=4, **heads)
    if family == "mamba":
        with pytest.raises(ConfigError, match=r"student\.heads: the family 'mamba' has no attention heads"):
            student_config(config, hidden=16, heads=2)
    student = make_student(config, CAUSAL, layers=2, hidden=16).eval()
    assert num_blocks(student) == 2
    assert LogitsView(student)(BATCH).isfinite().all()


# --- text and images ----------------------------------------------------------------------------------------


def text_and_images() -> PreTrainedModel:
    text = SIZES | {
        "intermediate_size": 48,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 8,
        "pad_token_id": 0,
    }
    vision = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    images = {"image_size": 28, "patch_size": 14}
    config = AutoConfig.for_model(
        "gemma3", text_config=text, vision_config=vision | images, image_token_index=60, mm_tokens_per_image=4
    )
    return perturbed(config, CAUSAL)


def test_a_teacher_of_text_and_images_gets_a_student_of_text() -> None:
    teacher = text_and_images()  # both parts have three blocks
    assert (text_config(teacher).vocab_size, hidden_size(teacher), num_blocks(teacher)) == (61, 32, 3)
    assert "language_model" in find_layout(teacher).blocks
    student = make_student(teacher.config, CAUSAL, layers=2, hidden=16)
    assert type(student).__name__ == "Gemma3ForCausalLM"
    projected_embeddings_(student, teacher, P)
    correlation, size = fit(student, teacher)
    assert (correlation, size) == (pytest.approx(1, abs=1e-4), pytest.approx(1, abs=1e-3))
    whole = make_student(teacher.config, CAUSAL).eval()
    copy_layers_(whole, teacher, [0, 1, 2])
    torch.testing.assert_close(LogitsView(whole)(BATCH), LogitsView(teacher)(BATCH))


class Wrapped(nn.Module):
    """A torch module around a Hugging Face model."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        self.inner = ViTForImageClassification(ViTConfig(**sizes, image_size=8, patch_size=4)).eval()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.inner(pixel_values=inputs).logits
        return logits


def test_a_torch_module_around_a_hugging_face_model_is_run_as_a_whole() -> None:
    model, images = Wrapped(), torch.randn(2, 3, 8, 8)
    path = next(name for name, module in model.named_modules() if isinstance(module, nn.ModuleList))
    layout, kept = find_layout(model, blocks=path), []
    model.get_submodule(path)[-1].register_forward_hook(lambda module, args, output: kept.append(output))
    model(images)
    last = kept[0] if isinstance(kept[0], Tensor) else kept[0][0]
    assert layout.base == ""
    assert torch.equal(cut(model, 2, layout)({"inputs": images}), last)
    assert cut(model, 1, layout)({"inputs": images}).shape == last.shape


# --- placed -------------------------------------------------------------------------------------------------

PARTS = [
    "model.embed_tokens",
    "model.layers.0",
    "model.layers.1",
    "model.layers.2",
    "model.norm",
    "model.rotary_emb",
    "lm_head",
]


@pytest.mark.parametrize("offloaded", [["lm_head", "model.layers.2"], ["model.embed_tokens"], PARTS])
def test_an_offloaded_teacher_is_the_same_teacher(offloaded: list[str], tmp_path: Path) -> None:
    whole = perturbed(config_of("llama"), CAUSAL)
    whole.save_pretrained(tmp_path / "teacher")
    places = {part: "disk" if part in offloaded else "cpu" for part in PARTS}
    placed = AutoModelForCausalLM.from_pretrained(
        tmp_path / "teacher", device_map=places, offload_folder=tmp_path / "offload"
    ).eval()
    assert any(parameter.is_meta for parameter in placed.parameters())
    assert device_of(placed) == torch.device("cpu")
    with torch.no_grad():
        for depth in range(4):
            assert torch.equal(cut(placed, depth)(BATCH), cut(whole, depth)(BATCH))
        positions = torch.zeros_like(IDS, dtype=torch.bool)
        positions[:, 3:7] = True
        assert torch.equal(LogitsView(placed)(BATCH, positions), LogitsView(whole)(BATCH, positions))
    if "lm_head" in offloaded:
        assert find_head(placed, LogitsView(placed), BATCH) is None
    students = [make_student(whole.config, CAUSAL, layers=1, hidden=16) for _ in range(2)]
    copies = [make_student(whole.config, CAUSAL, layers=2) for _ in range(2)]
    for teacher, student, copied in zip((whole, placed), students, copies):
        projected_embeddings_(student, teacher, P)
        copy_layers_(copied, teacher, [0, 2])
    for first, second in (students, copies):
        for name, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[name]), name
