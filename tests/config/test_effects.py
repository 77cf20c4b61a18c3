"""Settings that a run would ignore are refused; their nearest valid neighbours are not."""

from dataclasses import replace

import pytest

from vigreux.config.effects import check_effects, unused_settings
from vigreux.config.shared import ExtractionConfig, LossConfig
from vigreux.config.transformer import (
    CacheConfig,
    ModelConfig,
    RunConfig,
    StudentConfig,
    TaskConfig,
    TeachConfig,
    TeacherConfig,
)
from vigreux.errors import ConfigError

START = {"model": "start"}


def run(task=None, student=None, teacher=None, **more):
    task = {"data": "a.txt"} | (task or {})
    return RunConfig(
        task=TaskConfig(**task),
        student=StudentConfig(**student or {}),
        teacher=TeacherConfig(**teacher or {}),
        **more,
    )


def teach(task=None, **model):
    return TeachConfig(task=TaskConfig(**{"data": "a.txt"} | (task or {})), model=ModelConfig(**model))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (run(student=START | {"layers": 2}), "student.layers: has no effect with student.model"),
        (run(student=START | {"hidden": 16}), "student.hidden: has no effect with student.model"),
        (run(student=START | {"init": "random"}), "student.init: has no effect with student.model"),
        (
            run(student={"from_layers": [0, 1]}),
            "student.from_layers: has no effect with student.init projected-emb",
        ),
        (
            run(student={"allow_pickle": True}),
            "student.allow_pickle: has no effect with a new student",
        ),
        (
            run(teacher={"model": "asset:minilm-l6", "revision": "main"}),
            "teacher.revision: has no effect with teacher.mod",
        ),
        (
            run(teacher={"after_blocks": ["norm"]}),
            "teacher.after_blocks: has no effect with no teacher.blocks",
        ),
        (
            run({"mask_share": 0.3}),
            "task.mask_share: has no effect with task.kind causal-lm: it is for masked-lm",
        ),
        (run({"label_field": "topic"}), "task.label_field: has no effect with task.kind causal-lm"),
        (
            run({"pooling": "cls"}),
            "task.pooling: has no effect with task.kind causal-lm: it is for embedding",
        ),
        (run({"boundary_level": 2}), "task.boundary_level: has no effect with such task.data"),
        (
            run({"data": "grammar:cfg3b", "text_field": "t"}),
            "task.text_field: has no effect with a law as task.data",
        ),
        (
            run({"eval_data": "b.txt", "eval_share": 0.2}),
            "task.eval_share: has no effect with task.eval_data",
        ),
        (
            run(extraction=ExtractionConfig(layers={1: 1}, stages=2)),
            "extraction.stages: has no effect with extraction.l",
        ),
        (
            run({"kind": "embedding"}, loss=LossConfig(temperature=2)),
            "loss.temperature: has no effect with task.kind emb",
        ),
        (teach(start="a", layers=2), "model.layers: has no effect with model.start"),
        (teach(start="a", vocab_size=500), "model.vocab_size: has no effect with an existing tokenizer"),
        (teach(family="bert", allow_pickle=True), "model.allow_pickle: has no effect with a random start"),
        (
            teach({"data": "parity:n=5,k=2,seed=0", "kind": "classification"}, family="bert", tokenizer="t"),
            "model.tokenizer",
        ),
    ],
)
def test_a_setting_without_effect_is_refused(config, message):
    with pytest.raises(ConfigError) as error:
        check_effects(config)
    assert message in str(error.value)
    assert str(error.value).endswith("; accepted: leave it out")


@pytest.mark.parametrize(
    "config",
    [
        run(student=START | {"allow_pickle": True, "trust_remote_code": True}),
        run(student={"layers": 2, "init": "teacher-layers", "from_layers": [0, 1]}),
        run(teacher={"model": "organisation/name", "revision": "main"}),
        run(teacher={"blocks": "body", "after_blocks": ["norm"]}),
        run({"kind": "masked-lm", "mask_share": 0.3, "attend_masked": False}),
        run({"kind": "classification", "label_field": "topic"}),
        run({"data": "grammar:cfg3b", "boundary_level": 2}),
        run({"eval_data": "b.txt", "allow_overlap": True}),
        # of another curriculum that shares the configuration
        run(curriculum="one-shot", extraction=ExtractionConfig(stages=2), checkpoints=[10]),
        run(curriculum="supervised", loss=LossConfig(temperature=2)),
        teach(start="a", tokenizer="b", allow_pickle=True),
        teach(family="bert", layers=2, vocab_size=500),
    ],
)
def test_its_neighbours_are_accepted(config):
    check_effects(config)


# --- settings of another curriculum ---

WHOLE = RunConfig(
    loss=LossConfig(alpha=0.3),
    extraction=ExtractionConfig(stages=2, projection="sparse"),
    checkpoints=[10],
    cache=CacheConfig(precision="float32"),
)


@pytest.mark.parametrize(
    ("curriculum", "unused"),
    [
        ("supervised", ["loss.alpha", "extraction.stages", "checkpoints"]),
        ("one-shot", ["extraction.stages", "checkpoints"]),
        ("extraction", ["checkpoints"]),
        ("p-shot", ["extraction.stages"]),
        ("stages.yaml", ["loss.alpha", "extraction.stages", "checkpoints"]),
    ],
)
def test_what_a_curriculum_does_not_read_is_a_note(curriculum, unused):
    notes = unused_settings(replace(WHOLE, curriculum=curriculum))
    assert [note.partition(":")[0] for note in notes] == [*unused, "cache.precision"]


def test_the_projection_is_read_by_projected_embeddings_and_by_embedding_tasks():
    random = replace(WHOLE, curriculum="one-shot", student=StudentConfig(init="random"))
    assert any(note.startswith("extraction.projection:") for note in unused_settings(random))
    started = replace(WHOLE, curriculum="one-shot", student=StudentConfig(model="start"))
    assert any(note.startswith("extraction.projection:") for note in unused_settings(started))
    embedding = replace(random, task=TaskConfig(kind="embedding"), loss=LossConfig())
    assert not any(note.startswith("extraction.projection:") for note in unused_settings(embedding))


def test_defaults_are_no_settings():
    assert unused_settings(RunConfig(curriculum="supervised")) == []
    assert (
        unused_settings(replace(WHOLE, curriculum="extraction", cache=CacheConfig(), checkpoints=None)) == []
    )
