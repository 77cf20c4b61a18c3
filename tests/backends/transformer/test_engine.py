"""Stages end to end: every target trains, failures say what happened, and the student opens
without Vigreux.
"""

from __future__ import annotations

import errno
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

import vigreux.backends.transformer.stage_trainer as stage_trainer
from tests.backends.transformer.tiny import (
    Net,
    bert,
    extracted,
    losses,
    prepared_run,
    run,
    setup_of,
    stage,
    teacher_of,
    tensor_task,
)
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.setup_checks import check_setup
from vigreux.backends.transformer.stage_trainer import LEARNED_PROJECTION, StageTrainer
from vigreux.config.shared import BudgetConfig
from vigreux.curriculum import (
    Curriculum,
    Divergence,
    Duration,
    Embedding,
    Hidden,
    Labels,
    Logits,
    Projection,
    Stage,
    TeacherRef,
)
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.errors import ConfigError, TrainingError
from vigreux.models.layout import find_layout
from vigreux.run.folder import RunFolder

# three steps explain nothing; where the warning matters it is asked for
pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")

STEPS = 30
SUPERVISED = (Stage("labels", TeacherRef.labels(), Labels(), None, Duration.steps(STEPS)),)


def first_and_last(root: Path, name: str) -> tuple[float, float]:
    record = next(record for record in RunFolder.open(root).stages() if record.name == name)
    assert record.first_loss is not None
    assert record.last_loss is not None
    return record.first_loss, record.last_loss


# --- every target trains ------------------------------------------------------------------------------------

LOGITS = [Logits(divergence=divergence) for divergence in get_args(Divergence)]
LOGITS += [
    Logits(top_k=3),
    Logits(alpha=0.5),
    Logits(temperature=1e-20),
    Logits(temperature=2.0, student_temperature=2.0),
]


@pytest.mark.parametrize("target", LOGITS, ids=str)
def test_logits_train(target: Logits, tmp_path: Path) -> None:
    run(setup_of("masked-lm", (stage("s", target, STEPS),)), tmp_path)
    first, last = first_and_last(tmp_path, "s")
    assert last < 0.95 * first


@pytest.mark.parametrize("kind", ["masked-lm", "classification"])
def test_labels_train(kind: str, tmp_path: Path) -> None:
    summary = run(setup_of(kind, SUPERVISED, teachers=Teachers(None)), tmp_path).summary()
    first, last = first_and_last(tmp_path, "labels")
    assert last < 0.98 * first
    assert summary is not None
    assert (summary.bytes_kept, summary.teacher_bytes, summary.teacher_parameters) == (0, 0, None)
    if kind == "classification":
        assert summary.metrics["accuracy"] > 0.9


@pytest.mark.parametrize("kind", ["masked-lm", "classification"])
@pytest.mark.parametrize("projection", ["gaussian", "orthogonal", "sparse", "pca", "learned"])
def test_hidden_states_train(kind: str, projection: Any, tmp_path: Path) -> None:
    run(setup_of(kind, extracted(STEPS, 4, projection=Projection(projection))), tmp_path)
    first, last = first_and_last(tmp_path, "hidden-1")
    assert last < 0.8 * first
    (explained,) = [
        record.explained_variance for record in RunFolder.open(tmp_path).stages() if record.name == "hidden-1"
    ]
    assert explained is not None
    assert explained > 0.1


def test_hidden_states_train_by_their_direction(tmp_path: Path) -> None:
    """The cosine distance falls, and is no share of a variance, so that none is logged."""
    hidden = stage("hidden", Hidden(1, divergence="cosine"), STEPS, depth=1)
    folder = run(setup_of("masked-lm", (hidden, stage("final", Logits(), 2))), tmp_path)
    first, last = first_and_last(tmp_path, "hidden")
    assert last < 0.8 * first <= 2
    assert folder.stages()[0].explained_variance is None
    assert not any("explained_variance" in record for record in folder.metrics())
    (held_out,) = [record for record in folder.metrics("eval") if record["stage"] == "hidden"]
    assert 0 < held_out["loss"] < 1


def test_embeddings_train(tmp_path: Path) -> None:
    folder = run(setup_of("embedding", (stage("s", Embedding(), STEPS),)), tmp_path)
    first, last = first_and_last(tmp_path, "s")
    assert last < 0.5 * first
    summary = folder.summary()
    assert summary is not None
    assert summary.metrics["similarity_pearson"] > 0.1
    assert {"loss", "explained_variance", "similarity_pearson"} <= set(folder.metrics("eval")[-1])


