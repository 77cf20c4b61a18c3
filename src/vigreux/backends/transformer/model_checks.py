"""Checks one model on a few rows: lengths, hidden states, logits at chosen positions, causality.

With an unknown architecture, results can be wrong without an error, for example if a view leaves out a norm
or a state has its axes in another order. So each state and each view is compared with the model's own forward
pass. The checks do not change weights, modes or the random number generators.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vigreux.errors import ConfigError, VigreuxError
from vigreux.models.calling import Batch
from vigreux.models.hidden_states import watched_states
from vigreux.models.layout import Layout, find_layout, hidden_size, num_blocks
from vigreux.models.placed import device_of
from vigreux.models.text_config import text_config
from vigreux.models.views import LogitsView, cut
from vigreux.tasks.task import Task

# the size of the batch on which views are compared
ROWS = 2
TOKENS = 64
CAUSAL = 2e-5  # largest change by rounding when later tokens differ, as a share of the largest logit
_CROSS_ATTENTION = ("encoder_attn", "EncDecAttention", "crossattention")


@dataclass(frozen=True)
class CheckedModel:
    """A model of the run.

    Args:
        name: its name in messages: student, teacher.
        model: the model.
        layout: the position of its blocks; `None` for an unrecognised model without hidden states.
        states: the hidden states (depth, with the final norm) that the curriculum uses.
    """

    name: str
    model: nn.Module
    layout: Layout | None
    states: tuple[tuple[int, bool], ...] = ()


def check_model(checked: CheckedModel, task: Task, seed: int = 0, *, rows_alone: bool = False) -> None:
    """Runs one model on a few rows.

    Args:
        checked: the model, and its hidden states in use.
        task: provides the rows.
        seed: the seed of their order.
        rows_alone: whether to skip hidden states and causality.

    Raises:
        ConfigError: the model needs an encoder, cannot take the first rows or the longest one, or gives
            numbers that are not finite; a view differs from what the model computes; a causal model sees
            later tokens.
    """
    with undisturbed(checked.model), torch.no_grad():
        batch = small_batch(task, seed)
        _check_decoder(checked)
        _check_runs(checked, task, batch)
        if not rows_alone:
            _check_states(checked, batch)
            _check_logits(checked, task, batch)
            _check_classes(checked, task, seed)


def _check_decoder(checked: CheckedModel) -> None:
    """Refuses a model with cross-attention: it was trained with an encoder, and a task has none."""
    for path, _ in checked.model.named_modules():
        if path.rpartition(".")[2] in _CROSS_ATTENTION:
            raise ConfigError(
                f"{checked.name}: {type(checked.model).__name__} attends to an encoder's states ({path}), and"
                " a task gives it none; accepted: models that are an encoder or a decoder alone"
            )


def _check_runs(checked: CheckedModel, task: Task, batch: Batch) -> None:
    """Checks that the whole model takes the small batch and the longest rows, with finite outputs."""
    view = LogitsView(checked.model, checked.layout)
    try:
        view(on_device_of(checked.model, batch))
    except Exception as error:
        if isinstance(error, VigreuxError):
            raise
        raise ConfigError(
            f"{checked.name}: {type(checked.model).__name__} cannot be run on the first rows of the data"
            f" ({short_error(error)})"
        ) from error
    for sample in task.longest_samples():
        row = on_device_of(checked.model, task.collate([sample]))
        length = len(sample.example.inputs)
        positions = task.positions(row)
        try:
            output = view(row) if positions is None else view(row, positions)
        except Exception as error:
            raise ConfigError(
                f"task.max_length: the {checked.name} cannot take rows of {length} tokens"
                f" ({short_error(error)}); accepted: shorter rows"
            ) from error
        if output.isnan().any() or (output == torch.inf).any():
            raise ConfigError(
                f"{checked.name}: what it gives for a row of {length} tokens is not finite; accepted: other"
                " weights, another dtype or shorter rows"
            )


def _check_states(checked: CheckedModel, batch: Batch) -> None:
    """Checks the curriculum's hidden states against the inputs of the blocks in the model's forward pass."""
    if not checked.states:
        return
    model = checked.model
    layout = checked.layout or find_layout(model)
    batch = on_device_of(model, batch)
    family = f"{checked.name}: {type(model).__name__}"
    by_hand = "name its blocks by hand in teacher.blocks and what follows them in teacher.after_blocks"
    try:
        order, expected = watched_states(model, layout, batch, checked.states)
    except Exception as error:
        raise ConfigError(
            f"{family} cannot be watched block by block ({short_error(error)}); {by_hand}"
        ) from error
    if order != list(range(num_blocks(model, layout))):
        raise ConfigError(f"{family}: its blocks run in the order {order}, not one after another; {by_hand}")
    for (depth, norm), state in expected.items():
        width = hidden_size(model, layout, depth)
        if isinstance(model, PreTrainedModel) and "input_ids" in batch:
            shape = (*batch["input_ids"].shape, width)
            if tuple(state.shape) != shape:
                raise ConfigError(
                    f"{family}: hidden state {depth} has the shape {tuple(state.shape)}, and {shape} is"
                    " needed"
                    " (rows, tokens, width); accepted: a curriculum without hidden stages, such as one-shot"
                )
        elif not isinstance(model, PreTrainedModel) and state.shape[-1] != width:
            raise ConfigError(
                f"{family}: hidden state {depth} has the shape {tuple(state.shape)}, and vectors of {width}"
                " are needed; accepted: a curriculum without hidden stages, such as one-shot"
            )
        try:
            view = cut(model, depth, layout, final_norm=norm)(batch)
        except VigreuxError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{family}: its first {depth} blocks cannot be run alone ({short_error(error)}); {by_hand}"
            ) from error
        if differs(view, state):
            raise ConfigError(
                f"{family}: a view of hidden state {depth} is not what the model computes; {by_hand}"
            )


def _check_logits(checked: CheckedModel, task: Task, batch: Batch) -> None:
    """Checks logits at chosen positions against those at all positions, and that causal models are causal."""
    if not task.spec.by_position:
        return
    model = checked.model
    batch = on_device_of(model, batch)
    view = LogitsView(model, checked.layout)
    logits = view(batch)
    positions = task.token_positions(batch)
    assert positions is not None
    positions[:, ::2] = False
    if positions.any():
        try:
            chosen = view(batch, positions)
        except Exception as error:
            raise ConfigError(
                f"{checked.name}: {type(model).__name__} gives no logits at chosen positions"
                f" ({short_error(error)})"
            ) from error
        if differs(chosen, logits[positions]):
            raise ConfigError(
                f"{checked.name}: the head of {type(model).__name__} does not go position by position;"
                " accepted: models whose logits at a position are a function of its last hidden state"
            )
    if not task.spec.is_causal or batch["input_ids"].shape[1] < 2:
        return
    row = {name: value[:1] for name, value in batch.items()}
    ids = row["input_ids"].clone()
    half = ids.shape[1] // 2
    ids[:, half:] = (ids[:, half:] + 1) % text_config(model).vocab_size
    expected = view(row)[:, :half]
    if differs(view(row | {"input_ids": ids})[:, :half], expected, close=CAUSAL):
        raise ConfigError(
            f"{checked.name}: in {type(model).__name__} a later token changes the logits of earlier ones, so"
            " it sees what it is to predict; accepted: a causal model, or task.kind masked-lm"
        )


def _check_classes(checked: CheckedModel, task: Task, seed: int) -> None:
    """Checks the number of classes. Warns if a longer text in the batch changes the answer to a text."""
    if not task.spec.has_classes:
        return
    stream = task.stream(seed, 0, 8 * ROWS)
    samples = sorted((stream[i] for i in range(len(stream))), key=lambda sample: len(sample.example.inputs))
    view = LogitsView(checked.model, checked.layout)
    alone = view(on_device_of(checked.model, task.collate(samples[:1])))
    padded = view(on_device_of(checked.model, task.collate([samples[0], samples[-1]])))[:1]
    if alone.shape[-1] != task.num_labels:
        raise ConfigError(
            f"{checked.name}: {type(checked.model).__name__} gives {alone.shape[-1]} numbers a text, and"
            " there are"
            f" {task.num_labels} classes; accepted: a head of as many outputs as config.id2label has classes"
        )
    if task.spec.by_position:
        padded = padded[:, : alone.shape[1]]
    if alone.dtype == torch.float32 and differs(padded, alone):
        change = float((padded - alone).abs().max())
        warnings.warn(
            f"{checked.name}: padding is not hidden from {type(checked.model).__name__}: beside a longer text"
            f" its answer to a text changes by {change:.2g}",
            stacklevel=2,
        )


# --- what the checks share ----------------------------------------------------------------------------------


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
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Sets evaluation mode; restores modes and random number generators afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng():
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training


def on_device_of(model: nn.Module, batch: Batch) -> Batch:
    """The batch on the model's device."""
    device = device_of(model)
    return {name: value.to(device) for name, value in batch.items()}


def short_error(error: BaseException) -> str:
    """The error's text on one line, cut to 160 characters."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def differs(outputs: Tensor, expected: Tensor, close: float = 1e-3) -> bool:
    """Whether two results differ by more than rounding."""
    if outputs.shape != expected.shape:
        return True
    tolerance = close if expected.dtype in (torch.float32, torch.float64) else max(close, 3e-2)
    expected = expected.float()
    return bool((outputs.float() - expected).abs().max() > tolerance * expected.abs().max())
