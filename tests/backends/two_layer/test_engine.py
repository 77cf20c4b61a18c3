"""Two-layer networks: whole runs against the plain loop of tests/reference; runs that are killed
and resumed.
"""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vigreux.loop.recorder as recorder
from tests.processes import python_m
from tests.reference import sgd as reference
from vigreux.backends.two_layer.backend import TwoLayerBackend
from vigreux.backends.two_layer.samples import Samples
from vigreux.backends.two_layer.setup import TwoLayerSetup
from vigreux.backends.two_layer.signal import Signal
from vigreux.backends.two_layer.stages import peak_rate, step_cost
from vigreux.backends.two_layer.teachers import LogitCache, NetworkShape, TwoLayerTeachers
from vigreux.backends.two_layer.training import TwoLayerStage
from vigreux.config.two_layer import SGDConfig
from vigreux.curriculum import (
    Duration,
    Embedding,
    Hidden,
    Joint,
    Labels,
    Logits,
    Projection,
    Stage,
    TeacherRef,
    hidden_part,
)
from vigreux.curriculum.recipes import extraction, one_shot, supervised
from vigreux.curriculum.serialize import to_plain
from vigreux.distillation.projection import projection_matrix
from vigreux.errors import CheckpointError, ConfigError, TrainingError
from vigreux.loop.run import run_stages
from vigreux.models.two_layer import TwoLayer
from vigreux.plan.cost import StepCost
from vigreux.run.checkpoints import verify_manifest, write_manifest
from vigreux.run.folder import RunFolder
from vigreux.tasks.synthetic.bits import BitStream
from vigreux.tasks.synthetic.parity import HierarchicalParity, Parity

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")

TASK, N = Parity(9, (1, 4)), 9
DOUBLE = torch.float64
FINAL, LABELS = TeacherRef.final(), TeacherRef.labels()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGREUX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("vigreux.backends.two_layer.teachers._CHUNK", 64)
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: None
    )  # a file of 100 bytes each would wait for the disk


def save_teachers(
    root: Path, *, classes: int = 2, width: int = 21, dtype: torch.dtype = DOUBLE
) -> TwoLayerTeachers:
    """A confident final teacher, and checkpoints of steps 10 and 20."""
    for step, folder in enumerate((root / "checkpoint-10", root / "checkpoint-20", root / "final")):
        network = TwoLayer(N, width, classes, seed=step + 50, dtype=dtype)
        network.output.weight.data *= 4
        network.save(folder)
        write_manifest(folder)
    return TwoLayerTeachers.find(str(root / "final"), str(root))


def setup_of(
    curriculum: tuple[Stage, ...], teachers: TwoLayerTeachers | None = None, **changes: Any
) -> TwoLayerSetup:
    """A float64 student of width 6; every 7th step is evaluated and every 11th saved."""
    sgd = {"learning_rate": 0.05, "eval_every": 7, "save_every": 11, "threads": 1}
    settings = SGDConfig(**(sgd | changes.pop("settings", {})))
    classes, width, dtype = changes.pop("classes", 2), changes.pop("width", 6), changes.pop("dtype", DOUBLE)
    student = TwoLayer(N, width, classes, seed=changes.pop("student_seed", 1), dtype=dtype)
    given = {"task": TASK, "steps": 60, "eval_samples": 64, "data_seed": 3} | changes
    return TwoLayerSetup(
        student=student, curriculum=curriculum, teachers=teachers, settings=settings, **given
    )


def run(setup: TwoLayerSetup, root: Path, *, resume: bool = False) -> RunFolder:
    config, stages = {"seed": 0, "curriculum": "tiny"}, to_plain(setup.curriculum)
    setup.check()
    with (
        RunFolder.resume(root, config, stages) if resume else RunFolder.create(root, config, stages) as folder
    ):
        run_stages(TwoLayerBackend(setup), folder, root, quiet=True)
    return RunFolder.open(root)


def weights(folder: RunFolder) -> list[torch.Tensor]:
    return list(TwoLayer.load(folder.student).parameters_in_order())


# --- the whole run is the plain loop ------------------------------------------------------------------------


def plain_rates(setup: TwoLayerSetup, stage: int) -> list[float]:
    """Step by step, as the configuration describes them."""
    sgd, lengths = setup.settings, setup.stage_steps
    peak, target = sgd.learning_rate, setup.curriculum[stage].target
    if isinstance(target, Hidden) and sgd.hidden_learning_rate:
        peak = sgd.hidden_learning_rate
    if isinstance(target, Joint):
        peak = min(peak, (sgd.hidden_learning_rate or peak) / target.weight)
    if sgd.decay == "constant":
        return [peak] * lengths[stage]
    total = sum(lengths) if setup.carried_schedule else lengths[stage]
    before = sum(lengths[:stage]) if setup.carried_schedule else 0
    warm = math.ceil(sgd.warmup_share * total)
    rates = []
    for t in range(before, before + lengths[stage]):
        if t < warm:
            rates.append(peak * (t + 1) / warm)
        else:
            rates.append(peak * (1 + math.cos(math.pi * (t - warm) / (total - warm))) / 2)
    return rates


