"""`vigreux.distill` from Python: Hugging Face models, plain torch modules, and what it refuses."""

import json
import runpy
from pathlib import Path

import pytest
import torch
import transformers
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
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.cli.main import main
from vigreux.run.folder import RunFolder
from vigreux.tasks.tokenizers import train_tokenizer

ROOT = Path(__file__).resolve().parent.parent
TEXTS = [f"the {animal} {verb}" for animal in ("cat", "dog") for verb in ("ran", "sat", "sang", "slept")] * 4
STEPS = vx.Duration.steps(2)
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
        (
            {"init": "projected-embeddings", "teacher": None, "curriculum": vx.supervised()},
            "there is no teacher",
        ),
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


def test_quiet_transformers_are_no_setting(tmp_path):
    """`disable_tqdm` follows the verbosity of transformers when the arguments are made."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        args = arguments(tmp_path / "run", max_steps=2)
    finally:
        transformers.logging.set_verbosity(verbosity)
    assert args.disable_tqdm
    data = {"train_dataset": ROWS, "eval_dataset": ROWS, "processing_class": TOKENIZER}
    assert vx.distill(bert(1), None, vx.supervised(), args=args, **data).summary().steps == 2


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


# --- arguments that are used as they are meant, or refused --------------------------------------------------


def distilled(path, **changes):
    good = {
        "student": bert(2, 8),
        "teacher": bert(),
        "curriculum": vx.one_shot(),
        "train_dataset": ROWS,
        "eval_dataset": ROWS,
        "processing_class": TOKENIZER,
        "args": arguments(path, max_steps=2),
        "quiet": True,
    }
    return vx.distill(**good | changes)


def test_the_settings_of_args_are_the_runs_own(tmp_path):
    """Plain TrainingArguments mean what transformers says, not Vigreux's defaults; so does one epoch."""
    args = TrainingArguments(output_dir=str(tmp_path / "run"), num_train_epochs=1, logging_steps=1)
    run = distilled(tmp_path, args=args)
    records = run.metrics("train")
    assert records[0]["learning_rate"] == pytest.approx(5e-5)
    assert records[-1]["learning_rate"] == pytest.approx(5e-5 / len(records))  # linear to zero, no warm-up
    assert records[-1]["samples"] == len(ROWS)
    assert run.config()["training"]["per_device_train_batch_size"] == 8
    assert run.info()["seed"] == 42


def test_without_args_vigreux_has_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = distilled(tmp_path, args=None, curriculum=vx.extraction(layers={2: 1}, stage=STEPS, final=STEPS))
    assert max(record["learning_rate"] for record in run.metrics("train")) <= 5e-4
    assert run.config()["training"] == {}
    assert run.metrics("train")[-1]["samples"] == 2 * 2 * 32


@pytest.mark.parametrize(("batch", "accumulated"), [(1, 8), (4, 2), (8, 1), (16, 1)])
def test_an_epoch_is_one_whatever_the_batch_size(tmp_path, batch, accumulated):
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        num_train_epochs=1,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulated,
    )
    assert distilled(tmp_path, args=args).metrics("train")[-1]["samples"] == len(ROWS)


def test_the_evaluation_batch_size_is_passed_on(tmp_path, monkeypatch):
    sizes = []
    original = HeldOut.__init__

    def spied(self, task, teacher, pooling="mean", batch_size=64, record=None):
        sizes.append(batch_size)
        original(self, task, teacher, pooling, batch_size, record)

    monkeypatch.setattr(HeldOut, "__init__", spied)
    distilled(tmp_path, args=arguments(tmp_path / "run", max_steps=2, per_device_eval_batch_size=3))
    assert sizes == [3]


def test_eval_steps_say_when_the_student_is_evaluated(tmp_path):
    args = arguments(tmp_path / "run", max_steps=6, eval_strategy="steps", eval_steps=2)
    assert [record["step"] for record in distilled(tmp_path, args=args).metrics("eval")] == [2, 4, 6]


def test_both_max_steps_and_epochs(tmp_path):
    run = distilled(tmp_path, args=arguments(tmp_path / "run", max_steps=2, num_train_epochs=5))
    assert run.summary().steps == 2
    assert "args.max_steps overrides args.num_train_epochs" in run.summary().notes


def test_a_list_of_stages_is_a_curriculum(tmp_path):
    args = arguments(tmp_path / "run", max_steps=4)
    stages = list(vx.extraction(layers={2: 1}, stage=STEPS, final=STEPS))
    assert distilled(tmp_path, curriculum=stages, args=args).summary().steps == 4  # as the stages say


