"""The projection that a student's embeddings and its hidden stages share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.tiny import Tiny, save_llama
from vigreux.assembly.materials import Materials, load_materials
from vigreux.backends.transformer.setup import CALIBRATION_BATCHES
from vigreux.config.transformer import RunConfig, TaskConfig, TeacherConfig
from vigreux.curriculum import Projection, TeacherRef
from vigreux.distillation.projection import projection_matrix
from vigreux.distillation.signals.live import Teachers
from vigreux.models.layout import num_blocks


def config_of(tiny: Tiny, teacher: Path, **training: int) -> RunConfig:
    task = TaskConfig(kind="causal-lm", data=str(tiny.text), max_length=16)
    return RunConfig(task=task, teacher=TeacherConfig(model=str(teacher)), training=training)


def by_layer(materials: Materials, samples: int, width: int) -> torch.Tensor:
    """A pass of the teacher for every sample and layer."""
    task, teacher, rows = materials.task, materials.teacher, []
    for sample in (task.stream(0, 0, samples)[i] for i in range(samples)):
        batch = task.collate([sample])
        positions = task.token_positions(batch)
        rows += [teacher.hidden(batch, layer)[positions] for layer in range(num_blocks(teacher.model) + 1)]
    return projection_matrix(Projection("pca"), rows[0].shape[1], width, hidden=rows)


@pytest.mark.parametrize(
    "training",
    [
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    ],
    ids=["at once", "accumulated"],
)
def test_pca_sees_every_layer_on_the_first_steps_samples(
    training: dict[str, int], tiny: Tiny, tmp_path: Path
) -> None:
    save_llama(tmp_path / "teacher", tiny.bpe)
    config = config_of(tiny, tmp_path / "teacher", **training)
    materials = load_materials(config)
    projections = materials.projections(config, Teachers(materials.teacher), {})
    found = projections.matrix(Projection("pca"), TeacherRef.final(), 48, 8)
    torch.testing.assert_close(found, by_layer(materials, 4 * CALIBRATION_BATCHES, 8), rtol=0, atol=1e-5)
