"""The mean of a step is over its rows, however they are split into micro-batches: held against a step by
hand, in float64.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.backends.transformer.tiny import losses, run, setup_of, stage, teacher_of
from tests.reference.step import mean_loss, target_scale
from vigreux.backends.transformer.setup import CALIBRATION_BATCHES, Setup
from vigreux.curriculum import (
    Duration,
    Embedding,
    Hidden,
    Labels,
    Logits,
    Projection,
    Stage,
    TeacherRef,
)
from vigreux.distillation.projection import projection_matrix
from vigreux.distillation.signals.live import LiveTeacher, Teachers

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")  # one step explains nothing yet

RATE = 0.5
PLAIN = {
    "optim": "sgd",
    "learning_rate": RATE,
    "lr_scheduler_type": "constant",
    "weight_decay": 0,
    "max_grad_norm": 0,
}
CASES: dict[str, tuple[str, Stage]] = {
    "masked-lm labels": ("masked-lm", Stage("s", TeacherRef.labels(), Labels(), None, Duration.steps(1))),
    "masked-lm logits": ("masked-lm", stage("s", Logits(), 1)),
    "masked-lm hidden": ("masked-lm", stage("s", Hidden(2), 1, depth=1)),
    "classification labels": (
        "classification",
        Stage("s", TeacherRef.labels(), Labels(), None, Duration.steps(1)),
    ),
    "classification logits": ("classification", stage("s", Logits(), 1)),
    "classification hidden": ("classification", stage("s", Hidden(3), 1, depth=2)),
    "embedding": ("embedding", stage("s", Embedding(), 1)),
}


def in_float64(kind: str, curriculum: tuple[Stage, ...], size: int, micro: int) -> Setup:
    teacher = LiveTeacher(teacher_of(kind).model.double())
    training = PLAIN | {
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": micro,
        "logging_steps": 1,
    }
    setup = setup_of(kind, curriculum, teachers=Teachers(teacher), training=training)
    setup.student.double()
    return setup


def weights(setup: Setup) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in setup.student.named_parameters()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-12) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("size", "micro"), [(32, 1), (8, 4)])
def test_a_step_is_the_mean_over_its_rows(name: str, size: int, micro: int, tmp_path: Path) -> None:
    kind, only = CASES[name]
    setup = in_float64(kind, (only,), size, micro)
    before = weights(setup)
    final = setup.teachers.final
    assert final is not None
    matrix, scale = projection_matrix(Projection(), 24, 16).double(), 1.0
    stream = setup.task.stream(0, 0, CALIBRATION_BATCHES * 32)
    if isinstance(only.target, (Hidden, Embedding)):
        scale = target_scale(
            final.model, setup.task, only, list(map(stream.__getitem__, range(len(stream)))), matrix
        )
    setup.student.zero_grad()
    samples = [stream[i] for i in range(32)]
    loss = mean_loss(setup.student, final.model, setup.task, only, samples, matrix, scale)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in setup.student.named_parameters()}
    expected = {
        name: value if gradients[name] is None else value - RATE * gradients[name]
        for name, value in before.items()
    }
    setup.student.zero_grad()

    run(setup, tmp_path)

    assert any(not torch.equal(expected[name], before[name]) for name in before)
    assert_equal(weights(setup), expected)
    assert losses(tmp_path) == [(1, pytest.approx(float(loss.detach()), rel=1e-6))]


def test_many_steps_and_stages(tmp_path: Path) -> None:
    """Also what is measured between stages (the scale of the targets) is that of the samples, not of the
    micro-batches.
    """
    curriculum = (
        stage("first", Hidden(1), 3, depth=1),
        stage("second", Hidden(2), 3, depth=2),
        stage("final", Logits(), 3),
    )
    whole, split = in_float64("masked-lm", curriculum, 32, 1), in_float64("masked-lm", curriculum, 8, 4)
    run(whole, tmp_path / "whole")
    run(split, tmp_path / "split")
    assert_equal(weights(split), weights(whole), tolerance=1e-10)
    assert losses(tmp_path / "split") == [
        (step, pytest.approx(loss, rel=1e-6)) for step, loss in losses(tmp_path / "whole")
    ]


def test_in_single_precision_with_adam(tmp_path: Path) -> None:
    """As it is used: rounding alone tells the two apart."""
    setups = [
        setup_of(
            "masked-lm",
            (stage("hidden", Hidden(2), 2, depth=1), stage("final", Logits(alpha=0.3), 2)),
            training={
                "per_device_train_batch_size": size,
                "gradient_accumulation_steps": micro,
                "learning_rate": 1e-3,
            },
        )
        for size, micro in [(32, 1), (8, 4)]
    ]
    for place, setup in enumerate(setups):
        run(setup, tmp_path / str(place))
    assert_equal(weights(setups[1]), weights(setups[0]), tolerance=1e-6)
