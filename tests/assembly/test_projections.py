"""The projections of a run depend on the run alone, not on what its process did before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.cli.tiny import Tiny, save_llama
from vigreux.assembly.build import make_setup
from vigreux.assembly.materials import Materials, load_materials
from vigreux.backends.transformer.stage_builder import build_stage
from vigreux.config.shared import BudgetConfig
from vigreux.config.transformer import RunConfig, StudentConfig, TaskConfig, TeacherConfig


@pytest.fixture
def config(tiny: Tiny, tmp_path: Path) -> RunConfig:
    save_llama(tmp_path / "teacher", tiny.bpe)
    return RunConfig(
        task=TaskConfig(kind="causal-lm", data=str(tiny.text), max_length=16),
        teacher=TeacherConfig(model=str(tmp_path / "teacher")),
        student=StudentConfig(layers=2, hidden=24, init="random"),
        budget=BudgetConfig(steps=20),
        curriculum="extraction",
        training={"per_device_train_batch_size": 4},
    )


def first_matrix(config: RunConfig, materials: Materials) -> torch.Tensor:
    setup = make_setup(config, materials)
    matrix = build_stage(setup, setup.curriculum[0])[0].projection
    assert isinstance(matrix, torch.Tensor)
    return matrix


def test_an_earlier_run_of_the_process_changes_no_projection(config: RunConfig) -> None:
    fresh = first_matrix(config, load_materials(config))
    materials = load_materials(config)
    make_setup(replace(config, student=replace(config.student, init="projected-embeddings")), materials)
    assert torch.equal(first_matrix(config, materials), fresh)
