"""The model card: metadata that the hub reads, and text that no name from outside can break."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard

from vigreux.backends.transformer.card import write_card
from vigreux.config.task_kinds import SPECS
from vigreux.curriculum import Duration, Labels, Stage, TeacherRef
from vigreux.curriculum.recipes import extraction
from vigreux.run.folder import Summary

SUMMARY = Summary(
    {"loss": 1.5, "accuracy": 0.75},
    steps=20,
    flops=1e12,
    seconds=8.0,
    bytes_kept=10,
    teacher_bytes=10,
    notes=("a note",),
    teacher_metrics={"loss": 1.25},
    student_parameters=1000,
    teacher_parameters=5000,
)
CURRICULUM = extraction(layers={2: 1})


def card_of(
    directory: Path, config: dict, *, kind: str = "classification", summary=SUMMARY, curriculum=CURRICULUM
) -> ModelCard:
    """The card as the hub's own reader takes it."""
    task = SimpleNamespace(kind=kind, spec=SPECS[kind])
    setup = SimpleNamespace(task=task, seed=3, curriculum=curriculum)
    write_card(directory, setup, summary, config)
    return ModelCard.load(directory / "README.md")


def teacher(root: Path, front_matter: str) -> str:
    root.mkdir()
    (root / "README.md").write_text(f"---\n{front_matter}\n---\n\n# A teacher\n")
    return str(root)


def test_metadata_of_a_hub_teacher(tmp_path):
    config = {"teacher": {"model": "org/teacher-base"}, "task": {"data": ["imdb:plain_text:test", "a/b"]}}
    data = card_of(tmp_path, config).data.to_dict()
    assert data == {
        "base_model": "org/teacher-base",
        "datasets": ["imdb", "a/b"],
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["distillation", "vigreux"],
        "metrics": ["accuracy"],
    }


def test_licence_and_language_of_the_teacher(tmp_path):
    model = teacher(tmp_path / "teacher", "license: apache-2.0\nlanguage: [en, pt-BR]")
    data = card_of(tmp_path, {"teacher": {"model": model}, "task": {"data": "data.jsonl"}}).data
    assert (data.license, data.language) == ("apache-2.0", ["en", "pt-BR"])
    assert (data.base_model, data.datasets) == (None, None)
    assert str(tmp_path) not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "data", ["asset:wikipedia", "grammar:cfg3b", "parity:n=20,k=4", "a.parquet", None, ""]
)
def test_what_is_no_data_set_of_the_hub(data, tmp_path):
    config = {"teacher": {"model": None}, "task": {"data": data}}
    assert card_of(tmp_path, config, kind="causal-lm").data.datasets is None


def test_a_torch_module_and_a_run_from_python(tmp_path):
    data = card_of(tmp_path, {}, kind="tensor").data
    assert (data.library_name, data.pipeline_tag) == ("pytorch", None)


HOSTILE = "x\n---\nlicense: mit\n---\n<script>alert(1)</script>"


@pytest.mark.parametrize(
    "config",
    [
        {"teacher": {"model": HOSTILE}, "task": {"data": HOSTILE}},
        {"teacher": {"model": ["a"]}, "task": {"data": [{"b": 1}]}},
        {"teacher": "x", "task": None} | {"teacher": None},
    ],
)
def test_a_hostile_name_stays_out_of_the_metadata(config, tmp_path):
    data = card_of(tmp_path, config).data.to_dict()
    assert set(data) == {"library_name", "pipeline_tag", "tags", "metrics"}


@pytest.mark.parametrize(
    "front_matter",
    [
        'license: "x\\n---\\nfoo: bar"\nlanguage: ["<b>", "en\\n---"]',
        "license: [1, 2]\nlanguage: {a: b}",
        "license: *alias",
        "- a list",
        "\x00",
    ],
)
def test_a_hostile_card_of_the_teacher(front_matter, tmp_path):
    model = teacher(tmp_path / "teacher", front_matter)
    data = card_of(tmp_path, {"teacher": {"model": model}}).data.to_dict()
    assert set(data) == {"library_name", "pipeline_tag", "tags", "metrics"}


def test_names_do_not_leave_their_place_in_the_text(tmp_path):
    stage = Stage("```` ## Not a heading", TeacherRef.labels(), Labels(), None, Duration.steps(1))
    summary = replace(SUMMARY, notes=("one\n# two <img src=x>",), metrics={"a|b": 1.0})
    text = card_of(tmp_path, {}, summary=summary, curriculum=(stage,)).text
    lines = text.splitlines()
    assert lines.count("`" * 5) == 2
    assert "* one # two &lt;img src=x>" in lines
    assert "| a\\|b | 1 |  |" in lines


def test_text(tmp_path):
    text = card_of(tmp_path, {}).text
    for line in ("1,000 parameters, from a teacher of 5,000.", "| loss | 1.5 | 1.25 |", "* a note"):
        assert line in text.splitlines()
    assert "hidden-2-to-1" in text
    assert "20 steps, 1 TFLOP" in text
