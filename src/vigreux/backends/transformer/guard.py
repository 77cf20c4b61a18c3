"""What is tried on a few rows before a run begins: lengths, views, what is saved.

An architecture that Vigreux does not know can be wrong without an error: a norm that a view leaves out, a state with its axes in
another order, a saved student that does not open. So what the curriculum will use is compared with the models' own forward pass.
Nothing is changed: neither weights, nor modes, nor the state of random numbers.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import PreTrainedModel

from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_trainer import open_student, save_student
from vigreux.curriculum import TeacherRef
from vigreux.distillation.matching import matcher_of
from vigreux.distillation.signals.base import VectorSignal
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.errors import ConfigError, VigreuxError
from vigreux.models.calling import Batch, inputs_of
from vigreux.models.hidden_states import unused_parameters, watched_states
from vigreux.models.layout import Layout, find_layout, hidden_size, num_blocks
from vigreux.models.placed import device_of
from vigreux.models.size import weight_bytes
from vigreux.models.text_config import text_config
from vigreux.models.views import LogitsView, cut
from vigreux.tasks.task import Task

ROWS, TOKENS = 2, 64  # of the batch on which views are compared
CAUSAL = 2e-5  # of the largest logit: what rounding may move where later tokens are others
LARGEST_SAVED = 2**28  # bytes of a student that is saved and opened whole; of a larger one the config alone
_CROSS_ATTENTION = ("encoder_attn", "EncDecAttention", "crossattention")


@dataclass(frozen=True)
class Tried:
    """A model of the run.

    Args:
        name: what the user calls it: student, teacher.
        model: the model.
        layout: where its blocks are; `None` for one that is not recognised and gives no hidden states.
        states: the hidden states (depth, with the final norm) that the curriculum uses.
    """

    name: str
    model: nn.Module
    layout: Layout | None
    states: tuple[tuple[int, bool], ...] = ()


def check_first_batch(setup: Setup, *, resume: bool = False) -> None:
    """Tries the models of a run on a few rows of its data.

    Args:
        setup: checked.
        resume: the run has begun, and its models were tried then: only the rows are tried again.

    Raises:
        ConfigError: see `check_model`; or the student does not open again as it was saved.
    """
    for tried in _models(setup):
        check_model(tried, setup.task, setup.seed, rows_alone=resume)
    if resume:
        return
    if PartialState().is_main_process:  # save_pretrained writes on the first process alone
        with _undisturbed(setup.student), torch.no_grad():
            _check_opens(setup.student, small_batch(setup.task, setup.seed))
    if PartialState().num_processes > 1 and not setup.sharded:
        _check_idle_parameters(setup, small_batch(setup.task, setup.seed))


def check_model(tried: Tried, task: Task, seed: int = 0, *, rows_alone: bool = False) -> None:
    """Tries one model on a few rows.

    Args:
        tried: the model, and what is used of it.
        task: gives the rows.
        seed: of their order.
        rows_alone: leave out hidden states and causality.

    Raises:
        ConfigError: the model waits for an encoder, cannot take the first rows or the longest one, or gives numbers that are not
            finite; a view differs from what the model computes; a causal model sees later tokens.
    """
    with _undisturbed(tried.model), torch.no_grad():
        batch = small_batch(task, seed)
        _check_decoder(tried)
        _check_runs(tried, task, batch)
        if not rows_alone:
            _check_states(tried, batch)
            _check_logits(tried, task, batch)
            _check_classes(tried, task, seed)


# --- what is tried ----------------------------------------------------------------------------------------------------


def _models(setup: Setup) -> Iterator[Tried]:
    """The student, the final teacher and the other models that stages name, each with the states that are used of it.

    Checkpoints of the teacher's run are of its architecture, and are not loaded here.
    """
    student = setup.student
    of_student: list[tuple[int, bool]] = []
    teachers = {stage.teacher: stage.name for stage in setup.curriculum if stage.teacher.kind == "model"}
    of_teacher: dict[TeacherRef, list[VectorSignal]] = {ref: [] for ref in (TeacherRef.final(), *teachers)}
    for stage in setup.curriculum:
        vectors = matcher_of(stage.target).vectors
        if stage.frozen is not None:
            of_student.append((stage.frozen, True))
        if vectors is None:
            continue
        of_student.append(vectors.student_state(stage.depth, num_blocks(student, setup.layout)))
        if stage.teacher in of_teacher:
            of_teacher[stage.teacher].append(vectors)
    yield Tried("student", student, setup.layout if of_student else setup.student_layout, _once(of_student))
    for ref, signals in of_teacher.items():
        teacher = setup.teachers.of(ref) if isinstance(setup.teachers, Teachers) else None
        if teacher is None:
            continue
        layout = _layout_of(teacher, needed=bool(signals))
        blocks = num_blocks(teacher.model, layout) if signals else 0
        states = [vectors.teacher_state(blocks) for vectors in signals]
        name = f"stage {teachers[ref]!r}: teacher" if ref in teachers else "teacher"
        yield Tried(name, teacher.model, layout, _once(states))


def _layout_of(teacher: LiveTeacher, *, needed: bool) -> Layout | None:
    """`None` for an architecture that is not recognised, where no hidden state is needed."""
    try:
        return teacher.layout
    except ConfigError:
        if needed:
            raise
        return None


def _once(states: Sequence[tuple[int, bool]]) -> tuple[tuple[int, bool], ...]:
    return tuple(sorted(set(states)))


def small_batch(task: Task, seed: int = 0) -> Batch:
    """The two shortest of the first rows, cut to a few tokens."""
    stream = task.stream(seed, 0, 8 * ROWS)
    samples = [stream[index] for index in range(len(stream))]
    if not task.spec.reads_tokens:
        return task.collate(samples[:ROWS])
    samples.sort(key=lambda sample: len(sample.example.inputs))
    long_enough = [sample for sample in samples if len(sample.example.inputs) > 1] or samples
    batch = task.collate(long_enough[:ROWS])
    length = batch["input_ids"].shape[1]
    return {
        name: value[:, :TOKENS] if value.dim() > 1 and value.shape[1] == length else value
        for name, value in batch.items()
    }


@contextlib.contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; modes and the state of random numbers are as they were afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng():
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training


def _on(model: nn.Module, batch: Batch) -> Batch:
    device = device_of(model)
    return {name: value.to(device) for name, value in batch.items()}


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _differ(found: Tensor, expected: Tensor, close: float = 1e-3) -> bool:
    """Whether two results differ by more than rounding."""
    if found.shape != expected.shape:
        return True
    tolerance = close if expected.dtype in (torch.float32, torch.float64) else max(close, 3e-2)
    found, expected = found.float(), expected.float()
    return bool((found - expected).abs().max() > tolerance * expected.abs().max())


# --- one model --------------------------------------------------------------------------------------------------------


def _check_decoder(tried: Tried) -> None:
    """Refuses a model with cross-attention: without the encoder's side it is not the model that it was trained as."""
    for path, _ in tried.model.named_modules():
        if path.rpartition(".")[2] in _CROSS_ATTENTION:
            raise ConfigError(
                f"{tried.name}: {type(tried.model).__name__} attends to an encoder's states ({path}), and a task gives it"
                " none; accepted: models that are an encoder or a decoder alone"
            )


