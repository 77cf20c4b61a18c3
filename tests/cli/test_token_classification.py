"""Token classification through every door: configuration, cache, comparison, teaching and Python.

The teacher labels the data itself, so that its own scores are 1 wherever they are measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, TrainingArguments, pipeline

import vigreux as vx
from tests.cli.conftest import SMALL, Vigreux
from tests.cli.tiny import Tiny, documents, save_bert
from vigreux.models.student import make_student
from vigreux.run.folder import RunFolder
from vigreux.tasks.kinds.token_classification import first_tokens

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")
NAMES = ("O", "B-CAT", "I-CAT", "B-DOG")


def labelled(teacher: Any, tokenizer: Any, text: str) -> list[str]:
    """The teacher's class of each word of a text."""
    encoded = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        classes = teacher(**encoded).logits[0].argmax(-1).tolist()
    words = first_tokens(text.split(), offsets)
    return [teacher.config.id2label[classes[i]] for i in range(len(words)) if words[i] >= 0]


@pytest.fixture(scope="module")
def tagger(tiny: Tiny) -> Path:
    names = dict(enumerate(NAMES))
    ids = {name: i for i, name in names.items()}
    path = save_bert(
        tiny.root / "tagger",
        tiny.wordpiece,
        "AutoModelForTokenClassification",
        id2label=names,
        label2id=ids,
        initializer_range=0.3,
    )
    teacher, tokenizer = (
        AutoModelForTokenClassification.from_pretrained(path),
        AutoTokenizer.from_pretrained(path),
    )
    rows = [{"tokens": text.split(), "tags": labelled(teacher, tokenizer, text)} for text in documents(60)]
    (tiny.root / "tags.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {tag for row in rows for tag in row["tags"]} == set(NAMES)
    return path


def options(tagger: Path, tiny: Tiny, *more: object) -> list[object]:
    sizes = ["--student.layers", 2, "--student.hidden", 16, "--task.max_length", 64, "--budget.steps", 6]
    data = ["--task.kind", "token-classification", "--task.data", tiny.root / "tags.jsonl"]
    return ["--teacher.model", tagger, *data, *sizes, *SMALL, *more]


@pytest.mark.parametrize("curriculum", ["supervised", "one-shot", "extraction"])
def test_the_teacher_scores_1(
    curriculum: str, vigreux: Vigreux, tiny: Tiny, tagger: Path, tmp_path: Path
) -> None:
    done = vigreux("distill", *options(tagger, tiny, "--curriculum", curriculum, "--output", "run"))
    assert done.code == 0, done.err
    assert "entity F1" in done.out
    folder = RunFolder.open(tmp_path / "run")
    summary = folder.summary()
    assert summary is not None
    assert {"loss", "accuracy", "entity_f1", "agreement"} <= summary.metrics.keys()
    assert summary.teacher_metrics["entity_f1"] == summary.teacher_metrics["accuracy"] == 1
    student = AutoModelForTokenClassification.from_pretrained(folder.student)
    assert tuple(student.config.id2label.values()) == NAMES
    tagged = pipeline(
        "token-classification", model=student, tokenizer=AutoTokenizer.from_pretrained(folder.student)
    )
    assert tagged("the cat sat")


def test_a_student_of_the_cache_is_the_student_of_the_teacher(
    vigreux: Vigreux, tiny: Tiny, tagger: Path, tmp_path: Path
) -> None:
    exact = ["--cache.precision", "float32", "--cache.shard_samples", "16"]
    made = vigreux("cache", *options(tagger, tiny, *exact, "--cache.path", "cache"))
    assert made.code == 0, made.err
    assert vigreux("distill", *options(tagger, tiny, "--output", "live")).code == 0
    done = vigreux("distill", *options(tagger, tiny, "--cache.path", "cache", "--output", "cached"))
    assert done.code == 0, done.err
    live, cached = (RunFolder.open(tmp_path / name).summary() for name in ("live", "cached"))
    assert live is not None
    assert cached is not None
    assert cached.metrics["loss"] == pytest.approx(live.metrics["loss"], rel=1e-3)
    assert cached.metrics["entity_f1"] == pytest.approx(live.metrics["entity_f1"], abs=1e-6)
    assert cached.teacher_metrics["entity_f1"] == 1


def test_plan_comparison_and_report(vigreux: Vigreux, tiny: Tiny, tagger: Path, tmp_path: Path) -> None:
    planned = vigreux("plan", *(option for option in options(tagger, tiny) if option != "--quiet"))
    assert planned.code == 0, planned.err
    compared = vigreux(
        "compare",
        *options(tagger, tiny, "--output", "compared"),
        "--curricula",
        "one-shot,extraction",
        "--seeds",
        1,
    )
    assert compared.code == 0, compared.err
    assert "entity F1" in compared.out
    page = vigreux("report", "compared", "--output", "page.html")
    assert page.code == 0, page.err
    assert "token classification" in (tmp_path / "page.html").read_text()


def test_a_taught_series_is_followed(vigreux: Vigreux, tiny: Tiny, tagger: Path, tmp_path: Path) -> None:
    data = [
        "--task.kind",
        "token-classification",
        "--task.data",
        tiny.root / "tags.jsonl",
        "--task.max_length",
        64,
    ]
    sizes = ["--model.family", "bert", "--model.layers", 3, "--model.hidden", 48, "--model.vocab_size", 90]
    done = vigreux(
        "teach", *data, *sizes, "--budget.steps", 8, "--keep_every", 4, *SMALL, "--output", "taught"
    )
    assert done.code == 0, done.err
    taught = RunFolder.open(tmp_path / "taught").student
    assert sorted(AutoModelForTokenClassification.from_pretrained(taught).config.id2label.values()) == sorted(
        NAMES
    )
    for curriculum in (["progressive"], ["p-shot", "--checkpoints", "[4]"]):
        run = vigreux(
            "distill",
            *options(taught, tiny, "--output", curriculum[0], "--curriculum", *curriculum),
            "--teacher.checkpoints",
            tmp_path / "taught" / "stages" / "00-labels",
        )
        assert run.code == 0, run.err
    started = vigreux(
        "teach", *data, "--model.start", tagger, "--budget.steps", 2, *SMALL, "--output", "goes-on"
    )
    assert started.code == 0, started.err
    assert "new head" not in started.out


def test_classes_are_matched_by_name(vigreux: Vigreux, tiny: Tiny, tagger: Path, tmp_path: Path) -> None:
    other = AutoModelForTokenClassification.from_pretrained(tagger)
    other.config.id2label = dict(enumerate(["O", "B-X", "I-X", "B-Y"]))
    other.config.label2id = {name: i for i, name in other.config.id2label.items()}
    other.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tagger).save_pretrained(tmp_path / "other")
    refused = vigreux("distill", *options(tmp_path / "other", tiny))
    assert refused.code == 2
    assert "unknown label" in refused.err or "label: unknown value" in refused.err
    swapped = ["I-CAT", "O", "B-DOG", "B-CAT"]
    other.config.id2label = dict(enumerate(swapped))
    other.config.label2id = {name: i for i, name in enumerate(swapped)}
    with torch.no_grad():
        order = [NAMES.index(name) for name in swapped]
        other.classifier.weight.copy_(other.classifier.weight[order].clone())
        other.classifier.bias.copy_(other.classifier.bias[order].clone())
    other.save_pretrained(tmp_path / "other")
    done = vigreux("distill", *options(tmp_path / "other", tiny, "--output", "run"))
    assert done.code == 0, done.err
    summary = RunFolder.open(tmp_path / "run").summary()
    assert summary is not None
    assert summary.teacher_metrics["entity_f1"] == 1


