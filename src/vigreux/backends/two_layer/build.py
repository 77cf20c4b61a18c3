"""Sets up and runs the configuration of a parity task, for the commands and the claims."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from vigreux.backends.two_layer.backend import TwoLayerBackend
from vigreux.backends.two_layer.setup import TwoLayerSetup
from vigreux.backends.two_layer.teachers import TwoLayerTeachers
from vigreux.config.curricula import from_config, stated_curriculum
from vigreux.config.two_layer import BooleanTaskConfig, TwoLayerConfig
from vigreux.curriculum import Curriculum
from vigreux.errors import ConfigError
from vigreux.loop.run import start_or_resume
from vigreux.models.two_layer import TwoLayer
from vigreux.run.folder import Summary
from vigreux.tasks.synthetic.parity import BooleanTask, HierarchicalParity, Parity
from vigreux.units import human_bytes


def make_task(config: BooleanTaskConfig) -> BooleanTask:
    """The task with the configured support or features, or with ones drawn by `seed`.

    Raises:
        ConfigError: coordinates do not fit, or their number differs from `k` and `classes`.
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
            f"task.features: {len(tree.nodes)} sets; accepted: {config.classes - 1}, one less than"
            f" task.classes = {config.classes}"
        )
    if wrong := [node for node in tree.nodes if len(node) != config.k]:
        raise ConfigError(
            f"task.features: a set of {len(wrong[0])} coordinates; accepted: task.k = {config.k} of them"
        )
    return tree


def make_setup(config: TwoLayerConfig) -> TwoLayerSetup:
    """Sets up and checks one run: the task, the student with its first weights, and the curriculum.

    The curriculum is fitted to the teacher's checkpoints.
    """
    task = make_task(config.task)
    teachers = None
    if config.teacher.model:
        teachers = TwoLayerTeachers.find(config.teacher.model, config.teacher.checkpoints)
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
        return stated  # the setup checks it, because a hidden target may name layer 2, the logits
    series: list[int] = []
    if teachers is not None:
        series = list(teachers.checkpoints) if config.checkpoints is not None else teachers.before_final
    return from_config(config, student_layers=1, teacher_layers=1, series=series)


def _make_student(config: TwoLayerConfig, task: BooleanTask) -> TwoLayer:
    network = config.student
    dtype: torch.dtype = getattr(torch, network.dtype)
    try:
        return TwoLayer(task.n, network.width, task.classes, seed=config.seed, dtype=dtype)
    except (RuntimeError, MemoryError, OverflowError, TypeError) as error:  # torch: the size is too large
        size = human_bytes(dtype.itemsize * float(network.width) * (task.n + 1 + task.classes))
        raise ConfigError(
            f"student.width: {network.width} units of task.n = {task.n} inputs take {size}; accepted: what"
            " fits into memory"
        ) from error


def run_two_layer(config: TwoLayerConfig, *, resume: bool, quiet: bool = False) -> Summary | None:
    """Does one run in its folder. All checks come before the first write."""
    backend = TwoLayerBackend(make_setup(config))
    with torch_threads(config.training.threads):
        return start_or_resume(
            backend,
            Path(config.output),
            asdict(config),
            defaults=asdict(TwoLayerConfig()),
            resume=resume,
            quiet=quiet,
        )


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Runs torch's matrix products on as many threads as the kernels; `None` changes nothing."""
    usual = torch.get_num_threads()
    torch.set_num_threads(threads or usual)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
