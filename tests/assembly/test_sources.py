"""Where models come from: series that end in the final teacher, hub revisions, families without a model of
the task.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    Data2VecTextConfig,
    GPT2Config,
    IBertConfig,
    LlamaConfig,
    MPNetConfig,
    RobertaConfig,
    T5Config,
    ViTConfig,
)

from tests.cli.tiny import Tiny, save_llama
from vigreux.assembly.sources import check_steps, checkpoint_series, snapshot
from vigreux.config.transformer import RunConfig, TeacherConfig
from vigreux.errors import CheckpointError, ConfigError
from vigreux.models.families import check_kind, check_length
from vigreux.models.student import build


def test_a_series_ends_before_the_final_teacher(tiny: Tiny, tmp_path: Path) -> None:
    for step in (10, 2, 30):
        save_llama(tmp_path / "series" / f"checkpoint-{step}", tiny.bpe, layers=1, seed=step)
    final = shutil.copytree(tmp_path / "series" / "checkpoint-30", tmp_path / "final")
    series, notes = checkpoint_series(str(tmp_path / "series"), str(final))
    assert list(series) == [2, 10]
    assert notes == ["checkpoint 30 of the series is the final teacher, and is used as that"]
    (final / "model.safetensors").unlink()  # a plan asks for the config alone
    assert list(checkpoint_series(str(tmp_path / "series"), str(final))[0]) == [2, 10, 30]
    other = save_llama(tmp_path / "other", tiny.bpe, layers=1, seed=7)
    assert checkpoint_series(str(tmp_path / "series"), str(other)) == (
        {step: str(tmp_path / "series" / f"checkpoint-{step}") for step in (2, 10, 30)},
        [],
    )
    assert checkpoint_series(None, str(other)) == ({}, [])


def test_a_step_that_is_the_final_teacher_is_named_as_that(tiny: Tiny, tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save_llama(tmp_path / "series" / f"checkpoint-{step}", tiny.bpe, layers=1, seed=step)
    source = str(tmp_path / "series")
    series, _ = checkpoint_series(source, str(tmp_path / "series" / "checkpoint-20"))
    teacher = TeacherConfig(model="x", checkpoints=source)
    check_steps(RunConfig(teacher=teacher, curriculum="p-shot", checkpoints=[10, 30]), series)
    stages = [{"target": "logits", "duration": {"steps": 5}, "teacher": {"checkpoint": 20}}]
    for named in ({"curriculum": "p-shot", "checkpoints": [10, 20]}, {"curriculum": stages}):
        with pytest.raises(ConfigError, match=r"20 holds the final teacher's weights, .*; accepted: 10, 30"):
            check_steps(RunConfig(teacher=teacher, **named), series)


def test_hub_revisions_are_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def fetch(name: str, *, revision: str, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert "*.safetensors" in allow_patterns
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert snapshot("org/name@step1000") == str(tmp_path)
    assert asked == [("org/name", "step1000")]
    assert snapshot("runs/teacher/checkpoint-3") == "runs/teacher/checkpoint-3"
    odd = tmp_path / "with@sign-5"
    odd.mkdir()
    assert snapshot(str(odd)) == str(odd)


def test_a_hub_revision_that_cannot_be_reached() -> None:
    with pytest.raises(
        CheckpointError, match=r"teacher\.checkpoints: 'org/name@step1000' cannot be fetched \("
    ):
        snapshot("org/name@step1000")


def test_kinds_and_families() -> None:
    check_kind("masked-lm", BertConfig(), "x")
    check_kind("embedding", T5Config(), "x")
    check_kind("classification", GPT2Config(architectures=["GPT2ForSequenceClassification"]), "x")
    check_kind("classification", GPT2Config(), "x")  # a config that does not say what it was saved from
    with pytest.raises(
        ConfigError,
        match=r"'masked-lm' has no model of the family 'llama' \(x\); accepted: causal-lm, classif",
    ):
        check_kind("masked-lm", LlamaConfig(), "x")
    with pytest.raises(
        ConfigError, match=r"'causal-lm' has no model of the family 'vit' \(x\); accepted: embedding"
    ):
        check_kind("causal-lm", ViTConfig(), "x")
    with pytest.raises(
        ConfigError, match=r"'causal-lm' of 'bert' \(x\), an encoder that sees the token it is to predict"
    ):
        check_kind("causal-lm", BertConfig(), "x")
    check_kind("causal-lm", BertConfig(is_decoder=True), "x")
    with pytest.raises(
        CheckpointError, match=r"x: saved from GPT2LMHeadModel, without a classification head"
    ):
        check_kind("classification", GPT2Config(architectures=["GPT2LMHeadModel"]), "x")


def test_longest_samples() -> None:
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 20,
    }
    bert = build(BertConfig(**sizes, max_position_embeddings=16), "AutoModelForMaskedLM")
    check_length(16, bert)
    with pytest.raises(
        ConfigError, match=r"task\.max_length: 17; accepted: at most 16, the model's positions"
    ):
        check_length(17, bert)
    for family in (RobertaConfig, MPNetConfig, IBertConfig, Data2VecTextConfig):
        relative = build(family(**sizes, max_position_embeddings=18, pad_token_id=1), "AutoModelForMaskedLM")
        check_length(16, relative)
        relative(torch.full((1, 16), 5))
        with pytest.raises(ConfigError, match="at most 16"):
            check_length(17, relative)
    t5 = build(
        T5Config(d_model=8, num_layers=1, num_heads=2, d_kv=4, d_ff=8, vocab_size=20),
        "AutoModelForTextEncoding",
    )
    check_length(10_000, t5)  # relative positions