def test_plain_torch_modules_train(tmp_path: Path) -> None:
    """Blocks of different widths, named by hand: a stage's projection has the two widths that it compares."""
    teacher, student = Net(6, 20, 24, 28, seed=0), Net(6, 10, 12, seed=1)
    with torch.no_grad():
        teacher.head.weight.mul_(20)
    curriculum = (
        stage("one", Hidden(1), STEPS, depth=1),
        stage("two", Hidden(3), STEPS, depth=2),
        stage("final", Logits(), STEPS),
    )
    setup = Setup(
        tensor_task(),
        student,
        Teachers(LiveTeacher(teacher, find_layout(teacher, blocks="body"))),
        curriculum,
        training={"per_device_train_batch_size": 16, "learning_rate": 1e-2, "use_cpu": True},
        student_layout=find_layout(student, blocks="body"),
    )
    folder = run(setup, tmp_path)
    for name in ("one", "two", "final"):
        first, last = first_and_last(tmp_path, name)
        assert last < 0.9 * first, name
    summary = folder.summary()
    assert summary is not None
    assert summary.metrics["agreement"] > 0.7
    saved = load_file(folder.student / "model.safetensors")
    assert saved.keys() == student.state_dict().keys()
    assert all(torch.equal(saved[name], value) for name, value in student.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*activation_checkpointing:FutureWarning")
def test_activations_can_be_recomputed(tmp_path: Path) -> None:
    weights = []
    for checkpointing in (False, True):
        setup = setup_of("masked-lm", extracted(3, 3), training={"gradient_checkpointing": checkpointing})
        run(setup, tmp_path / str(checkpointing))
        weights.append([parameter.detach() for parameter in setup.student.parameters()])
    assert all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(*weights))


@pytest.mark.parametrize("target", [Logits(), Hidden(1), Hidden(1, Projection("learned"))], ids=str)
def test_a_student_in_half_precision(target: Any, tmp_path: Path) -> None:
    setup = setup_of("masked-lm", (stage("s", target, STEPS),))
    setup.student.bfloat16()
    run(setup, tmp_path)
    assert {parameter.dtype for parameter in setup.student.parameters()} == {torch.bfloat16}
    first, last = first_and_last(tmp_path, "s")
    assert last < first


# --- explained variance -------------------------------------------------------------------------------------


