"""`vigreux.distill` from Python: Hugging Face models, plain torch modules, and what it refuses."""

import runpy
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    TrainingArguments,
)

import vigreux as vx
from vigreux.tasks.tokenizers import train_tokenizer

ROOT = Path(__file__).resolve().parent.parent
TEXTS = [f"the {animal} {verb}" for animal in ("cat", "dog") for verb in ("ran", "sat", "sang", "slept")] * 4
TOKENIZER = train_tokenizer(TEXTS, 60, "wordpiece")
ROWS = Dataset.from_dict(
    {"input_ids": TOKENIZER(TEXTS)["input_ids"], "labels": [int("dog" in text) for text in TEXTS]}
)


def bert(layers=3, hidden=16):
    torch.manual_seed(0)
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * hidden,
    }
    return BertForSequenceClassification(BertConfig(vocab_size=len(TOKENIZER), **sizes))


def arguments(path, **changes):
    return TrainingArguments(
        output_dir=str(path), per_device_train_batch_size=8, learning_rate=1e-2, **changes
    )


def test_public_names():
    for name in vx.__all__:
        assert getattr(vx, name) is not None
    assert callable(vx.distill)  # also after its parts were imported
    with pytest.raises(AttributeError, match="no attribute 'destill'"):
        _ = vx.destill


def test_a_hugging_face_student(tmp_path):
    teacher = bert()
    student = vx.make_student(
        teacher.config, "AutoModelForSequenceClassification", layers=2, hidden=8, heads=2
    )
    before = [p.clone() for p in student.parameters()]
    run = vx.distill(
        student,
        teacher,
        vx.extraction(layers={2: 1}, hidden_share=0.5),
        train_dataset=ROWS,
        eval_dataset=ROWS,
        processing_class=TOKENIZER,
        args=arguments(tmp_path / "run", max_steps=8, seed=3),
        quiet=True,
    )
    assert [stage.steps for stage in run.stages()] == [4, 4]
    assert run.info()["seed"] == 3
    assert any(not torch.equal(a, b) for a, b in zip(before, student.parameters()))
    again = AutoModelForSequenceClassification.from_pretrained(run.student)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), student.parameters()))
    assert set(run.summary().metrics) == {"loss", "accuracy", "agreement"}


def test_epochs_are_the_budget_without_max_steps(tmp_path):
    run = vx.distill(
        bert(1),
        None,
        vx.supervised(),
        train_dataset=ROWS,
        eval_dataset=ROWS,
        processing_class=TOKENIZER,
        args=arguments(tmp_path / "run", num_train_epochs=2),
        quiet=True,
    )
    assert run.summary().steps == 2 * len(ROWS) // 8


def mlp(width):
    torch.manual_seed(width)
    return nn.Sequential(
        nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3)
    )


def test_a_plain_torch_module(tmp_path):
    x = torch.randn(128, 6, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(1)
    run = vx.distill(
        mlp(8),
        mlp(16),
        vx.extraction(layers={2: 2}, stage=vx.Duration.steps(6), final=vx.Duration.steps(6)),
        train_dataset=(x[:96], y[:96]),
        eval_dataset=(x[96:], y[96:]),
        blocks="",
        args=arguments(tmp_path / "run"),
        quiet=True,
    )
    assert run.summary().steps == 12
    assert (run.student / "model.safetensors").exists()


@pytest.mark.parametrize("example", ["python_api", "lora"])
def test_the_examples(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / f"{example}.py"), run_name="__main__")
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"processing_class": None}, "processing_class: missing"),
        ({"curriculum": vx.progressive([5])}, "checkpoint 5, and no series was given"),
        (
            {"curriculum": vx.extraction(layers={9: 1})},
            "hidden layer 9 is outside the teacher, which has 3 blocks",
        ),
        (
            {"student": nn.Sequential(nn.Linear(2, 2))},
            "train_dataset: a torch module takes a pair of tensors",
        ),
        ({"teacher": None}, "learns from a teacher, and none was given"),
    ],
)
def test_bad_arguments(tmp_path, changes, message):
    good = {
        "student": bert(2, 8),
        "teacher": bert(),
        "curriculum": vx.one_shot(),
        "train_dataset": ROWS,
        "eval_dataset": ROWS,
        "processing_class": TOKENIZER,
        "args": arguments(tmp_path / "run", max_steps=2),
        "quiet": True,
    }
    with pytest.raises(vx.VigreuxError, match=message):
        vx.distill(**good | changes)
    assert not (tmp_path / "run" / "run.json").exists()
