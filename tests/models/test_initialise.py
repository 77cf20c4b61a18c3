"""Hidden state 0 of an initialised student is the teacher's times the matrix; copied layers compute what they
did.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tests.models.families import EVERY_MODEL, VOCAB, batch_of, config_of, model_of
from vigreux.errors import ConfigError
from vigreux.models.copy_layers import copy_layers_
from vigreux.models.initialise import projected_embeddings_
from vigreux.models.layout import find_layout
from vigreux.models.student import build, make_student, student_config
from vigreux.models.views import LogitsView, cut

EXACT = (
    "gpt2",
    "gpt-neox",
    "opt",
    "opt-projected",
    "llama",
    "gemma",
    "gemma2",
    "phi",
    "qwen3",
    "t5-encoder",
    "vit",
    "electra",
)
NORMED = ("bert", "roberta", "distilbert", "deberta-v2", "deberta-v2-conv", "modernbert")


def headless(name: str) -> str:
    return "AutoModelForTextEncoding" if name == "t5-encoder" else "AutoModel"


def matrix(hidden: int) -> Tensor:
    """(d_T, d_S) Gaussian, preserving the mean variance of a coordinate."""
    return torch.randn(32, hidden, generator=torch.Generator().manual_seed(0)) / 32**0.5


def initialised(name: str, auto_class: str, hidden: int) -> tuple[PreTrainedModel, PreTrainedModel, Tensor]:
    teacher, P = model_of(name, auto_class), matrix(hidden)
    student = make_student(teacher.config, auto_class, layers=1, hidden=hidden).eval()
    assert projected_embeddings_(student, teacher, P) == []
    return student, teacher, P


def explained(state: Tensor, target: Tensor) -> float:
    unexplained = (state - target).pow(2).sum() / (target - target.mean(dim=(0, 1))).pow(2).sum()
    return 1 - unexplained.item()


@pytest.mark.parametrize("name", EXACT)
def test_exact_where_embeddings_are_linear(name: str) -> None:
    student, teacher, P = initialised(name, headless(name), 24)
    batch = batch_of(name)
    torch.testing.assert_close(cut(student, 0)(batch), cut(teacher, 0)(batch) @ P, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["electra", "opt-projected"])
def test_a_student_as_narrow_as_the_teachers_embeddings(name: str) -> None:
    student, teacher, P = initialised(name, "AutoModel", 16)  # no projection is left in it
    batch = batch_of(name)
    share = explained(cut(student, 0)(batch), cut(teacher, 0)(batch) @ P)
    assert share > (0.999 if name == "opt-projected" else 0.75)


@pytest.mark.parametrize("name", NORMED)
def test_a_norm_is_folded(name: str) -> None:
    """A rotation keeps each token's spread over the coordinates, so only the one κ for all tokens is
    approximate.
    """
    rotation = torch.linalg.qr(matrix(32))[0]
    teacher, batch = model_of(name), batch_of(name)
    student = make_student(teacher.config, "AutoModel", layers=1).eval()
    projected_embeddings_(student, teacher, rotation)
    real = batch["attention_mask"].bool()
    target = (cut(teacher, 0)(batch) @ rotation)[real].unsqueeze(0)
    folded = explained(cut(student, 0)(batch)[real].unsqueeze(0), target)
    assert folded > 0.9
    norm = [
        module
        for module in cut(student, 0).modules()
        if isinstance(module, nn.LayerNorm) and list(module.parameters())
    ][-1]
    nn.init.ones_(norm.weight)
    if norm.bias is not None:
        nn.init.zeros_(norm.bias)
    assert explained(cut(student, 0)(batch)[real].unsqueeze(0), target) < folded


def test_a_norm_is_folded_by_the_formula() -> None:
    student, teacher, P = initialised("bert", "AutoModel", 24)
    own, theirs = student.embeddings, teacher.embeddings
    gamma, beta = theirs.LayerNorm.weight, theirs.LayerNorm.bias
    centring = torch.eye(32) - torch.ones(32, 32) / 32
    for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        expected = getattr(theirs, table).weight @ centring @ torch.diag(gamma) @ P
        torch.testing.assert_close(getattr(own, table).weight, expected)
    torch.testing.assert_close(own.LayerNorm.bias, beta @ P)
    assert len(set(own.LayerNorm.weight.tolist())) == 1


def test_heads_follow() -> None:
    student, teacher, _ = initialised("gpt2", "AutoModelForCausalLM", 24)
    assert student.lm_head.weight is student.transformer.wte.weight  # tied
    student, teacher, P = initialised("llama", "AutoModelForCausalLM", 24)
    torch.testing.assert_close(student.lm_head.weight, teacher.lm_head.weight @ P)  # not tied
    student, teacher, _ = initialised("bert", "AutoModelForMaskedLM", 24)
    assert torch.equal(student.get_output_embeddings().bias, teacher.get_output_embeddings().bias)


def test_training_mode_of_the_teacher_is_kept_and_does_not_matter() -> None:
    teacher, P = build(config_of("bert"), "AutoModel", 0).train(), matrix(24)
    first, second = (make_student(teacher.config, "AutoModel", hidden=24) for _ in range(2))
    projected_embeddings_(first, teacher, P)
    assert teacher.training
    projected_embeddings_(second, teacher.eval(), P)
    assert torch.equal(first.embeddings.LayerNorm.weight, second.embeddings.LayerNorm.weight)


def test_vocabularies_padded_to_different_sizes() -> None:
    teacher, P = model_of("gpt2", "AutoModelForCausalLM"), matrix(16)
    config = student_config(teacher.config, hidden=16)
    config.vocab_size = 64
    student = build(config, "AutoModelForCausalLM")
    before = student.transformer.wte.weight[VOCAB:].clone()
    notes = projected_embeddings_(student, teacher, P)
    assert notes == ["wte.weight: 61 rows in the teacher, 64 in the student; the first 61 are the teacher's"]
    torch.testing.assert_close(student.transformer.wte.weight[:VOCAB], teacher.transformer.wte.weight @ P)
    assert torch.equal(student.transformer.wte.weight[VOCAB:], before)


def test_another_family_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"family 'bert', not of the teacher's, 'gpt2'; accepted for it: random"
    ):
        projected_embeddings_(build(config_of("bert"), "AutoModel"), model_of("gpt2"), matrix(32))


def test_other_embedding_modules_are_refused() -> None:
    config = student_config(config_of("deberta-v2"), hidden=16)
    config.position_biased_input = True
    with pytest.raises(ConfigError, match=r"embed differently \(embeddings\.position_embeddings\)"):
        projected_embeddings_(build(config, "AutoModel"), model_of("deberta-v2"), matrix(16))


# --- whole layers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "auto_class"), EVERY_MODEL)
def test_a_student_of_all_layers_is_the_teacher(name: str, auto_class: str) -> None:
    teacher, batch = model_of(name, auto_class), batch_of(name)
    student = build(student_config(teacher.config), auto_class, 7).eval()
    assert copy_layers_(student, teacher, [0, 1, 2]) == []
    assert torch.equal(LogitsView(student)(batch), LogitsView(teacher)(batch))


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5-encoder"])
def test_chosen_layers(name: str) -> None:
    """The student computes what the teacher does without the blocks that were left out."""
    teacher, batch = build(config_of(name), headless(name), 3).eval(), batch_of(name)
    student = build(student_config(teacher.config, layers=2), headless(name), 7).eval()
    copy_layers_(student, teacher, [0, 2])
    layout = find_layout(teacher)
    del teacher.get_submodule(layout.blocks)[1]
    assert torch.equal(cut(student, 2)(batch), cut(teacher, 2, layout)(batch))


def test_layers_that_cannot_be_copied() -> None:
    teacher = model_of("bert")
    same = build(student_config(teacher.config, layers=2), "AutoModel")
    narrow = build(student_config(teacher.config, layers=2, hidden=16), "AutoModel")
    thin = build(student_config(teacher.config, layers=2, intermediate=20), "AutoModel")
    with pytest.raises(
        ConfigError,
        match=r"student\.hidden: 16; layers can only be copied from a teacher of the same width, 32",
    ):
        copy_layers_(narrow, teacher, [0, 1])
    with pytest.raises(
        ConfigError, match=r"student\.from_layers: 3 is outside the teacher; accepted: 0 to 2"
    ):
        copy_layers_(same, teacher, [0, 3])
    with pytest.raises(ConfigError, match=r"student\.from_layers: 1 layers for 2 student blocks"):
        copy_layers_(same, teacher, [0])
    with pytest.raises(
        ConfigError, match=r"intermediate.* is \(20, 32\) in the student, \(48, 32\) in the teacher"
    ):
        copy_layers_(thin, teacher, [0, 1])
    copy_layers_(same, teacher, [0, 2])
