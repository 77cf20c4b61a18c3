"""`vigreux.distill` from Python: Hugging Face models, plain torch modules, and what it refuses."""

import json
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
    BertModel,
    TrainingArguments,
)

import vigreux as vx
from vigreux.cli.main import main
from vigreux.runs import RunFolder
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


def test_the_start_is_that_of_the_command(tmp_path):
    teacher = bert()
    TOKENIZER.save_pretrained(tmp_path / "teacher")
    teacher.config.id2label, teacher.config.label2id = {0: "cat", 1: "dog"}, {"cat": 0, "dog": 1}
    teacher.save_pretrained(tmp_path / "teacher")
    rows = [{"text": text, "label": "dog" if "dog" in text else "cat"} for text in TEXTS]
    for name in ("train", "held"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = {"layers": 2, "hidden": 8, "heads": 2}
    command = [
        "distill",
        "--task.kind",
        "classification",
        "--task.data",
        f"{tmp_path}/train.jsonl",
        "--quiet",
    ]
    command += ["--task.eval_data", f"{tmp_path}/held.jsonl", "--task.allow_overlap", "true"]
    command += ["--teacher.model", f"{tmp_path}/teacher", "--curriculum", "one-shot", "--budget.steps", "6"]
    command += [word for name, size in sizes.items() for word in (f"--student.{name}", str(size))]
    command += ["--training.learning_rate", "1e-2", "--training.per_device_train_batch_size", "16"]
    assert main([*command, "--output", f"{tmp_path}/command"]) == 0
    student = vx.make_student(teacher.config, "AutoModelForSequenceClassification", **sizes)
    run = vx.distill(
        student,
        teacher,
        vx.one_shot(),
        train_dataset=ROWS,
        eval_dataset=ROWS,
        processing_class=TOKENIZER,
        init="projected-embeddings",
        args=TrainingArguments(
            output_dir=str(tmp_path / "run"),
            seed=0,
            max_steps=6,
            per_device_train_batch_size=16,
            learning_rate=1e-2,
            lr_scheduler_type="cosine",
            warmup_steps=0.06,
            weight_decay=0.01,
        ),
        quiet=True,
    )
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "command" / "student")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), student.parameters()))
    assert run.summary().metrics == RunFolder.open(tmp_path / "command").summary().metrics


def test_an_embedding_is_compared_with_the_projected_one_as_by_the_command(tmp_path):
    sizes = {"vocab_size": len(TOKENIZER), "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    teacher = BertModel(BertConfig(hidden_size=16, num_hidden_layers=3, **sizes))
    student = vx.make_student(teacher.config, "AutoModel", layers=2, hidden=8)
    run = vx.distill(
        student,
        teacher,
        vx.one_shot(target=vx.Embedding(projection=vx.Projection("pca"))),
        train_dataset=ROWS.remove_columns("labels"),
        eval_dataset=ROWS.remove_columns("labels"),
        processing_class=TOKENIZER,
        init="projected-embeddings",
        args=arguments(tmp_path / "run", max_steps=20),
        quiet=True,
    )
    assert run.summary().metrics["cosine"] > 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": "projected"}, "init: unknown value 'projected'; did you mean 'projected-embeddings'"),
        ({"init": "projected-embeddings", "teacher": None, "curriculum": vx.supervised()}, "none was given"),
        (
            {"init": "teacher-layers"},
            "student.hidden: 8; layers can only be copied from a teacher of the same",
        ),
    ],
)
def test_a_start_that_cannot_be(tmp_path, changes, message):
    with pytest.raises(vx.ConfigError, match=message):
        vx.distill(
            **{
                "student": bert(2, 8),
                "teacher": bert(),
                "curriculum": vx.one_shot(),
                "train_dataset": ROWS,
                "eval_dataset": ROWS,
                "processing_class": TOKENIZER,
                "args": arguments(tmp_path / "run", max_steps=2),
            }
            | changes
        )
    assert not (tmp_path / "run").exists()


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
            {"student": nn.Sequential(nn.Linear(2, 2)), "teacher": nn.Linear(2, 2)},
            "train_dataset: a Dataset; a torch module takes a pair of tensors",
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
