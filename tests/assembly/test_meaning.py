"""Every model of a run means the same by its outputs: student, teacher, the teachers of single stages, the
cache; both doors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, GenerationConfig, TrainingArguments

import vigreux as vx
from tests.cli.conftest import SMALL, Outcome, Vigreux
from tests.cli.tiny import CLASSES, MASKED, Tiny, documents, save_bert, save_llama, save_model
from vigreux.run.folder import RunFolder

NAMES = ["contradiction", "neutral", "entailment"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def maps(names: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def save(path: Path, tiny: Tiny, names: list[str] | None = None, seed: int = 0, **settings: Any) -> Path:
    """A small classifier whose answers differ from text to text."""
    labels = {} if names is None else maps(names)
    save_model(
        path,
        "BertConfig",
        CLASSES,
        tiny.wordpiece,
        seed=seed,
        initializer_range=0.5,
        **SIZES | labels | settings,
    )
    return path


@pytest.fixture
def teacher(tiny: Tiny, tmp_path: Path) -> Path:
    return save(tmp_path / "teacher", tiny, NAMES)


@pytest.fixture
def data(teacher: Path, tiny: Tiny, tmp_path: Path) -> Path:
    """Texts with the teacher's own answers, by name."""
    model = AutoModelForSequenceClassification.from_pretrained(teacher)
    rows = []
    for text in documents(40):
        with torch.no_grad():
            answer = int(model(**tiny.wordpiece(text, return_tensors="pt")).logits.argmax())
        rows.append({"text": text, "label": NAMES[answer]})
    assert len({row["label"] for row in rows}) > 1
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def distill(vigreux: Vigreux, data: Path, *more: object) -> Outcome:
    options = [
        "--task.kind",
        "classification",
        "--task.data",
        data,
        "--task.max_length",
        32,
        "--teacher.model",
        "teacher",
    ]
    given = [*options, "--budget.steps", 3, *SMALL]
    return vigreux(
        "distill", *given, *([] if "--curriculum" in more else ["--curriculum", "one-shot"]), *more
    )


# --- the command --------------------------------------------------------------------------------------------


def test_a_student_keeps_the_order_that_its_config_says(
    vigreux: Vigreux, tiny: Tiny, teacher: Path, data: Path, tmp_path: Path
) -> None:
    save(tmp_path / "start", tiny, ["Entailment", "neutral", "contradiction"], seed=1)
    done = distill(vigreux, data, "--student.model", "start", "--output", "run")
    assert done.code == 0, done.err
    summary = RunFolder.open(tmp_path / "run").summary()
    assert summary is not None
    assert summary.teacher_metrics["accuracy"] == 1
    assert "teacher.model: its classes are ordered by name as those of student.model" in summary.notes
    saved = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
    assert saved["id2label"] == {"0": "Entailment", "1": "neutral", "2": "contradiction"}


def test_a_cache_has_one_order_of_classes(
    vigreux: Vigreux, tiny: Tiny, teacher: Path, data: Path, tmp_path: Path
) -> None:
    start = ["--student.model", str(save(tmp_path / "start", tiny, NAMES[::-1], seed=1))]
    options = ["--task.kind", "classification", "--task.data", data, "--teacher.model", "teacher", *SMALL]
    options += ["--curriculum", "one-shot", "--budget.steps", 3, "--cache.path", "cache"]
    assert vigreux("cache", *options, *start).code == 0
    other = vigreux("distill", *options, "--student.layers", 1, "--output", "other")
    assert other.code == 2
    assert "cache: was made with another data and another order of classes" in other.err
    assert vigreux("distill", *options, *start, "--output", "run").code == 0
    summary = RunFolder.open(tmp_path / "run").summary()
    assert summary is not None
    assert summary.teacher_metrics["accuracy"] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": NAMES[:2]}, "teacher.model: has 3 classes"),
        (
            {"names": ["a", "b", "c"]},
            "other classes (contradiction, neutral, entailment); accepted: the 3 classes of",
        ),
        ({"num_labels": 1}, "student.model: has 1 output"),
        (
            {"names": NAMES, "problem_type": "multi_label_classification"},
            "student.model: its config has problem_type",
        ),
    ],
)
def test_a_student_with_other_outputs_is_refused(
    settings: dict[str, Any],
    message: str,
    vigreux: Vigreux,
    tiny: Tiny,
    teacher: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    save(tmp_path / "start", tiny, **settings)
    refused = distill(vigreux, data, "--student.model", "start", "--output", "run")
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_student_without_a_head_gets_one(
    vigreux: Vigreux, tiny: Tiny, teacher: Path, data: Path, tmp_path: Path
) -> None:
    save_bert(
        tmp_path / "pretrained", tiny.wordpiece, MASKED, **SIZES, id2label={0: "x", 1: "y"}, label2id=None
    )
    done = distill(vigreux, data, "--student.model", "pretrained", "--output", "run")
    assert done.code == 0, done.err
    assert "note: student.model: has no classification head; a new one starts at random" in done.out
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "student")
    assert list(student.config.id2label.values()) == NAMES


