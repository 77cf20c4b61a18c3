"""What the commands do for parity tasks: which tasks those are, what is checked first, and from a configuration to a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from vigreux.cli.parsing import to_plain
from vigreux.config import BudgetConfig, TaskKind
from vigreux.curriculum import Curriculum
from vigreux.errors import ConfigError, TrainingError, unknown
from vigreux.online_config import ONLINE_KINDS, BooleanTaskConfig, OnlineConfig, OnlineTeacherConfig, SGDConfig
from vigreux.recipes import from_config, stated_curriculum
from vigreux.runs import RunFolder, Summary

if TYPE_CHECKING:
    from vigreux.distillation.online_teachers import OnlineTeachers
    from vigreux.engines.online import OnlineSetup
    from vigreux.models.two_layer import TwoLayer
    from vigreux.tasks.parity import BooleanTask

TEACHERS = "a finished run of vigreux teach, or a folder with its model.safetensors and config.json"
HELP = " Parity tasks have options of their own: vigreux {0} --task.kind parity --help."
HELP_ONLINE = " A parity task: two-layer networks, online SGD on fresh samples."


# --- which tasks ------------------------------------------------------------------------------------------------------


def is_online(argv: Sequence[str]) -> bool:
    """Whether the arguments of a command, its files included, ask for a parity task.

    Raises:
        ConfigError: a kind of task that is none.
    """
    kind = _task_kind(argv)
    kinds = (*get_args(TaskKind), *ONLINE_KINDS)
    if kind is not None and kind not in kinds:
        raise ConfigError(unknown("task.kind", kind, kinds))
    if kind in ONLINE_KINDS:
        _check_training_options(argv)
    return kind in ONLINE_KINDS


def _task_kind(argv: Sequence[str]) -> Any:
    """The last `task.kind` that an option or a file gives; `None` without one, or where a file cannot be read."""
    first = ["--config"] if argv and not argv[0].startswith("-") else []
    words = [*first, *chain(*(word.split("=", 1) if word.startswith("--") else [word] for word in argv)), ""]
    kind = None
    for option, value in pairwise(words):
        if option == "--task.kind":
            kind = value
        elif option == "--config":
            kind = _get(_get(_yaml_file(value), "task"), "kind") or kind
        elif option == "--task":
            kind = _get(_yaml(value) if "{" in value else _yaml_file(value), "kind") or kind
    return kind


def _yaml_file(path: str) -> Any:
    try:
        return _yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None  # the parser says what is wrong with it


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _get(plain: Any, key: str) -> Any:
    return plain.get(key) if isinstance(plain, dict) else None


def _check_training_options(argv: Sequence[str]) -> None:
    """Names the nearest of our own options: for other tasks the section takes any name."""
    for argument in argv:
        name = argument.split("=", 1)[0]
        if name.startswith("--training.") and name.removeprefix("--training.") not in SGDConfig.__dataclass_fields__:
            raise ConfigError(unknown(name, name.removeprefix("--training."), SGDConfig.__dataclass_fields__))


# --- what is checked first --------------------------------------------------------------------------------------------


def check_online(config: OnlineConfig) -> None:
    """Raises for what is missing or can be seen to be wrong before anything heavy is loaded."""
    stated = stated_curriculum(config.curriculum)
    taught = config.curriculum != "supervised" if stated is None else any(s.teacher.kind in ("final", "checkpoint") for s in stated)
    if taught and not config.teacher.model:
        raise ConfigError(f"teacher.model: missing; accepted: {TEACHERS}")
    shares = stated is None or any(stage.duration.unit == "share" for stage in stated)
    if shares and config.budget == BudgetConfig():
        raise ConfigError("budget: missing; accepted: budget.steps")


def as_teaching(config: OnlineConfig) -> OnlineConfig:
    """The run that trains a teacher: on labels, all checkpoints kept."""
    training = replace(config.training, keep_checkpoints=True)
    return replace(config, curriculum="supervised", training=training, teacher=OnlineTeacherConfig(), checkpoints=None)


# --- from a configuration to a run ------------------------------------------------------------------------------------


def make_task(config: BooleanTaskConfig) -> BooleanTask:
    """The task with the support or the features that are given, or drawn by `seed`.

    Raises:
        ConfigError: coordinates that do not fit, or another number of them than `k` and `classes` say.
    """
    from vigreux.tasks.parity import HierarchicalParity, Parity

    if config.kind == "parity":
        if config.features is not None:
            raise ConfigError("task.features: of hierarchical-parity; accepted for parity: task.support")
        if config.support is None:
            return Parity.draw(config.n, config.k, config.seed)
        task = Parity(config.n, tuple(config.support))
        if len(task.support) != config.k:
            raise ConfigError(f"task.support: {len(task.support)} coordinates; accepted: task.k = {config.k} of them")
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
        raise ConfigError(f"task.features: a set of {len(wrong[0])} coordinates; accepted: task.k = {config.k} of them")
    return tree


def make_setup(config: OnlineConfig) -> OnlineSetup:
    """One run: task, student with its first weights, and the curriculum fitted to the teacher's checkpoints; checked."""
    from vigreux.distillation.online_teachers import OnlineTeachers
    from vigreux.engines.online import OnlineSetup

    task = make_task(config.task)
    teachers = OnlineTeachers.find(config.teacher.model, config.teacher.checkpoints) if config.teacher.model else None
    setup = OnlineSetup(
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


def _make_curriculum(config: OnlineConfig, teachers: OnlineTeachers | None) -> Curriculum:
    series: list[int] = []
    if teachers is not None:
        series = list(teachers.checkpoints) if config.checkpoints is not None else teachers.before_final
    return from_config(config, student_layers=1, teacher_layers=1, series=series)


def _make_student(config: OnlineConfig, task: BooleanTask) -> TwoLayer:
    import torch

    from vigreux.cost import human_bytes
    from vigreux.models.two_layer import TwoLayer

    own = config.student
    dtype: torch.dtype = getattr(torch, own.dtype)
    try:
        return TwoLayer(task.n, own.width, task.classes, seed=config.seed, dtype=dtype)
    except (RuntimeError, MemoryError, OverflowError, TypeError) as error:  # how torch says that it is too large
        size = human_bytes(dtype.itemsize * float(own.width) * (task.n + 1 + task.classes))
        raise ConfigError(
            f"student.width: {own.width} units of task.n = {task.n} inputs take {size}; accepted: what fits into memory"
        ) from error


def run_online(config: OnlineConfig, *, resume: bool, quiet: bool = False) -> Summary:
    """One run in its folder; nothing is written before all of it is checked."""
    from vigreux.engines.online import OnlineEngine
    from vigreux.plain import to_plain as stages_to_plain

    setup = make_setup(config)
    plain, stages = to_plain(config), stages_to_plain(setup.curriculum)
    root = Path(config.output)
    folder = RunFolder.resume(root, plain, stages) if resume else RunFolder.create(root, plain, stages)
    with folder, torch_threads(config.training.threads), _memory(root):
        OnlineEngine(setup, folder, quiet=quiet).run()
    summary = RunFolder.open(root).summary()
    assert summary is not None
    return summary


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
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