def _check_runs(tried: Tried, task: Task, batch: Batch) -> None:
    """The small batch and the longest rows go through the whole model, and come out finite."""
    view = LogitsView(tried.model, tried.layout)
    try:
        view(_on(tried.model, batch))
    except Exception as error:
        if isinstance(error, VigreuxError):
            raise
        raise ConfigError(
            f"{tried.name}: {type(tried.model).__name__} cannot be run on the first rows of the data ({_short(error)})"
        ) from error
    for sample in task.longest_samples():
        row = _on(tried.model, task.collate([sample]))
        length = len(sample.example.inputs)
        positions = task.positions(row)
        try:
            output = view(row) if positions is None else view(row, positions)
        except Exception as error:
            raise ConfigError(
                f"task.max_length: the {tried.name} cannot take rows of {length} tokens ({_short(error)});"
                " accepted: shorter rows"
            ) from error
        if output.isnan().any() or (output == torch.inf).any():
            raise ConfigError(
                f"{tried.name}: what it gives for a row of {length} tokens is not finite; accepted: other weights,"
                " another dtype or shorter rows"
            )


def _check_states(tried: Tried, batch: Batch) -> None:
    """The hidden states of the curriculum are what the blocks are given in the model's own forward pass."""
    if not tried.states:
        return
    model, layout = tried.model, tried.layout or find_layout(tried.model)
    batch = _on(model, batch)
    family = f"{tried.name}: {type(model).__name__}"
    by_hand = "name its blocks by hand in teacher.blocks and what follows them in teacher.after_blocks"
    try:
        order, expected = watched_states(model, layout, batch, tried.states)
    except Exception as error:
        raise ConfigError(
            f"{family} cannot be watched block by block ({_short(error)}); {by_hand}"
        ) from error
    if order != list(range(num_blocks(model, layout))):
        raise ConfigError(f"{family}: its blocks run in the order {order}, not one after another; {by_hand}")
    for (depth, norm), state in expected.items():
        width = hidden_size(model, layout, depth)
        if isinstance(model, PreTrainedModel) and "input_ids" in batch:
            shape = (*batch["input_ids"].shape, width)
            if tuple(state.shape) != shape:
                raise ConfigError(
                    f"{family}: hidden state {depth} has the shape {tuple(state.shape)}, and {shape} is needed (rows,"
                    " tokens, width); accepted: a curriculum without hidden stages, such as one-shot"
                )
        elif not isinstance(model, PreTrainedModel) and state.shape[-1] != width:
            raise ConfigError(
                f"{family}: hidden state {depth} has the shape {tuple(state.shape)}, and vectors of {width} are needed;"
                " accepted: a curriculum without hidden stages, such as one-shot"
            )
        try:
            view = cut(model, depth, layout, final_norm=norm)(batch)
        except VigreuxError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{family}: its first {depth} blocks cannot be run alone ({_short(error)}); {by_hand}"
            ) from error
        if _differ(view, state):
            raise ConfigError(
                f"{family}: a view of hidden state {depth} is not what the model computes; {by_hand}"
            )