def stages(path: Path) -> Path:
    path.write_text(
        vx.to_yaml(
            (
                vx.Stage("first", vx.TeacherRef.other("other"), vx.Logits(), None, vx.Duration.steps(2)),
                vx.Stage("last", vx.TeacherRef.final(), vx.Logits(), None, vx.Duration.steps(2)),
            )
        )
    )
    return path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": [*NAMES, "none"]}, "stage 'first': teacher other: has 4 classes"),
        (
            {"names": NAMES, "problem_type": "regression"},
            "stage 'first': teacher other: its config has problem_type",
        ),
    ],
)
def test_the_teacher_of_a_stage_is_checked_before_the_first_step(
    settings: dict[str, Any],
    message: str,
    vigreux: Vigreux,
    tiny: Tiny,
    teacher: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    save(tmp_path / "other", tiny, **settings)
    refused = distill(vigreux, data, "--curriculum", stages(tmp_path / "s.yaml"), "--output", "run")
    assert refused.code == 2
    assert message in refused.err
    assert not (tmp_path / "run").exists()


# --- Python -------------------------------------------------------------------------------------------------


def rows(tiny: Tiny, data: Path, names: list[str]) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in data.read_text().splitlines()]
    return [
        {"input_ids": tiny.wordpiece(row["text"])["input_ids"], "labels": names.index(row["label"])}
        for row in read
    ]


def call(
    tiny: Tiny, student: Path, given: list[dict[str, Any]], tmp_path: Path, curriculum: Any = None
) -> Any:
    load = AutoModelForSequenceClassification.from_pretrained
    return vx.distill(
        load(student),
        load(tmp_path / "teacher"),
        curriculum or vx.one_shot(),
        train_dataset=given,
        eval_dataset=given,
        processing_class=tiny.wordpiece,
        args=TrainingArguments(output_dir=str(tmp_path / "run"), max_steps=3, per_device_train_batch_size=4),
        quiet=True,
    )


def test_labels_from_python_are_the_students(tiny: Tiny, teacher: Path, data: Path, tmp_path: Path) -> None:
    start = save(tmp_path / "start", tiny, NAMES[::-1], seed=1)
    run = call(tiny, start, rows(tiny, data, NAMES[::-1]), tmp_path)
    assert run.summary().teacher_metrics["accuracy"] == 1


def test_the_teacher_of_a_stage_gives_its_logits_in_the_students_order(
    tiny: Tiny, teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other teacher is the final one with its classes turned round, so both stages have the same loss at
    first.
    """
    monkeypatch.chdir(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(teacher)
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight.flip(0).clone())
        model.classifier.bias.copy_(model.classifier.bias.flip(0).clone())
    model.config.update(maps(NAMES[::-1]))
    model.save_pretrained(tmp_path / "other")
    tiny.wordpiece.save_pretrained(tmp_path / "other")
    start, given = save(tmp_path / "start", tiny, NAMES, seed=1), rows(tiny, data, NAMES)
    losses = []
    for name, ref in (("final", vx.TeacherRef.final()), ("other", vx.TeacherRef.other("other"))):
        only = (vx.Stage("only", ref, vx.Logits(), None, vx.Duration.steps(3)),)
        run = call(tiny, start, given, tmp_path, only)
        losses.append([record["loss"] for record in run.metrics("train")])
        (tmp_path / "run").rename(tmp_path / f"{name}-run")
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": NAMES[:2]}, "teacher: has 3 classes"),
        ({"num_labels": 1}, "student: has 1 output"),
        ({"names": NAMES, "problem_type": "regression"}, "student: its config has problem_type 'regression'"),
    ],
)
def test_models_with_other_outputs_are_refused_from_python(
    settings: dict[str, Any], message: str, tiny: Tiny, teacher: Path, data: Path, tmp_path: Path
) -> None:
    start = save(tmp_path / "start", tiny, **settings)
    with pytest.raises(vx.ConfigError, match=message):
        call(tiny, start, [row | {"labels": 0} for row in rows(tiny, data, NAMES)], tmp_path)
    assert not (tmp_path / "run").exists()


# --- what a student starts from -----------------------------------------------------------------------------


def test_pickled_weights_of_a_start_need_an_option_of_the_student(
    vigreux: Vigreux, tiny: Tiny, teacher: Path, data: Path, tmp_path: Path
) -> None:
    start = save(tmp_path / "start", tiny, NAMES, seed=1)
    torch.save(
        AutoModelForSequenceClassification.from_pretrained(start).state_dict(), start / "pytorch_model.bin"
    )
    (start / "model.safetensors").unlink()
    options = ["--student.model", "start", "--output", "run"]
    refused = distill(vigreux, data, *options)
    assert refused.code == 2
    assert "start: only pickled weights" in refused.err
    assert "allow_pickle: true beside this model" in refused.err
    assert not (tmp_path / "run").exists()
    done = distill(vigreux, data, *options, "--student.allow_pickle", "true")
    assert done.code == 0, done.err


def test_a_made_student_generates_as_its_teacher(vigreux: Vigreux, tiny: Tiny, tmp_path: Path) -> None:
    save_llama(tmp_path / "lm", tiny.bpe)
    settings = GenerationConfig(eos_token_id=[0, 5], do_sample=True, temperature=0.6)
    settings.save_pretrained(tmp_path / "lm")
    options = [
        "--task.data",
        tiny.text,
        "--task.max_length",
        16,
        "--student.layers",
        1,
        "--budget.steps",
        1,
        *SMALL,
    ]
    options += ["--student.hidden", 16, "--curriculum", "one-shot", "--output", "run"]
    done = vigreux("distill", "--teacher.model", "lm", *options)
    assert done.code == 0, done.err
    carried = GenerationConfig.from_pretrained(tmp_path / "run" / "student")
    assert (carried.eos_token_id, carried.do_sample, carried.temperature) == ([0, 5], True, 0.6)