def plain_hidden(teacher: TwoLayer, target: Hidden, width: int, X: torch.Tensor) -> torch.Tensor:
    layer = teacher if target.layer == 2 else teacher.hidden_states
    P = projection_matrix(
        target.projection, teacher.classes if target.layer == 2 else teacher.width, width
    ).to(DOUBLE)
    calibration = BitStream(N, 3, "calibrate").block(0, 4096).astype(float)
    spread = (layer(torch.from_numpy(calibration)) @ P).var(dim=0, correction=0)
    scale = {"none": 1.0, "unit": spread.mean().rsqrt(), "per-dimension": spread.rsqrt()}[target.scaling]
    return layer(X) @ P * scale


def plain_targets(setup: TwoLayerSetup, stage: Stage, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Class probabilities, or (label, teacher's value) for one logit."""
    one_logit = setup.student.classes == 1
    exact = (
        (2.0 * y - 1)[:, None].to(DOUBLE) if one_logit else torch.eye(setup.student.classes, dtype=DOUBLE)[y]
    )
    if isinstance(stage.target, Labels):
        return torch.cat([exact, exact], dim=1) if one_logit else exact
    matched = stage.target.logits if isinstance(stage.target, Joint) else stage.target
    assert isinstance(matched, Logits)
    assert setup.teachers is not None
    f = TwoLayer.load(setup.teachers.folder(stage.teacher))(X)
    if one_logit:
        return torch.cat([exact, f], dim=1)
    tau, alpha = matched.temperature, matched.alpha
    q = (
        torch.nn.functional.one_hot(f.argmax(1), f.shape[1]).to(DOUBLE)
        if tau < 1e-10
        else (f / tau).softmax(1)
    )
    return alpha * exact + (1 - alpha) * q


def plain_run(setup: TwoLayerSetup) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Final parameters, and each stage's losses sample by sample."""
    W, b, A, c = (p.clone() for p in setup.student.parameters_in_order())
    sgd, first, losses = setup.settings, 0, []
    shared = {"batch": sgd.batch_size, "weight_decay": sgd.weight_decay}
    for index, (stage, steps) in enumerate(zip(setup.curriculum, setup.stage_steps)):
        count = steps * sgd.batch_size
        rows = BitStream(N, setup.data_seed).block(first, count)
        X, y = torch.from_numpy(rows.astype(float)), torch.from_numpy(setup.task.labels(rows))
        rates, target, before = plain_rates(setup, index), stage.target, sgd.match == "before-relu"
        loss = "hinge" if sgd.loss == "hinge" else "soft-cross-entropy"
        if (hidden := hidden_part(target)) is not None:
            assert setup.teachers is not None
            goal = plain_hidden(
                TwoLayer.load(setup.teachers.folder(stage.teacher)), hidden, setup.student.width, X
            )
        if isinstance(target, Hidden):
            (W, b), own = reference.fit_hidden(W, b, X, goal, rates, before_relu=before, **shared)
        elif isinstance(target, Joint):
            both = {
                "weight": target.weight,
                "before_relu": before,
                "loss": loss,
                "alpha": target.logits.alpha,
            }
            q = plain_targets(setup, stage, X, y)
            (W, b, A, c), own = reference.fit_joint(W, b, A, c, X, q, goal, rates, **both, **shared)
        else:
            alpha = target.alpha if isinstance(target, Logits) else 1.0
            q = plain_targets(setup, stage, X, y)
            (W, b, A, c), own = reference.fit_logits(
                W, b, A, c, X, q, rates, loss=loss, alpha=alpha, **shared
            )
        losses.append(own)
        first += count
    return [W, b, A, c], losses


def logged_means(folder: RunFolder, stage: Stage, losses: torch.Tensor, batch: int, save_every: int) -> None:
    """Each logged loss is the mean since the last log or checkpoint."""
    records = [record for record in folder.metrics("train") if record["stage"] == stage.name]
    steps = [0, *(record["step"] for record in records)]
    for (before, step), record in zip(pairwise(steps), records):
        start = max(before, (step - 1) // save_every * save_every)
        assert record["loss"] == pytest.approx(float(losses[start * batch : step * batch].mean()), abs=1e-10)


def hidden(projection: str = "sparse", scaling: Any = "unit") -> tuple[Stage, ...]:
    kind: Any = projection
    return extraction(layers={1: 1}, hidden_share=0.4, projection=Projection(kind), scaling=scaling)


def joint(hidden: Hidden, logits: Logits | None = None, weight: float = 1.0) -> tuple[Stage, ...]:
    return one_shot(target=Joint(hidden, logits or Logits(), weight))


BEFORE, AFTER = {"match": "before-relu"}, {"match": "after-relu"}
PROJECTED = extraction(
    layers={2: 1}, hidden_share=0.4, scaling="per-dimension"
)  # the logits, projected to the hidden layer
MIXED = (
    Stage("soft", TeacherRef.checkpoint(10), Logits(2.0), None, Duration.share(0.3)),
    Stage("hard", FINAL, Logits(1e-20, alpha=0.25), None, Duration.samples(33)),
    Stage("labels", LABELS, Labels(), None, Duration.steps(9)),
)
RUNS: dict[str, tuple[tuple[Stage, ...], dict[str, Any]]] = {
    "labels": (supervised(), {}),
    "labels, constant rate": (supervised(), {"settings": {"decay": "constant"}}),
    "labels, 8 classes": (supervised(), {"classes": 8, "task": HierarchicalParity.draw(N, 1, 8)}),
    "logits": (one_shot(), {}),
    "logits of hard labels mixed with labels": (one_shot(target=Logits(1e-20, alpha=0.3)), {}),
    "three teachers, one schedule": (MIXED, {}),
    "three teachers, a schedule each": (MIXED, {"carried_schedule": False}),
    "batches of 4": (MIXED, {"settings": {"batch_size": 4}}),
    "batches of 3 with weight decay": (hidden(), {"settings": {"batch_size": 3, "weight_decay": 0.3}}),
    "hidden before relu": (hidden(), {"settings": BEFORE}),
    "hidden after relu": (hidden(), {"settings": AFTER}),
    "hidden at its own rate": (
        hidden("gaussian", "per-dimension"),
        {"settings": AFTER | {"hidden_learning_rate": 0.01}},
    ),
    "hidden of equal width": (hidden("identity", "none"), {"settings": BEFORE, "width": 21}),
    "hinge of two logits": (one_shot(target=Logits(alpha=0.2)), {"settings": {"loss": "hinge"}}),
    "hinge of one logit": (one_shot(target=Logits(alpha=0.2)), {"settings": {"loss": "hinge"}, "classes": 1}),
    "projected logits": (PROJECTED, {"classes": 8, "task": HierarchicalParity.draw(N, 1, 8)}),
    "projected logits, sparse, batches of 4": (
        extraction(layers={2: 1}, hidden_share=0.5, projection=Projection("sparse")),
        {"settings": AFTER | {"batch_size": 4}},
    ),
    "logits of equal width": (
        extraction(layers={2: 1}, hidden_share=0.5, projection=Projection("identity")),
        {"width": 2},
    ),
    "joint": (joint(Hidden(1, Projection("sparse")), Logits(2.0, alpha=0.25)), {"settings": BEFORE}),
    "joint, at the rate of its hidden part": (
        joint(Hidden(1, scaling="per-dimension"), weight=2.0),
        {"settings": AFTER | {"hidden_learning_rate": 0.02, "batch_size": 3, "weight_decay": 0.3}},
    ),
    "joint with a checkpoint, then labels": (
        (
            Stage(
                "joint", TeacherRef.checkpoint(10), Joint(Hidden(1), Logits(), 0.5), None, Duration.steps(31)
            ),
            MIXED[2],
        ),
        {"carried_schedule": False},
    ),
    "joint with projected logits": (joint(Hidden(2)), {}),
    "joint, hinge of one logit": (
        joint(Hidden(1), Logits(alpha=0.2)),
        {"settings": {"loss": "hinge"}, "classes": 1},
    ),
    "hinge of one logit on labels": (
        supervised(),
        {"settings": {"loss": "hinge", "batch_size": 2}, "classes": 1},
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_the_plain_loop(name: str, tmp_path: Path) -> None:
    curriculum, changes = RUNS[name]
    taught = any(stage.teacher.kind != "labels" for stage in curriculum)
    teachers = save_teachers(tmp_path / "teacher", classes=changes.get("classes", 2)) if taught else None
    setup = setup_of(curriculum, teachers, **changes)
    expected, losses = plain_run(setup)
    folder = run(setup, tmp_path / "run")
    for found, wanted in zip(weights(folder), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    for stage, own in zip(curriculum, losses):
        logged_means(folder, stage, own, setup.settings.batch_size, 11)
    summary = folder.summary()
    assert summary is not None
    assert summary.steps == sum(setup.stage_steps)
    assert bool(summary.teacher_metrics) is taught


def test_where_a_run_stops_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are drawn, evaluated and saved in any portions."""
    teachers = save_teachers(tmp_path / "teacher")
    found = []
    for i, (chunk, evaluated, saved) in enumerate(
        [(4096, 1000, 1000), (5, 1000, 1000), (4096, 2, 13), (16, 9, 3)]
    ):
        monkeypatch.setattr("vigreux.backends.two_layer.training._CHUNK", chunk)
        setup = setup_of(CHAIN, teachers, settings={"eval_every": evaluated, "save_every": saved}, steps=50)
        found.append(weights(run(setup, tmp_path / f"run{i}")))
    for other in found[1:]:
        for a, b in zip(other, found[0]):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_the_held_out_metrics(tmp_path: Path) -> None:
    for classes, loss in ((2, "cross-entropy"), (2, "hinge"), (1, "hinge")):
        folder = run(
            setup_of(supervised(), classes=classes, settings={"loss": loss}), tmp_path / f"{classes}{loss}"
        )
        rows = BitStream(N, 3, "eval").block(0, 64)
        f, y = TwoLayer.load(folder.student)(torch.from_numpy(rows).to(DOUBLE)), TASK.labels(rows)
        margin = (f[:, 1] - f[:, 0] if classes == 2 else f[:, 0]) * torch.from_numpy(2 * y - 1)
        values = (
            (1 - margin).clamp(min=0) / (2 if classes == 2 else 1)
            if loss == "hinge"
            else (-margin).exp().log1p()
        )
        summary = folder.summary()
        assert summary is not None
        assert summary.metrics["accuracy"] == float((margin > 0).double().mean())
        assert summary.metrics["loss"] == pytest.approx(float(values.mean()))
        assert folder.metrics("eval")[-1]["loss"] == summary.metrics["loss"]


def test_explained_variance_of_a_student_that_matches(tmp_path: Path) -> None:
    """A student that starts as its teacher explains all of its hidden layer, and one of zeros none."""
    teachers = save_teachers(tmp_path / "teacher")
    setup = setup_of(
        hidden("identity", "none"), teachers, width=21, settings=AFTER | {"learning_rate": 1e-12}
    )
    setup.student.load_weights(teachers.final)
    assert run(setup, tmp_path / "same").stages()[0].explained_variance == pytest.approx(1)
    for p in setup.student.parameters_in_order():
        p.zero_()
    with pytest.warns(UserWarning, match="explained variance of"):
        stages = run(replace(setup, data_seed=4), tmp_path / "zero").stages()
    assert stages[0].explained_variance is not None
    assert stages[0].explained_variance < 0
    assert "the teacher's hidden units no better than their mean" in stages[0].notes[0]


def test_explained_variance_of_other_targets(tmp_path: Path) -> None:
    """A joint stage explains the hidden layer; a hidden layer that matches logits explains the logits."""
    teachers = save_teachers(tmp_path / "teacher")
    same = joint(Hidden(1, Projection("identity"), "none"))
    setup = setup_of(same, teachers, width=21, settings=AFTER | {"learning_rate": 1e-12})
    setup.student.load_weights(teachers.final)
    assert run(setup, tmp_path / "same").stages()[0].explained_variance == pytest.approx(1)
    with pytest.warns(UserWarning, match="the teacher's logits no better than their mean"):
        run(
            setup_of(PROJECTED, teachers, settings={"hidden_learning_rate": 1.0}, steps=3),
            tmp_path / "logits",
        )


@pytest.mark.parametrize(
    ("weight", "settings", "name"),
    [
        (1.0, {"hidden_learning_rate": 1e11}, "hidden_learning_rate"),
        (1.0, {}, "learning_rate"),
        (1e-3, {}, "learning_rate"),
    ],
)
def test_the_rate_that_is_too_high_is_named(
    weight: float, settings: dict[str, Any], name: str, tmp_path: Path
) -> None:
    setup = setup_of(
        joint(Hidden(1), weight=weight),
        save_teachers(tmp_path / "teacher"),
        settings={"learning_rate": 1e12, "decay": "constant"} | settings,
    )
    with pytest.raises(TrainingError, match=rf"a smaller training\.{name}"):
        run(setup, tmp_path / "run")


def test_flops() -> None:
    student, teacher = TwoLayer(10, 6, 2), NetworkShape(10, 100, 2)
    assert step_cost(Labels(), student, None, 3) == StepCost(3 * 4.0 * 6 * (10 + 4), 0.0)
    assert step_cost(Logits(), student, teacher, 1).teacher_flops == 2 * 100 * (10 + 2)
    assert step_cost(Hidden(1), student, teacher, 1) == StepCost(4.0 * 6 * 10, 2.0 * (100 * 10 + 100 * 6))
    assert step_cost(Hidden(1, Projection("sparse")), student, teacher, 1).teacher_flops == 2 * (
        100 * 10 + 100 * 1
    )
    assert step_cost(Hidden(1, Projection("identity")), student, teacher, 1).teacher_flops == 2 * 100 * 10
    assert step_cost(Hidden(2), student, teacher, 1) == StepCost(4.0 * 6 * 10, 2.0 * (100 * (10 + 2) + 2 * 6))
    both = Joint(
        Hidden(1, Projection("sparse")), Logits()
    )  # each network once, and all that is read off the teacher
    assert step_cost(both, student, teacher, 3) == StepCost(
        3 * 4.0 * 6 * (10 + 4), 3 * 2.0 * (100 * 10 + 100 * 1 + 100 * 2)
    )
    assert step_cost(Joint(Hidden(2), Logits()), student, teacher, 1).teacher_flops == 2 * (
        100 * (10 + 2) + 2 * 6
    )


@pytest.mark.parametrize(
    ("target", "hidden_rate", "rate"),
    [
        (Logits(), 0.01, 0.05),
        (Labels(), 0.01, 0.05),
        (Hidden(1), None, 0.05),
        (Hidden(2), 0.01, 0.01),
        (Hidden(1), 0.2, 0.2),
        (Joint(Hidden(1), Logits()), None, 0.05),
        (Joint(Hidden(1), Logits()), 0.01, 0.01),
        (Joint(Hidden(1), Logits()), 0.2, 0.05),
        (Joint(Hidden(1), Logits(), weight=0.5), 0.01, 0.02),
        (Joint(Hidden(1), Logits(), weight=0.1), 0.01, 0.05),
        (Joint(Hidden(1), Logits(), weight=5), None, 0.01),
    ],
    ids=str,
)
def test_the_rate_of_a_stage(target: Any, hidden_rate: float | None, rate: float) -> None:
    assert peak_rate(
        target, SGDConfig(learning_rate=0.05, hidden_learning_rate=hidden_rate)
    ) == pytest.approx(rate)


# --- killed and resumed -------------------------------------------------------------------------------------

PLATEAU = (
    Stage("hidden", FINAL, Hidden(1, Projection("sparse")), 1, Duration.plateau(2, limit=60, min_delta=0.9)),
    Stage("logits", FINAL, Logits(), None, Duration.plateau(1, limit=60, min_delta=0.9)),
)
CHAIN = (hidden()[0], *MIXED)
BOTH = Joint(Hidden(1, Projection("sparse")), Logits(2.0, alpha=0.25), 0.5)
TOGETHER = (
    PROJECTED[0],
    Stage("both", TeacherRef.checkpoint(10), BOTH, None, Duration.share(0.3)),
    *MIXED[1:],
)
SINGLE = {"dtype": torch.float32, "width": 9}
CASES: dict[str, tuple[tuple[Stage, ...], dict[str, Any]]] = {
    "chain": (CHAIN, SINGLE),
    "a schedule each, all kept": (
        CHAIN,
        SINGLE
        | {
            "carried_schedule": False,
            "settings": {"keep_checkpoints": True, "batch_size": 2, "weight_decay": 0.1},
        },
    ),
    "plateau": (PLATEAU, SINGLE),
    "projected logits, then joint": (TOGETHER, SINGLE | {"settings": {"hidden_learning_rate": 0.02}}),
}
# a point of a run → where the process is killed: (owner, name, which call, after the call or before it)
KILLS: dict[str, tuple[Any, str, int, bool]] = {
    "before the first step": (TwoLayerStage, "train_block", 1, False),
    "on the way": (TwoLayerStage, "train_block", 4, True),
    "before a manifest": (recorder, "write_manifest", 1, False),
    "after a manifest": (recorder, "write_manifest", 1, True),
    "after a second manifest": (recorder, "write_manifest", 2, True),
    "while weights are written": (TwoLayer, "save", 1, True),
    "between a record and the next": (RunFolder, "log_metrics", 1, True),
    "before a stage is recorded": (RunFolder, "finish_stage", 1, False),
    "between two stages": (RunFolder, "finish_stage", 1, True),
    "before the summary": (RunFolder, "finish", 1, False),
}
KILLED = (
    "before the first step",
    "on the way",
    "before a manifest",
    "after a manifest",
    "between a record and the next",
    "after a second manifest",
    "while weights are written",
    "before a stage is recorded",
    "between two stages",
    "on the way",
    "after a second manifest",
    "between two stages",
    "before the summary",
)
OF_A_PLATEAU = (
    "on the way",
    "after a manifest",
    "before a stage is recorded",
    "between two stages",
    "between a record and the next",
    "after a manifest",
    "after a manifest",
    "before a stage is recorded",
    "before the summary",
)


def case(name: str, teachers: TwoLayerTeachers, **changes: Any) -> TwoLayerSetup:
    curriculum, own = CASES[name]
    return setup_of(curriculum, teachers, **(own | changes))


def killed(setup: TwoLayerSetup, root: Path, point: str) -> None:
    """Runs until `point`, and leaves behind what a killed process leaves."""
    from tests.backends.transformer.tiny import (
        Killed,
        killed_at,
    )  # here: the process that is killed does without transformers

    owner, name, call, after = KILLS[point]
    config, stages = {"seed": 0, "curriculum": "tiny"}, to_plain(setup.curriculum)
    begun = (root / "run.json").exists()
    folder = RunFolder.resume(root, config, stages) if begun else RunFolder.create(root, config, stages)
    with killed_at(owner, name, call, after=after), pytest.raises(Killed):
        run_stages(TwoLayerBackend(setup), folder, root, quiet=True)
    folder.close()  # the kernel lets go of a dead process's lock


def without_seconds(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def assert_same_run(a: RunFolder, b: RunFolder) -> None:
    assert (a.student / "model.safetensors").read_bytes() == (b.student / "model.safetensors").read_bytes()
    assert without_seconds(a.metrics()) == without_seconds(b.metrics())
    assert [replace(stage, seconds=0) for stage in a.stages()] == [
        replace(stage, seconds=0) for stage in b.stages()
    ]
    ends = [folder.summary() for folder in (a, b)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert replace(ends[0], seconds=0) == replace(ends[1], seconds=0)
    assert a.status == b.status == "finished"
    kept = [
        sorted(str(path.relative_to(folder.path)) for path in folder.path.glob("stages/*/*"))
        for folder in (a, b)
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("name", CASES)
def test_killed_again_and_again(name: str, tmp_path: Path) -> None:
    teachers = save_teachers(tmp_path / "teacher")
    whole = run(case(name, teachers), tmp_path / "whole")
    for place, point in enumerate(OF_A_PLATEAU if name == "plateau" else KILLED):
        killed(case(name, teachers, student_seed=place + 1), tmp_path / "killed", point)
    assert_same_run(run(case(name, teachers, student_seed=99), tmp_path / "killed", resume=True), whole)


def test_a_killed_process(tmp_path: Path) -> None:
    teachers = save_teachers(tmp_path / "teacher")
    root = tmp_path / "killed"
    ended = python_m("tests.backends.two_layer.test_engine", tmp_path, cwd=Path(__file__).parents[3])
    assert ended.code == -signal.SIGKILL, ended.err
    assert RunFolder.open(root).status == "stopped"
    assert len(RunFolder.open(root).stages()) == 1
    resumed = run(case("chain", teachers, student_seed=99), root, resume=True)
    assert_same_run(resumed, run(case("chain", teachers), tmp_path / "whole"))


def test_a_plateau_ends_a_stage(tmp_path: Path) -> None:
    """No evaluation is ten times as good as the first, so each stage lasts one more than its patience."""
    folder = run(case("plateau", save_teachers(tmp_path / "teacher")), tmp_path / "run")
    assert [stage.steps for stage in folder.stages()] == [21, 14]
    assert [record["samples"] for record in folder.metrics("eval")] == [7, 14, 21, 28, 35]


def test_a_plateau_of_a_hidden_stage_is_of_its_own_loss(tmp_path: Path) -> None:
    """The untrained output layer says nothing: the stage goes on while it explains more."""
    stage = Stage(
        "hidden", FINAL, Hidden(1, Projection("identity")), 1, Duration.plateau(1, limit=350, min_delta=0.01)
    )
    setup = setup_of(
        (stage,),
        save_teachers(tmp_path / "teacher"),
        width=21,
        settings={"eval_every": 50, "decay": "constant"},
    )
    folder = run(setup, tmp_path / "run")
    explained = [record["explained_variance"] for record in folder.metrics("eval")]
    assert len(explained) > 2
    assert explained[2] > explained[0] > 0


def test_a_plateau_of_a_joint_stage_is_of_the_sum(tmp_path: Path) -> None:
    target = Joint(Hidden(1), Logits(), 0.5)
    teachers = save_teachers(tmp_path / "teacher")
    setup = setup_of((Stage("both", FINAL, target, None, Duration.plateau(1, limit=14)),), teachers)
    signal = Signal(setup, Samples(setup), setup.curriculum[0])
    assert signal.hidden is not None
    error = 0.5 * signal.hidden.variance * (1 - 0.25)  # ½ ‖a − t‖²
    assert signal.plateau_loss({"loss": 0.7, "explained_variance": 0.25}) == pytest.approx(0.7 + 0.5 * error)
    assert signal.plateau_loss({"loss": None, "explained_variance": 0.25}) == math.inf
    assert signal.plateau_loss({"loss": 0.7, "explained_variance": None}) == math.inf


@pytest.mark.parametrize("keep", [True, False])
def test_a_damaged_checkpoint_is_not_used(keep: bool, tmp_path: Path) -> None:
    """The run goes on from the one before, where they are kept, else from the beginning of the stage."""
    from tests.backends.transformer.tiny import Killed, killed_at

    teachers, root = save_teachers(tmp_path / "teacher"), tmp_path / "killed"
    changes = SINGLE | {"settings": {"keep_checkpoints": keep}}
    begin = setup_of(CHAIN, teachers, **changes)
    with RunFolder.create(root, {"seed": 0, "curriculum": "tiny"}, to_plain(CHAIN)) as folder:
        with killed_at(TwoLayerStage, "train_block", 6), pytest.raises(Killed):
            run_stages(TwoLayerBackend(begin), folder, root, quiet=True)
        folder.close()
    directory = root / "stages" / "00-hidden-1-to-1"
    damaged = directory / "checkpoint-22" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00")
    started: list[int] = []
    train_block = TwoLayerStage.train_block

    def watched(self: TwoLayerStage, run: Any, step: int, until: int) -> None:
        started.append(step)
        train_block(self, run, step, until)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TwoLayerStage, "train_block", watched)
        resumed = run(setup_of(CHAIN, teachers, **changes), root, resume=True)
    assert started[0] == (11 if keep else 0)
    assert_same_run(resumed, run(setup_of(CHAIN, teachers, **changes), tmp_path / "whole"))


@pytest.mark.parametrize("stage", [0, 1])
def test_a_finished_stage_whose_checkpoint_is_damaged_is_done_again(stage: int, tmp_path: Path) -> None:
    teachers, root = save_teachers(tmp_path / "teacher"), tmp_path / "killed"
    for point in ("between two stages", "between two stages", "after a second manifest"):
        killed(case("chain", teachers), root, point)
    names = ["00-hidden-1-to-1/checkpoint-24", "01-soft/checkpoint-18"]
    (root / "stages" / names[stage] / "model.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="missing or damaged: done again"):
        resumed = run(case("chain", teachers), root, resume=True)
    assert_same_run(resumed, run(case("chain", teachers), tmp_path / "whole"))


# --- what cannot go on --------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    """Names the step, and keeps the last checkpoint, which is sound."""
    setup = setup_of(
        supervised(),
        dtype=torch.float32,
        settings={"decay": "constant", "learning_rate": 1e12, "save_every": 1},
    )
    with pytest.raises(
        TrainingError,
        match=r"'labels': .* is not finite at step (\d+) \(learning rate 1e\+12\); .*learning_rate",
    ) as e:
        run(setup, tmp_path)
    step = int(str(e.value).split("at step ")[1].split()[0])
    folder = RunFolder.open(tmp_path)
    assert folder.status == "failed"
    assert not folder.student.exists()
    kept = list(tmp_path.glob("stages/*/checkpoint-*"))
    assert [path.name for path in kept] == ([f"checkpoint-{step - 1}"] if step > 1 else [])
    for path in kept:
        assert str(path) in str(e.value)
        assert not verify_manifest(path)
        assert all(p.isfinite().all() for p in TwoLayer.load(path).parameters_in_order())


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """The last step before a checkpoint does the harm: no loss has shown it yet."""
    setup = setup_of(
        hidden("gaussian"),
        save_teachers(tmp_path / "teacher"),
        dtype=torch.float32,
        settings={"save_every": 3},
    )
    train_block = TwoLayerStage.train_block

    def train(self: Any, run: Any, step: int, until: int) -> None:
        train_block(self, run, step, until)
        if until == 6:
            self.student.hidden.weight[0, 0] = torch.inf

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TwoLayerStage, "train_block", train)
        with pytest.raises(
            TrainingError,
            match=r"a weight is not finite at step 6 .*training\.learning_rate; .* is .*checkpoint-3",
        ):
            run(setup, tmp_path / "run")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = setup_of(supervised())
    original = os.replace

    def full(source: str | Path, path: str | Path) -> None:
        if Path(path).parent.name == "checkpoint-22":
            raise OSError(errno.ENOSPC, "No space left on device")
        original(source, path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(
            TrainingError, match=r"checkpoint-22/model.safetensors: the disk is full; .*--resume continues"
        ):
            run(setup, tmp_path / "run")
    assert RunFolder.open(tmp_path / "run").status == "failed"
    assert_same_run(
        run(setup_of(supervised()), tmp_path / "run", resume=True),
        run(setup_of(supervised()), tmp_path / "whole"),
    )


def stage(
    target: Any, *, teacher: TeacherRef = FINAL, depth: int | None = None, duration: Duration | None = None
) -> tuple[Stage, ...]:
    return (Stage("only", teacher, target, depth, duration or Duration.share(1.0)),)


@pytest.mark.parametrize(
    ("curriculum", "changes", "match"),
    [
        (stage(Embedding()), {}, "is not for two-layer networks; accepted: labels, logits, hidden, joint"),
        (
            stage(Hidden(0), depth=1),
            {},
            "hidden layer 0; accepted: layer 1, the hidden units, or 2, the teacher's logits",
        ),
        (
            stage(Hidden(3), depth=1),
            {},
            "hidden layer 3; accepted: layer 1, the hidden units, or 2, the teacher's logits",
        ),
        (stage(Hidden(1)), {}, "hidden layer 1 to depth None; accepted: to depth 1, the only one"),
        (stage(Hidden(2)), {}, "hidden layer 2 to depth None; accepted: to depth 1"),
        (stage(Hidden(2), depth=2), {}, "depth 2 is outside the student, which has 1 blocks"),
        (joint(Hidden(3)), {}, "stage 'final': hidden layer 3; accepted: layer 1"),
        (
            joint(Hidden(1, Projection("pca"))),
            {},
            "projection 'pca'; accepted: sparse, gaussian, orthogonal, identity",
        ),
        (
            joint(Hidden(1, Projection("identity"))),
            {},
            "needs equal widths, the teacher has 21 and the student 6",
        ),
        (
            stage(Hidden(2, Projection("identity")), depth=1),
            {"width": 21},
            "needs equal widths, the teacher has 2 and the student 21",
        ),
        (
            stage(Hidden(1, positions="predicted"), depth=1),
            {},
            "predicted tokens.*; accepted: positions 'all'",
        ),
        (
            stage(Hidden(1, divergence="cosine"), depth=1),
            {},
            "hidden.divergence: 'cosine'; accepted: 'mse'",
        ),
        ((replace(supervised()[0], frozen=0),), {}, "frozen 0; accepted: none"),
        (joint(Hidden(1)), {"teachers": None}, "teacher.model: missing, stage 'final' needs it"),
        (
            stage(Hidden(1, Projection("pca")), depth=1),
            {},
            "projection 'pca'; accepted: sparse, gaussian, orthogonal, identity",
        ),
        (stage(Hidden(1, Projection("learned")), depth=1), {}, "projection 'learned'; accepted"),
        (
            stage(Hidden(1, Projection("identity")), depth=1),
            {},
            "needs equal widths, the teacher has 21 and the student 6",
        ),
        (
            stage(Logits(), duration=Duration.epochs(2)),
            {},
            "of an endless stream; accepted: steps, samples, share, plateau",
        ),
        (stage(Logits(), duration=Duration.tokens(2)), {}, "of an endless stream"),
        (supervised(), {"classes": 1}, "cross-entropy needs 2 logits or more; accepted for one logit: hinge"),
        (one_shot(), {"teachers": None}, "teacher.model: missing, stage 'final' needs it"),
        (one_shot(), {"classes": 3, "task": TASK}, "teacher.model: has classes 2; accepted: .* 3"),
        (one_shot(), {"task": Parity(10, (0,))}, "teacher.model: has n 9; accepted: .* 10"),
    ],
)
def test_what_this_engine_does_not_take(
    curriculum: Any, changes: dict[str, Any], match: str, tmp_path: Path
) -> None:
    setup = setup_of(curriculum, **({"teachers": save_teachers(tmp_path / "teacher")} | changes))
    with pytest.raises(ConfigError, match=match):
        setup.check()


@pytest.mark.parametrize(
    ("curriculum", "width"),
    [
        (stage(Hidden(1), depth=1), 6),
        (stage(Hidden(2), depth=1), 6),
        (stage(Hidden(2, Projection("identity")), depth=1), 2),
        (joint(Hidden(1, Projection("identity"))), 21),
        (joint(Hidden(2)), 6),
    ],
)
def test_the_nearest_that_it_takes(curriculum: Any, width: int, tmp_path: Path) -> None:
    setup_of(curriculum, save_teachers(tmp_path / "teacher"), width=width).check()


def test_a_checkpoint_that_is_missing_or_damaged(tmp_path: Path) -> None:
    teachers = save_teachers(tmp_path / "teacher")
    setup = setup_of(stage(Logits(), teacher=TeacherRef.checkpoint(15)), teachers)
    with pytest.raises(
        CheckpointError, match=r"teacher\.checkpoints: step: unknown value '15'; .*accepted: 10, 20"
    ):
        setup.check()
    (teachers.checkpoints[10] / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"checkpoint-10: model\.safetensors has 1 bytes"):
        setup_of(stage(Logits(), teacher=TeacherRef.checkpoint(10)), teachers).check()
    setup_of(stage(Logits(), teacher=TeacherRef.checkpoint(20)), teachers).check()


def test_two_students_ask_the_teacher_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teachers = save_teachers(tmp_path / "teacher")
    asked: list[int] = []
    original = LogitCache._read

    def read(self: LogitCache, number: int) -> torch.Tensor:
        loaded = "teacher" in self.__dict__
        logits = original(self, number)
        asked.extend([number] if loaded or "teacher" in self.__dict__ else [])
        return logits

    monkeypatch.setattr(LogitCache, "_read", read)
    for seed in (1, 2):
        run(setup_of(one_shot(), teachers, student_seed=seed, steps=100), tmp_path / f"run{seed}")
    assert asked == [0, 1]


@pytest.mark.parametrize(
    ("width", "dtype"), [(1, torch.float32), (3, DOUBLE), (33, torch.float32), (17, DOUBLE)]
)
def test_widths_and_types(width: int, dtype: torch.dtype, tmp_path: Path) -> None:
    """Student and teacher may differ in both."""
    teachers = save_teachers(tmp_path / "teacher", dtype=torch.float32 if dtype is DOUBLE else DOUBLE)
    folder = run(setup_of(CHAIN, teachers, width=width, dtype=dtype), tmp_path / "run")
    network = TwoLayer.load(folder.student)
    assert (network.width, network.dtype) == (width, dtype)
    assert np.isfinite([record["loss"] for record in folder.metrics()]).all()


if (
    __name__ == "__main__"
):  # the process that kills itself in its second stage, as the kernel would: nothing is flushed
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    os.environ["VIGREUX_CACHE"] = str(place / "cache")
    write = recorder.write_manifest

    def kill_before(directory: Path) -> None:
        if directory.parent.name == "01-soft":
            os.kill(os.getpid(), signal.SIGKILL)
        write(directory)

    recorder.write_manifest = kill_before
    run(
        case("chain", TwoLayerTeachers.find(str(place / "teacher" / "final"), str(place / "teacher"))),
        place / "killed",
    )