def _check_logits(tried: Tried, task: Task, batch: Batch) -> None:
    """Logits at chosen positions are those of the whole, and those of a causal model do not depend on later tokens."""
    if not task.spec.by_position:
        return
    model, batch = tried.model, _on(tried.model, batch)
    view = LogitsView(model, tried.layout)
    logits = view(batch)
    positions = task.token_positions(batch)
    assert positions is not None
    positions[:, ::2] = False
    if positions.any():
        try:
            chosen = view(batch, positions)
        except Exception as error:
            raise ConfigError(
                f"{tried.name}: {type(model).__name__} gives no logits at chosen positions ({_short(error)})"
            ) from error
        if _differ(chosen, logits[positions]):
            raise ConfigError(
                f"{tried.name}: the head of {type(model).__name__} does not go position by position;"
                " accepted: models whose logits at a position are a function of its last hidden state"
            )
    if not task.spec.is_causal or batch["input_ids"].shape[1] < 2:
        return
    row = {name: value[:1] for name, value in batch.items()}
    ids, half = row["input_ids"].clone(), row["input_ids"].shape[1] // 2
    ids[:, half:] = (ids[:, half:] + 1) % text_config(model).vocab_size
    before, after = view(row)[:, :half], view(row | {"input_ids": ids})[:, :half]
    if _differ(after, before, close=CAUSAL):
        raise ConfigError(
            f"{tried.name}: in {type(model).__name__} a later token changes the logits of earlier ones, so it sees what it is"
            " to predict; accepted: a causal model, or task.kind masked-lm"
        )


def _check_classes(tried: Tried, task: Task, seed: int) -> None:
    """A classifier gives a number for each class. Whether a longer text beside a text changes its answer is said."""
    if not task.spec.has_classes:
        return
    stream = task.stream(seed, 0, 8 * ROWS)
    samples = sorted((stream[i] for i in range(len(stream))), key=lambda sample: len(sample.example.inputs))
    view = LogitsView(tried.model, tried.layout)
    alone = view(_on(tried.model, task.collate(samples[:1])))
    beside = view(_on(tried.model, task.collate([samples[0], samples[-1]])))[:1]
    if alone.shape[-1] != task.num_labels:
        raise ConfigError(
            f"{tried.name}: {type(tried.model).__name__} gives {alone.shape[-1]} numbers a text, and there are {task.num_labels}"
            " classes; accepted: a head of as many outputs as config.id2label has classes"
        )
    if task.spec.by_position:
        beside = beside[:, : alone.shape[1]]
    if alone.dtype == torch.float32 and _differ(beside, alone):
        change = float((beside - alone).abs().max())
        warnings.warn(
            f"{tried.name}: padding is not hidden from {type(tried.model).__name__}: beside a longer text its answer to a"
            f" text changes by {change:.2g}",
            stacklevel=2,
        )