def test_explained_variance_is_logged(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        folder = run(setup_of("masked-lm", extracted(STEPS, STEPS, 2)), tmp_path)
    for name in ("hidden-1", "hidden-2"):
        train, held_out = (
            [r for r in folder.metrics(kind) if r["stage"] == name] for kind in ("train", "eval")
        )
        variances = [(1 - r["explained_variance"]) / r["loss"] for r in (*train, *held_out)]
        assert variances == pytest.approx(
            [variances[0]] * len(variances)
        )  # one variance of the targets for the stage
        assert variances[0] == pytest.approx(1, rel=1e-4)  # of targets that were scaled to it
        assert len(held_out) == 1
    assert not any(stage.notes for stage in folder.stages())
    assert all(
        "explained_variance" not in record for record in folder.metrics() if record["stage"] == "final"
    )


def test_a_stage_that_learned_nothing_says_so(tmp_path: Path) -> None:
    setup = setup_of("masked-lm", extracted(3, 3), training={"learning_rate": 0.0})
    with pytest.warns(
        UserWarning,
        match=r"stage 'hidden-1' ends with an explained variance of -.* no better than their mean",
    ):
        folder = run(setup, tmp_path)
    notes = [stage.notes for stage in folder.stages()]
    assert [len(each) for each in notes] == [1, 0]


# --- failures -----------------------------------------------------------------------------------------------


def broken_loss(monkeypatch: pytest.MonkeyPatch, call: int, value: float) -> None:
    """The loss of the `call`-th training step is `value`."""
    original = StageTrainer.compute_loss
    calls = iter(range(1, 1000))

    def compute(self: StageTrainer, model: Any, inputs: Any, **kwargs: Any) -> Any:
        broken = value if next(calls) == call else 1.0
        return original(self, lambda *args: broken * model(*args), inputs, **kwargs)

    monkeypatch.setattr(StageTrainer, "compute_loss", compute)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite(value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(setup_of("masked-lm", extracted(5, 8)), tmp_path / "whole")
    broken_loss(monkeypatch, 5 + 5, value)
    kept = tmp_path / "run" / "stages" / "01-final" / "checkpoint-3"
    with pytest.raises(
        TrainingError, match=r"stage 'final': the loss is (nan|inf) at step 5; the last good checkpoint is "
    ) as caught:
        run(setup_of("masked-lm", extracted(5, 8)), tmp_path / "run")
    assert str(kept) in str(caught.value)
    assert "\n" not in str(caught.value)
    folder = RunFolder.open(tmp_path / "run")
    assert folder.status == "failed"
    assert folder.info()["failure"] == str(caught.value)
    assert len(folder.stages()) == 1
    monkeypatch.undo()
    run(setup_of("masked-lm", extracted(5, 8), student_seed=4), tmp_path / "run", resume=True)
    student = [(tmp_path / each / "student" / "model.safetensors").read_bytes() for each in ("run", "whole")]
    assert student[0] == student[1]


def test_no_checkpoint_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_loss(monkeypatch, 2, float("nan"))
    with pytest.raises(
        TrainingError,
        match="stage 'final': the loss is nan at step 2; no checkpoint of this stage was reached",
    ):
        run(setup_of("masked-lm", (stage("final", Logits(), 8),)), tmp_path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """The loss of the step is finite, and its gradient makes weights that are not: no checkpoint is written."""  # noqa: E501
    setup = setup_of("masked-lm", (stage("final", Logits(), 8),))

    def spoil(gradient: Tensor) -> Tensor:
        steps.append(1)
        return gradient * float("inf") if len(steps) == 6 else gradient

    steps: list[int] = []
    next(setup.student.parameters()).register_hook(spoil)
    with pytest.raises(
        TrainingError,
        match=r"a weight is not finite after step 6; the last good checkpoint is .*checkpoint-3",
    ):
        run(setup, tmp_path)
    assert [path.name for path in (tmp_path / "stages" / "00-final").glob("checkpoint-*")] == ["checkpoint-3"]


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def full_for_safetensors(*_: Any, **__: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def full_for_torch(*_: Any, **__: Any) -> None:
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")


@pytest.mark.parametrize("error", [full, full_for_safetensors, full_for_torch])
@pytest.mark.parametrize(
    "place",
    [
        "vigreux.backends.transformer.stage_trainer.save_student",
        "vigreux.backends.transformer.backend.write_card",
    ],
)
def test_a_full_disk(
    error: Callable[..., None], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, error)
    with pytest.raises(
        TrainingError, match=r"the disk is full; .* --resume continues from the last checkpoint"
    ) as caught:
        run(setup_of("masked-lm", (stage("final", Logits(), 4),)), tmp_path)
    assert "\n" not in str(caught.value)
    assert RunFolder.open(tmp_path).status == "failed"
    monkeypatch.undo()
    assert (
        run(setup_of("masked-lm", (stage("final", Logits(), 4),)), tmp_path, resume=True).status == "finished"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system")
def test_a_disk_that_really_is_full(tmp_path: Path) -> None:
    """A file system of 200 kB in a namespace of its own, where the kernel allows that."""
    code = (
        "from tests.backends.transformer.tiny import *; import torch; torch.set_num_threads(1)\n"
        "try: run(setup_of('masked-lm', (stage('final', Logits(), 40),), training={'save_steps': 1},"
        " keep_checkpoints=True),"
        f" Path({str(tmp_path)!r}) / 'run')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    inside = f'mount -t tmpfs -o size=700k none {tmp_path} && exec {sys.executable} -c "$CODE"'
    command = ["unshare", "-rm", "sh", "-c", inside]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[3],
            env={"CODE": code, "OMP_NUM_THREADS": "1"},
        )
    except FileNotFoundError:
        pytest.skip("no unshare")
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout.startswith("TrainingError"), done.stderr
    assert "the disk is full" in done.stdout


def test_other_errors_are_not_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(stage_trainer, "save_student", broken)
    with pytest.raises(RuntimeError, match="something else"):
        run(setup_of("masked-lm", (stage("final", Logits(), 4),)), tmp_path)
    assert RunFolder.open(tmp_path).info()["failure"] == "something else"


# --- how long, how fast -------------------------------------------------------------------------------------


def test_a_plateau_ends_a_stage_and_the_next_goes_on_with_the_next_samples(tmp_path: Path) -> None:
    curriculum = (
        stage("hidden", Hidden(1), Duration.plateau(2, limit=40, min_delta=0.9), depth=1),
        stage("final", Logits(), 2),
    )
    folder = run(
        setup_of("masked-lm", curriculum, training={"eval_steps": 3, "learning_rate": 0.0}), tmp_path
    )
    assert [record.steps for record in folder.stages()] == [
        9,
        2,
    ]  # the first evaluation, and two that are no better
    assert [r["step"] for r in folder.metrics("eval") if r["stage"] == "hidden"] == [3, 6, 9]
    assert folder.metrics()[-1]["samples"] == 11 * 8
    summary = folder.summary()
    assert summary is not None
    assert summary.steps == 11


def test_a_stage_that_improves_runs_to_its_limit(tmp_path: Path) -> None:
    curriculum = (stage("hidden", Hidden(1), Duration.plateau(2, limit=12, min_delta=0.0), depth=1),)
    folder = run(setup_of("masked-lm", curriculum, training={"eval_steps": 3}), tmp_path)
    assert [record.steps for record in folder.stages()] == [12]


def test_a_plateau_of_embeddings(tmp_path: Path) -> None:
    curriculum = (stage("s", Embedding(), Duration.plateau(1, limit=12)),)
    folder = run(
        setup_of("embedding", curriculum, training={"eval_steps": 2, "learning_rate": 0.0}), tmp_path
    )
    assert [record.steps for record in folder.stages()] == [4]


RATES = {
    "learning_rate": 0.8,
    "lr_scheduler_type": "linear",
    "warmup_steps": 2,
    "logging_steps": 1,
    "max_grad_norm": 1e-6,
}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # two steps up, then evenly down to 0 at the end of eight
        ("carried", [0, 0.4, 0.8, 4 / 6 * 1, 0.8 * 4 / 6, 0.8 * 3 / 6, 0.8 * 2 / 6, 0.8 / 6]),
        # up and down in each stage of two, two and four
        ("per-stage", [0, 0.4, 0, 0.4, 0, 0.4, 0.8, 0.4]),
    ],
)
def test_learning_rates(schedule: Any, expected: list[float], tmp_path: Path) -> None:
    """A literal table of the rates of eight steps in three stages."""
    setup = setup_of("masked-lm", extracted(2, 2, 4), training=RATES, schedule=schedule)
    folder = run(setup, tmp_path)
    assert [record["learning_rate"] for record in folder.metrics("train")] == pytest.approx(expected)


def test_two_equal_stages_are_one(tmp_path: Path) -> None:
    """If all is carried, samples, moments and rates go on as if there were no boundary between stages."""
    students = []
    for place, curriculum in enumerate(
        [(stage("whole", Logits(), 7),), (stage("a", Logits(), 3), stage("b", Logits(), 4))]
    ):
        setup = setup_of(
            "masked-lm", curriculum, optimizer="carried", schedule="carried", training={"warmup_steps": 2}
        )
        run(setup, tmp_path / str(place))
        students.append(setup.student.state_dict())
    assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())


@pytest.mark.parametrize("optimizer", ["per-stage", "carried"])
def test_optimiser_states(optimizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start of the last stage: the blocks that were trained have their moments, the head has none."""
    starts: list[dict[str, float]] = []
    original = StageTrainer._prepare_for_training

    def prepare(self: StageTrainer, *args: Any) -> Any:
        prepared = original(self, *args)
        optimizer: Any = self.optimizer
        names = {parameter: name for name, parameter in self.student.named_parameters()}
        starts.append({names[p]: float(state["step"]) for p, state in optimizer.state.items() if state})
        return prepared

    monkeypatch.setattr(StageTrainer, "_prepare_for_training", prepare)
    setup = setup_of("masked-lm", extracted(2, 3, 2), optimizer=optimizer)
    run(setup, tmp_path)
    assert starts[0] == {}
    block = "bert.encoder.layer.{}.attention.self.query.weight".format
    if optimizer == "per-stage":
        assert starts[1:] == [{}, {}]
    else:
        assert (starts[1][block(0)], block(1) in starts[1]) == (2, False)
        assert (starts[2][block(0)], starts[2][block(1)]) == (5, 3)
        assert not any(name.startswith("cls.predictions.transform") for name in starts[2])


# --- teachers -----------------------------------------------------------------------------------------------


def soft_cross_entropy(setup: Setup, student: Any, teacher: Any) -> float:
    """Of the first step's samples, by the whole logits."""
    stream = setup.task.stream(0, 0, 8)
    batch = setup.task.collate([stream[i] for i in range(8)])
    inputs, rows = {name: batch[name] for name in ("input_ids", "attention_mask")}, batch["labels"] != -100
    with torch.no_grad():
        p, q = (model.eval()(**inputs).logits[rows] for model in (teacher, student))
    return float(F.cross_entropy(q, p.softmax(-1)))


def test_each_stage_has_its_own_checkpoint_as_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {
        "ten": teacher_of("masked-lm", seed=10),
        "twenty": teacher_of("masked-lm", seed=20),
        "big": teacher_of("masked-lm", seed=30),
    }
    teachers = Teachers(teacher_of("masked-lm"), {10: "ten", 20: "twenty"}, models.__getitem__)
    refs = [TeacherRef.checkpoint(10), TeacherRef.other("big"), TeacherRef.checkpoint(20), TeacherRef.final()]
    curriculum: Curriculum = tuple(Stage(str(ref), ref, Logits(), None, Duration.steps(2)) for ref in refs)
    setup = setup_of("masked-lm", curriculum, teachers=teachers, training={"logging_steps": 1})
    start = bert("masked-lm", layers=2, hidden=16, seed=1)
    seen: list[Any] = []
    original = StageTrainer.compute_loss

    def compute(self: StageTrainer, *args: Any, **kwargs: Any) -> Any:
        seen.append(self.teacher)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(StageTrainer, "compute_loss", compute)
    run(setup, tmp_path)
    expected = [models["ten"], models["big"], models["twenty"], teachers.final]
    assert all(found is wanted for found, wanted in zip(seen[::2], expected, strict=True))
    assert losses(tmp_path)[0][1] == pytest.approx(
        soft_cross_entropy(setup, start, models["ten"].model), rel=1e-5
    )


@pytest.mark.parametrize(
    ("ref", "teachers", "message"),
    [
        (TeacherRef.final(), Teachers(None), "stage 's': learns from a teacher, and none was given"),
        (
            TeacherRef.checkpoint(5),
            Teachers(None),
            "stage 's': learns from checkpoint 5, and no series was given",
        ),
        (
            TeacherRef.checkpoint(5),
            Teachers(None, {50: "x"}),
            "checkpoint step: unknown value '5'; did you mean '50'? accepted: 50",
        ),
        (
            TeacherRef.other("big"),
            Teachers(None),
            "stage 's': learns from the model 'big', and there is nothing to load it with",
        ),
    ],
)
def test_teachers_that_cannot_be_had(ref: TeacherRef, teachers: Teachers, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_setup(
            setup_of("masked-lm", (Stage("s", ref, Logits(), None, Duration.steps(1)),), teachers=teachers)
        )
    assert message in str(caught.value)


def test_the_bytes_that_a_curriculum_needs_kept(tmp_path: Path) -> None:
    """A checkpoint that two stages use is kept once."""
    for name, size in (("checkpoint-1", 100), ("checkpoint-2", 10)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(size))
    series = {1: str(tmp_path / "checkpoint-1"), 2: str(tmp_path / "checkpoint-2")}
    teachers = Teachers(teacher_of("masked-lm"), series, lambda source: teacher_of("masked-lm", seed=3))
    curriculum = (
        Stage("layers", TeacherRef.checkpoint(1), Hidden(1), 1, Duration.steps(20)),
        Stage("logits", TeacherRef.checkpoint(1), Logits(), None, Duration.steps(1)),
        stage("final", Logits(), 1),
    )
    summary = run(setup_of("masked-lm", curriculum, teachers=teachers), tmp_path / "run").summary()
    assert summary is not None
    assert summary.bytes_kept == summary.teacher_bytes + 100


# --- what is left behind ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "auto_class"),
    [("masked-lm", AutoModelForMaskedLM), ("classification", AutoModelForSequenceClassification)],
)
def test_the_student_opens_without_vigreux(kind: str, auto_class: Any, tmp_path: Path) -> None:
    setup = setup_of(kind, extracted(STEPS, 4, projection=Projection("learned")))
    folder = run(setup, tmp_path)
    opened, info = auto_class.from_pretrained(folder.student, output_loading_info=True)
    assert not any(info.values())
    assert opened.state_dict().keys() == setup.student.state_dict().keys()
    assert all(
        torch.equal(value, opened.state_dict()[name]) for name, value in setup.student.state_dict().items()
    )
    batch = next(setup.task.eval_batches(4))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        assert torch.equal(opened.eval()(**inputs).logits, setup.student.eval()(**inputs).logits)
    assert not any("projection" in name for name in load_file(folder.student / "model.safetensors"))
    assert not (folder.student / LEARNED_PROJECTION).exists()
    card = (folder.student / "README.md").read_text()
    assert "hidden-1" in card
    assert "| loss |" in card
    assert not (tmp_path / "student.tmp").exists()


def test_one_checkpoint_a_stage_is_kept_or_all(tmp_path: Path) -> None:
    for keep, names in ((False, {"checkpoint-8"}), (True, {"checkpoint-3", "checkpoint-6", "checkpoint-8"})):
        run(setup_of("masked-lm", (stage("s", Logits(), 8),), keep_checkpoints=keep), tmp_path / str(keep))
        assert {
            path.name for path in (tmp_path / str(keep) / "stages" / "00-s").glob("checkpoint-*")
        } == names


def test_records(tmp_path: Path) -> None:
    """Losses at every second step, at checkpoints and at the end; five evaluations; totals that add up."""
    folder = run(setup_of("masked-lm", (stage("s", Logits(), 10), stage("t", Logits(), 5))), tmp_path)
    train, evaluations = (
        [(r["stage"], r["step"]) for r in folder.metrics(kind)] for kind in ("train", "eval")
    )
    assert train == [("s", i) for i in (2, 3, 4, 6, 8, 9, 10)] + [("t", i) for i in (2, 3, 4, 5)]
    assert evaluations == [("s", 3), ("s", 6), ("s", 9), ("s", 10), ("t", 3), ("t", 5)]
    for record in folder.metrics():
        assert record["global_step"] == record["step"] + 10 * (record["stage"] == "t")
        assert record["samples"] == 8 * record["global_step"]
    summary, stages = folder.summary(), folder.stages()
    assert summary is not None
    assert summary.flops == pytest.approx(sum(stage.student_flops + stage.teacher_flops for stage in stages))
    assert summary.flops == pytest.approx(folder.metrics()[-1]["flops"])
    assert summary.seconds == pytest.approx(sum(stage.seconds for stage in stages))
    assert summary.metrics == {name: folder.metrics("eval")[-1][name] for name in summary.metrics}
    assert {"loss", "accuracy"} <= set(summary.teacher_metrics)


def test_evaluation_changes_nothing(tmp_path: Path) -> None:
    """With dropout, so that a random number drawn or a mode left wrong would show."""
    weights = []
    for every in (1, 100):
        setup = setup_of("masked-lm", (stage("s", Logits(), 6),), dropout=0.2, training={"eval_steps": every})
        run(setup, tmp_path / str(every))
        weights.append([parameter.detach() for parameter in setup.student.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights))


def test_the_same_seed_gives_the_same_student(tmp_path: Path) -> None:
    students = []
    for place, seed in enumerate((3, 3, 4)):
        setup = setup_of("masked-lm", (stage("s", Logits(), 4),), dropout=0.1, seed=seed)
        run(setup, tmp_path / str(place))
        students.append(torch.cat([parameter.detach().flatten() for parameter in setup.student.parameters()]))
    assert torch.equal(students[0], students[1])
    assert not torch.equal(students[0], students[2])


def test_budget_in_steps(tmp_path: Path) -> None:
    curriculum = (stage("a", Logits(), Duration.share(0.25)), stage("b", Logits(), Duration.share(0.75)))
    folder = run(setup_of("masked-lm", curriculum, budget=BudgetConfig(steps=8)), tmp_path)
    assert [record.steps for record in folder.stages()] == [2, 6]


def test_settings_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    setup = setup_of("masked-lm", (stage("s", Logits(), 4),))
    prepared_run(setup, tmp_path).folder.close()  # type: ignore[union-attr]
    setup.training["lr_scheduler_type"] = "cosin"
    with pytest.raises(ConfigError, match=r"training\.lr_scheduler_type: .*cosin"):
        check_setup(setup)


def test_a_teacher_that_is_not_recognised_teaches_by_its_logits(tmp_path: Path) -> None:
    task = tensor_task()
    teacher = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    setup = Setup(task, Net(6, 8, seed=2), Teachers(LiveTeacher(teacher)), (stage("s", Logits(), STEPS),))
    setup.training = {"learning_rate": 1e-2, "use_cpu": True}
    run(setup, tmp_path)
    first, last = first_and_last(tmp_path, "s")
    assert last < first