def shared():
    student = bert()
    return {"student": student, "teacher": student}


def tied():
    student, teacher = bert(), bert()
    student.bert.embeddings.word_embeddings.weight = teacher.bert.embeddings.word_embeddings.weight
    return {"student": student, "teacher": teacher}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "foo"}, "optimizer: unknown value 'foo'; accepted: per-stage, carried"),
        ({"schedule": "foo"}, "schedule: unknown value 'foo'; accepted: per-stage, carried"),
        ({"optimizer": None}, "optimizer: unknown value"),
        ({"quiet": "yes"}, "quiet: 'yes'; accepted: true or false"),
        ({"sharded": 1}, "sharded: 1; accepted: true or false"),
        ({"task": "causal"}, "task: unknown value 'causal'; did you mean 'causal-lm'"),
        ({"blocks": 3}, "blocks: 3; accepted: text"),
        ({"curriculum": "extraction"}, r"curriculum: 'extraction'; accepted: .*vigreux\.extraction\(…\)"),
        ({"curriculum": vx.one_shot()[0]}, r"curriculum: Stage.*accepted: a sequence of vigreux\.Stage"),
        ({"curriculum": None}, "curriculum: None; accepted"),
        (
            {"teacher": "bert-base-uncased"},
            "teacher: 'bert-base-uncased'; accepted: a model .*from_pretrained",
        ),
        (
            {"student": "bert-base-uncased"},
            "student: 'bert-base-uncased'; accepted: a model .*from_pretrained",
        ),
        ({"student": bert(2, 8).requires_grad_(False)}, "student: none of its parameters is trained"),
        ({"teacher": bert().to("meta")}, "teacher: its weights are not loaded"),
        ({"student": bert(2, 8).half()}, r"student: its weights are float16.*student\.float\(\)"),
        (shared(), "student: shares weights with the teacher"),
        (tied(), "student: shares weights with the teacher"),
        (
            {"teacher": None, "curriculum": vx.supervised(), "checkpoints": "runs"},
            "checkpoints: they belong to a teacher",
        ),
        ({"resume": True}, "resume: there is no run in .*run"),
        ({"output_dir": "elsewhere"}, "output_dir: 'elsewhere', and args.output_dir is .*one of the two"),
        ({"args": {"learning_rate": 1e-3}}, "args: a dict; accepted: transformers.TrainingArguments"),
        ({"args": None}, "args: missing: the curriculum's stages are shares of a budget"),
    ],
)
def test_arguments_that_cannot_be(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(vx.ConfigError, match=f"^{message}") as caught:
        distilled(tmp_path / "run", **changes)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_steps": 0}, "args.max_steps: 0; accepted: a whole number from 1, or -1"),
        ({"max_steps": -5}, "args.max_steps: -5"),
        ({"num_train_epochs": 0}, "args.num_train_epochs: 0; accepted: a positive number"),
        ({"num_train_epochs": float("nan")}, "args.num_train_epochs: nan"),
        ({"max_steps": True}, "args.max_steps: True"),
        ({"max_steps": 2, "seed": -1}, "args.seed: -1; accepted: a whole number from 0"),
        ({"max_steps": 2, "label_smoothing_factor": 0.2}, "args.label_smoothing_factor: cannot be set"),
        ({"max_steps": 2, "adam_beta1": 2.0}, "args.adam_beta1: 2.0; accepted: a number from 0 to below 1"),
        ({"max_steps": 2, "optim": "adamw_bnb_8bit"}, "training.optim: .*bitsandbytes"),
    ],
)
def test_args_that_cannot_be(tmp_path, given, message):
    with pytest.raises(vx.ConfigError, match=f"^{message}"):
        distilled(tmp_path, args=arguments(tmp_path / "run", **given))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [{"max_steps": 5}, {"num_train_epochs": 2}])
def test_steps_that_contradict_the_stages(tmp_path, given):
    curriculum = vx.extraction(layers={2: 1}, stage=STEPS, final=STEPS)
    with pytest.raises(vx.ConfigError, match="and the stages of the curriculum last 4 steps"):
        distilled(tmp_path, curriculum=curriculum, args=arguments(tmp_path / "run", **given))
    assert list(tmp_path.iterdir()) == []


def test_a_bfloat16_student_is_said(tmp_path):
    run = distilled(tmp_path / "run", student=bert(2, 8).bfloat16(), teacher=bert().bfloat16())
    assert any("bfloat16" in note for note in run.summary().notes)