# --- what is saved ----------------------------------------------------------------------------------------------------


def _check_opens(model: nn.Module, batch: Batch) -> None:
    """The student runs as a user calls it, and again, with equal outputs, once it is saved and opened."""
    if not isinstance(model, PreTrainedModel):
        return
    student: Any = model
    _check_adapters(student)
    name, inputs = f"student: {type(student).__name__}", inputs_of(student, _on(student, batch))
    try:
        expected = _first(student(**inputs))  # with a cache where the model has one
    except Exception as error:
        raise ConfigError(
            f"{name} cannot be run on its own ({_short(error)}); accepted: other student.layers or student.from_layers,"
            " or student.model"
        ) from error
    if weight_bytes(student) > LARGEST_SAVED:
        return
    with TemporaryDirectory() as temporary:
        try:
            save_student(student, Path(temporary))
            opened: Any = open_student(student, Path(temporary))
            found = _first(opened.to(device_of(student)).eval()(**inputs))
        except Exception as error:
            raise ConfigError(
                f"{name} does not open again once it is saved ({_short(error)}); accepted: a model that from_pretrained can open"
            ) from error
        lost = _lost(student, opened)
        opened.to("meta")  # lets go of the files
    if lost:
        raise ConfigError(
            f"{name} loses {_listed(lost)} when it is saved and opened again; accepted: another student"
        )
    if _differ(found, expected):
        raise ConfigError(
            f"{name} gives other outputs once it is saved and opened again; accepted: a model that from_pretrained opens as"
            " it was"
        )


def _check_adapters(student: Any) -> None:
    """With adapters save_pretrained writes these alone, so that other weights that are trained would be lost."""
    if not getattr(student, "_hf_peft_config_loaded", False):
        return
    kept = {value.data_ptr() for value in student.get_adapter_state_dict().values()}
    lost = [
        name
        for name, parameter in student.named_parameters()
        if parameter.requires_grad and parameter.data_ptr() not in kept
    ]
    if lost:
        raise ConfigError(
            f"student: {_listed(lost)} are trained beside its adapters, and the adapters alone are saved; accepted:"
            " modules_to_save in the adapters' config, or requires_grad_(False) for all other weights"
        )


def _lost(student: nn.Module, opened: nn.Module) -> list[str]:
    """The trained parameters of the student that are missing or other in what was opened."""
    theirs = dict(opened.named_parameters())
    return [
        name
        for name, parameter in student.named_parameters()
        if parameter.requires_grad
        and (name not in theirs or not torch.equal(theirs[name].to(parameter), parameter))
    ]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _first(output: Any) -> Tensor:
    found: Tensor = output if isinstance(output, Tensor) else output[0]
    return found


def _check_idle_parameters(setup: Setup, batch: Batch) -> None:
    """Distributed data parallel waits for a gradient of every parameter that it holds."""
    batch = _on(setup.student, batch)
    for stage in setup.curriculum:
        matcher = matcher_of(stage.target)
        if matcher.vectors is not None and matcher.trains_whole and not matcher.has_held_out_loss:
            continue
        with torch.random.fork_rng(), setup.frozen(stage):
            layout = setup.student_layout if matcher.vectors is None else setup.layout
            view = matcher.view(setup.student, stage.depth, layout)
            idle = [name for name in unused_parameters(view, batch) if "expert" not in name]
        if idle:
            names = ", ".join(name.removeprefix("module.") for name in idle[:3])
            raise ConfigError(
                f"stage {stage.name!r}: the student's {names} get no gradient, and several processes wait for it;"
                " accepted: one process, sharded: true, or a student without them"
            )
