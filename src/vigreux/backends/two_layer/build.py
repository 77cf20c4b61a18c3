"""From the configuration of a parity task to its run: what the commands and the experiments share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from vigreux.backends.two_layer.engine import TwoLayerEngine, TwoLayerSetup
from vigreux.backends.two_layer.teachers import TwoLayerTeachers
from vigreux.config.curricula import from_config, stated_curriculum
from vigreux.config.two_layer import BooleanTaskConfig, TwoLayerConfig
from vigreux.curriculum import Curriculum
from vigreux.curriculum.serialize import to_plain
from vigreux.errors import ConfigError, TrainingError
from vigreux.models.two_layer import TwoLayer
from vigreux.models.weights import weights_in_memory
from vigreux.run.folder import STUDENT, RunFolder, Summary
from vigreux.tasks.generated.parity import BooleanTask, HierarchicalParity, Parity
from vigreux.units import human_bytes


def make_task(config: BooleanTaskConfig) -> BooleanTask:
    """The task with the support or the features that are given, or drawn by `seed`.

    Raises:
        ConfigError: coordinates that do not fit, or another number of them than `k` and `classes` say.
    """
    if config.kind == "parity":
        if config.features is not None:
            raise ConfigError("task.features: of hierarchical-parity; accepted for parity: task.support")
        if config.support is None:
            return Parity.draw(config.n, config.k, config.seed)
        task = Parity(config.n, tuple(config.support))
        if len(task.support) != config.k:
            raise ConfigError(
                f"task.support: {len(task.support)} coordinates; accepted: task.k = {config.k} of them"
            )
        return task
    if config.support is not None:
        raise ConfigError("task.support: of parity; accepted for hierarchical-parity: task.features")
    if config.features is None:
        return HierarchicalParity.draw(config.n, config.k, config.classes, config.seed)
    tree = HierarchicalParity(config.n, tuple(map(tuple, config.features)))
    if tree.classes != config.classes:
        raise ConfigError(
            f"task.features: {len(tree.nodes)} sets; accepted: {config.classes - 1}, one less than task.classes = {config.classes}"
        )
    if wrong := [node for node in tree.nodes if len(node) != config.k]:
        raise ConfigError(
            f"task.features: a set of {len(wrong[0])} coordinates; accepted: task.k = {config.k} of them"
        )
    return tree


def make_setup(config: TwoLayerConfig) -> TwoLayerSetup:
    """One run: task, student with its first weights, and the curriculum fitted to the teacher's checkpoints; checked."""
    task = make_task(config.task)
    teachers = (
        TwoLayerTeachers.find(config.teacher.model, config.teacher.checkpoints)
        if config.teacher.model
        else None
    )
    setup = TwoLayerSetup(
        task=task,
        student=_make_student(config, task),
        curriculum=_make_curriculum(config, teachers),
        steps=config.budget.steps or 0,
        settings=config.training,
        teachers=teachers,
        carried_schedule=config.schedule == "carried",
        data_seed=config.task.data_seed,
        eval_samples=config.task.eval_samples,
    )
    setup.check()
    return setup


def _make_curriculum(config: TwoLayerConfig, teachers: TwoLayerTeachers | None) -> Curriculum:
    stated = stated_curriculum(config.curriculum)
    if stated is not None:
        return stated  # checked by the setup: a hidden target may name layer 2, the logits
    series: list[int] = []
    if teachers is not None:
        series = list(teachers.checkpoints) if config.checkpoints is not None else teachers.before_final
    return from_config(config, student_layers=1, teacher_layers=1, series=series)


def _make_student(config: TwoLayerConfig, task: BooleanTask) -> TwoLayer:
    own = config.student
    dtype: torch.dtype = getattr(torch, own.dtype)
    try:
        return TwoLayer(task.n, own.width, task.classes, seed=config.seed, dtype=dtype)
    except (
        RuntimeError,
        MemoryError,
        OverflowError,
        TypeError,
    ) as error:  # how torch says that it is too large
        size = human_bytes(dtype.itemsize * float(own.width) * (task.n + 1 + task.classes))
        raise ConfigError(
            f"student.width: {own.width} units of task.n = {task.n} inputs take {size}; accepted: what fits into memory"
        ) from error


def run_two_layer(config: TwoLayerConfig, *, resume: bool, quiet: bool = False) -> Summary:
    """One run in its folder; nothing is written before all of it is checked."""
    setup = make_setup(config)
    plain, stages = asdict(config), to_plain(setup.curriculum)
    root = Path(config.output)
    defaults = asdict(TwoLayerConfig())
    prints = _fingerprints(setup)
    folder = (
        RunFolder.resume(root, plain, stages, defaults=defaults, fingerprints=prints)
        if resume
        else RunFolder.create(root, plain, stages, fingerprints=prints)
    )
    with folder, torch_threads(config.training.threads), _memory(root):
        TwoLayerEngine(setup, folder, quiet=quiet).run()
    summary = RunFolder.open(root).summary()
    assert summary is not None
    return summary


def _fingerprints(setup: TwoLayerSetup) -> dict[str, str]:
    """Of what the configuration does not say: the student's first weights, and each teacher's."""
    prints = {STUDENT: weights_in_memory(setup.student)}
    for stage in setup.curriculum:
        if stage.teacher.kind != "labels":
            assert setup.teachers is not None
            teacher = TwoLayer.load(setup.teachers.folder(stage.teacher))
            prints[f"teacher ({stage.teacher})"] = weights_in_memory(teacher)
    return prints


@contextmanager
def _memory(root: Path) -> Iterator[None]:
    """Turns the errors of numpy and torch into one line where there is too little memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"{root}: not enough memory ({' '.join(str(error).split())}); accepted: a smaller student.width, training.batch_size or"
            " task.eval_samples"
        ) from error


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """torch's own products on so many threads as the kernels'; `None` leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