def test_from_python(tiny: Tiny, tagger: Path, tmp_path: Path) -> None:
    teacher, tokenizer = (
        AutoModelForTokenClassification.from_pretrained(tagger),
        AutoTokenizer.from_pretrained(tagger),
    )
    rows = []
    for line in (tiny.root / "tags.jsonl").read_text().splitlines():
        row = json.loads(line)
        encoded = tokenizer(row["tokens"], is_split_into_words=True)
        labels, before = [], None
        for word in encoded.word_ids():
            first = word is not None and word != before
            labels.append(teacher.config.label2id[row["tags"][word]] if first else -100)
            before = word
        rows.append({"input_ids": encoded["input_ids"], "labels": labels})
    student = make_student(teacher.config, "AutoModelForTokenClassification", layers=2, hidden=16, heads=2)
    data = datasets.Dataset.from_list(rows)
    run = vx.distill(
        student,
        teacher,
        vx.extraction(student_layers=2, teacher_layers=3),
        train_dataset=data.select(range(50)),
        eval_dataset=data.select(range(50, 60)),
        processing_class=tokenizer,
        args=TrainingArguments(
            output_dir=str(tmp_path / "run"),
            max_steps=6,
            per_device_train_batch_size=8,
            report_to=[],
            use_cpu=True,
        ),
        quiet=True,
    )
    summary = run.summary()
    assert summary is not None
    assert summary.teacher_metrics["entity_f1"] == summary.teacher_metrics["accuracy"] == 1
