"""Initialises a student's embeddings with its teacher's, through the projection of its hidden stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vigreux.errors import ConfigError
from vigreux.models.layout import Layout, find_layout
from vigreux.models.placed import device_of, in_memory
from vigreux.models.text_config import text_config
from vigreux.models.views import cut

# The lowest correlation of the student's hidden state 0 with its target. BERT and its relatives, for which
# the initialisation is least exact, reach 0.9.
LEAST_CORRELATION = 0.5
SAMPLED_ROWS = 4096  # vocabulary entries that the scale of a norm is measured on


# --- hidden state 0 in closed form --------------------------------------------------------------------------


@torch.no_grad()
def projected_embeddings_(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    matrix: Tensor,
    *,
    student_layout: Layout | None = None,
    teacher_layout: Layout | None = None,
) -> list[str]:
    """Sets the student's embeddings so that its hidden state 0 is `h_S⁰ = h_T⁰ P`, where P is `matrix`.

    If all modules before the blocks are linear in the tables (word, position, token type, patches), each
    table becomes the teacher's times `P`. This is exact for GPT-2, Llama, Gemma (we divide by its factor
    √hidden), OPT, T5 and ViT. If the embeddings are narrower than the hidden size and pass through a
    projection (ELECTRA, OPT 350M), the student copies tables and norm, and its projection is the teacher's
    times `P`. This is also exact.

    If a LayerNorm ends the embeddings (BERT and its relatives), `h_T⁰ = γ ⊙ n(e) + β`. Centring and γ are
    folded into the tables: `e_S = e (I − 11ᵀ/d) diag(γ) P`, `γ_S = κ`, `β_S = βP`, where κ is the standard
    deviation over coordinates of `(h_T⁰ − β)P`, measured on an even sample of the vocabulary.

    The scale is the teacher's, whatever the student's `initializer_range`. Tied heads follow the embeddings,
    an untied head becomes the teacher's times `P`, and an output bias is copied. If the vocabularies have
    different sizes, the common rows are copied.

    Args:
        student: changed in place; of the teacher's family.
        teacher: a model with the same head, if the student's head is to be set.
        matrix: `P`, (d_T, d_S); preserves the mean variance of a coordinate.
        student_layout: default: `find_layout`.
        teacher_layout: default: `find_layout`.

    Returns:
        Notes for the user about tables of different lengths.

    Raises:
        ConfigError: the families or embedding sizes differ, or the student's hidden state 0 does not reach
            its target.
    """
    check_same_family(student, teacher)
    layout_s = student_layout or find_layout(student)
    layout_t = teacher_layout or find_layout(teacher)
    d_t, d_s = text_config(teacher).hidden_size, text_config(student).hidden_size
    assert matrix.shape == (d_t, d_s), f"matrix is {tuple(matrix.shape)}, not ({d_t}, {d_s})"
    front_s, front_t = _front(student, layout_s), _front(teacher, layout_t)
    matrix = matrix.to(device_of(teacher), torch.float32)
    batch = _sample(student, teacher)
    states, calls = _watched(teacher, layout_t, front_t, batch)
    front_t = {name: in_memory(module) for name, module in front_t.items()}
    bridge = _bridge(front_s, front_t)
    norm = _last_norm(front_t, calls, d_t if bridge is None else bridge.in_features)
    norm = norm or _last_norm(front_t, calls, d_t)
    maps, constant = _maps(norm, bridge, matrix)
    notes: list[str] = []
    for name, source in front_t.items():
        if norm is not None and source is norm.module:
            assert states is not None or not norm.centres
            scale = _norm_scale(states, matrix, constant) if norm.centres else 1.0
            _set_norm(front_s[name], constant, scale)
        elif source is not bridge and not (batch is not None and name not in calls and _only_called(source)):
            notes += _set_front(name, front_s[name], source, maps)
    notes += _set_head(student, teacher, matrix)
    if batch is not None and states is not None:
        _check_start_(student, layout_s, batch, states.float() @ matrix, None if norm else front_s)
    return notes


@torch.no_grad()
def _check_start_(
    student: PreTrainedModel,
    layout: Layout,
    batch: dict[str, Tensor],
    target: Tensor,
    linear: dict[str, nn.Module] | None,
) -> None:
    """Compares the student's hidden state 0 with its target, and corrects a common factor.

    A family may multiply its embeddings by √hidden in its forward pass. Hidden state 0 is then a multiple of
    the target, and the tables are divided by the factor.

    Args:
        student: the student with its new tables; changed if there is a factor.
        layout: the student's layout.
        batch: tokens.
        target: (B, T, d_S) the teacher's hidden state 0 times `P`.
        linear: the modules whose sum is the hidden state; `None` if a norm follows them.

    Raises:
        ConfigError: hidden state 0 correlates too little with its target.
    """
    device = device_of(student)
    state = _hidden_state_0(student, layout, {name: value.to(device) for name, value in batch.items()})
    state, target = state.float().flatten(), target.to(device).flatten()
    correlation = float(torch.corrcoef(torch.stack([state, target]))[0, 1])
    if not correlation >= LEAST_CORRELATION:
        raise ConfigError(
            "student.init: projected-embeddings does not reach the teacher's hidden state 0 in a model of the"
            f" family {student.config.model_type!r} (correlation {correlation:.2f}); accepted: random"
        )
    factor = float(state @ target / (state @ state))
    if linear is not None and correlation > 0.99 and abs(factor - 1) > 0.01:
        for module in linear.values():
            for parameter in module.parameters(recurse=False):
                parameter.mul_(factor)


def check_same_family(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Raises `ConfigError` if the student is not of the teacher's family."""
    student_family = text_config(student).model_type
    teacher_family = text_config(teacher).model_type
    if student_family != teacher_family:
        families = f"{student_family!r}, not of the teacher's, {teacher_family!r}"
        raise ConfigError(f"student.init: the student is of the family {families}; accepted for it: random")


def _front(model: nn.Module, layout: Layout) -> dict[str, nn.Module]:
    """The modules with direct parameters that compute hidden state 0, by their path in the base model."""
    view = cut(model, 0, layout).module
    return {
        name: module
        for name, module in view.named_modules()
        if any(p is not None for p in module._parameters.values())
    }


def _bridge(front_s: dict[str, nn.Module], front_t: dict[str, nn.Module]) -> nn.Linear | None:
    """The linear layer after narrower embeddings, if the teacher has one and the student does not."""
    extra = [front_t[name] for name in front_t.keys() - front_s.keys()]
    if not extra and front_s.keys() == front_t.keys():
        return None
    if len(extra) == 1 and isinstance(extra[0], nn.Linear) and front_s.keys() < front_t.keys():
        return extra[0]
    differ = ", ".join(sorted(front_s.keys() ^ front_t.keys()))
    raise ConfigError(f"student.init: student and teacher embed differently ({differ}); accepted: random")


def _sample(student: PreTrainedModel, teacher: PreTrainedModel) -> dict[str, Tensor] | None:
    """An even sample of the common vocabulary, in rows of 16 tokens; `None` for vision models."""
    sizes = [getattr(text_config(model), "vocab_size", None) for model in (student, teacher)]
    known = [int(size) for size in sizes if size is not None]
    if len(known) < 2 or teacher.main_input_name != "input_ids":
        return None
    vocabulary = min(known)
    device = device_of(teacher)
    ids = torch.arange(0, vocabulary, max(1, vocabulary // SAMPLED_ROWS), device=device)
    ids = ids[: len(ids) // 16 * 16].view(-1, 16) if len(ids) >= 16 else ids.unsqueeze(0)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _watched(
    teacher: PreTrainedModel, layout: Layout, front: dict[str, nn.Module], batch: dict[str, Tensor] | None
) -> tuple[Tensor | None, dict[str, tuple[Tensor, Tensor]]]:
    """The teacher's hidden state 0 (B, T, d_T), and input and output of every module that ran, in order."""
    if batch is None:
        return None, {}
    calls: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            output = output if isinstance(output, Tensor) else output[0]
            if args and isinstance(args[0], Tensor):
                calls[name] = (args[0], output)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in front.items()]
    try:
        states = _hidden_state_0(teacher, layout, batch).float()
    finally:
        for handle in handles:
            handle.remove()
    shape = (*batch["input_ids"].shape, text_config(teacher).hidden_size)
    if tuple(states.shape) != shape:
        raise ConfigError(
            f"student.init: hidden states of the family {teacher.config.model_type!r} have the shape"
            f" {tuple(states.shape)}, but projected-embeddings needs {shape} (rows, tokens, width);"
            " accepted: random"
        )
    return states, calls


def _hidden_state_0(model: PreTrainedModel, layout: Layout, batch: dict[str, Tensor]) -> Tensor:
    """Hidden state 0 (B, T, H), in evaluation mode."""
    training = model.training
    try:
        return cut(model.eval(), 0, layout)(batch)
    except Exception as error:
        raise ConfigError(
            f"student.init: the embeddings of the family {model.config.model_type!r} cannot be run alone"
            f" ({' '.join(str(error).split())[:160]}); accepted: random"
        ) from error
    finally:
        model.train(training)


@dataclass(frozen=True)
class _Norm:
    """The last norm of the embeddings: a LayerNorm, or only a scale and a bias (MobileBERT)."""

    module: Any
    centres: bool = True


def _is_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() == 1


def _only_called(module: nn.Module) -> bool:
    """Whether weights of this kind act only through a call. Other modules may read a table directly."""
    return _is_norm(module) or isinstance(module, nn.Linear)


def _last_norm(
    front: dict[str, nn.Module], calls: dict[str, tuple[Tensor, Tensor]], width: int
) -> _Norm | None:
    """The last norm of this width that runs: a module of any class with the output of a LayerNorm."""
    if not calls:  # a vision model
        norms = [m for m in front.values() if isinstance(m, nn.LayerNorm) and m.normalized_shape == (width,)]
        return _Norm(norms[-1]) if norms else None
    for name in reversed(calls):
        module: Any = front[name]
        if not _is_norm(module) or module.weight.shape != (width,):
            continue
        module_input, module_output = calls[name]
        bias = getattr(module, "bias", None)
        scaled = module_input * module.weight + (0 if bias is None else bias)
        normed = nn.functional.layer_norm(module_input, (width,), module.weight, bias, eps=1e-12)
        for computed, centres in ((normed, True), (scaled, False)):
            if (computed - module_output).abs().max() <= 0.05 * module_output.abs().max():
                return _Norm(module, centres)
    return None


def _maps(norm: _Norm | None, bridge: nn.Linear | None, matrix: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """The maps (width, d_S) from embeddings to the student, by their width, and a constant (d_S,).

    The constant comes from the biases of the norm and of the linear layer after the embeddings. A norm
    contributes the factor `(I − 11ᵀ/d) diag(γ)` to the map, or `diag(γ)` if it does not centre.
    """
    width, constant = matrix.shape[0], matrix.new_zeros(matrix.shape[1])
    # ELECTRA: the bridge follows the norm
    bridge_is_last = bridge is not None and norm is not None and norm.module.weight.shape != (width,)
    after = matrix
    if bridge is not None and bridge_is_last:
        after = bridge.weight.float().T @ matrix
    if bridge is not None and bridge.bias is not None:
        constant = bridge.bias.float() @ matrix
    if norm is not None:
        bias = getattr(norm.module, "bias", None)
        constant = constant if bias is None else constant + bias.float() @ after
        after = norm.module.weight.float().unsqueeze(1) * after
        if norm.centres:
            after = after - after.mean(dim=0, keepdim=True)
    maps = {len(after): after}
    if bridge is not None and not bridge_is_last:
        maps[bridge.in_features] = bridge.weight.float().T @ after
    return maps, constant


def _norm_scale(states: Tensor | None, matrix: Tensor, constant: Tensor) -> float:
    """κ: the mean standard deviation over coordinates of `h_T⁰ P − constant`."""
    assert states is not None
    return float((states @ matrix - constant).std(dim=-1, correction=0).mean())


def _set_norm(target: nn.Module, bias: Tensor, scale: float) -> None:
    target.get_parameter("weight").fill_(scale)
    target_bias = getattr(target, "bias", None)
    if target_bias is not None:
        target_bias.copy_(bias)


def _set_front(name: str, target: nn.Module, source: nn.Module, maps: dict[int, Tensor]) -> list[str]:
    """Maps every parameter to the student along its output dimension. Copies parameters of other widths."""
    notes = []
    factor = _input_scale(source) / _input_scale(target)
    for key, value in source.named_parameters(recurse=False):
        new = _project(source, value.float(), maps) * factor
        old = target.get_parameter(key)
        if new.shape[1:] != old.shape[1:] or (new.dim() == 1 and new.shape != old.shape):
            raise ConfigError(
                f"student.init: {name}.{key} is {tuple(old.shape)} in the student, but {tuple(new.shape)} is"
                " needed; use another student.hidden, or student.init: random"
            )
        notes += copy_rows(f"{name}.{key}", old, new)
    return notes


def _project(module: nn.Module, value: Tensor, maps: dict[int, Tensor]) -> Tensor:
    if isinstance(module, (nn.Linear, nn.Conv2d)):  # the output comes first: (d, in, ...) or a bias (d,)
        return torch.tensordot(maps[len(value)].T, value, dims=1) if len(value) in maps else value
    return value @ maps[value.shape[-1]] if value.shape[-1] in maps else value


def _input_scale(module: nn.Module) -> float:
    return float(getattr(module, "scalar_embed_scale", 1.0))  # Gemma multiplies its embeddings by √hidden


def copy_rows(name: str, target: Tensor, rows: Tensor) -> list[str]:
    """Copies the common rows to `target`. Returns a note for the user if the lengths differ."""
    common = min(len(target), len(rows))
    target[:common].copy_(rows[:common])
    if len(target) == len(rows):
        return []
    return [
        f"{name}: {len(rows)} rows in the teacher, {len(target)} in the student;"
        f" the first {common} are the teacher's"
    ]


def _set_head(student: PreTrainedModel, teacher: PreTrainedModel, matrix: Tensor) -> list[str]:
    """The output layer over the vocabulary: bias copied, an untied weight projected."""
    head_s, head_t = student.get_output_embeddings(), teacher.get_output_embeddings()
    if not (isinstance(head_s, nn.Linear) and isinstance(head_t, nn.Linear)):
        return []
    weight, bias = (in_memory(head_t)._parameters[name] for name in ("weight", "bias"))
    notes: list[str] = []
    assert weight is not None
    if head_s.weight is not student.get_input_embeddings().weight and head_t.in_features == matrix.shape[0]:
        notes += copy_rows("output head", head_s.weight, weight.to(matrix) @ matrix)
    if head_s.bias is not None and bias is not None:
        copy_rows("output bias", head_s.bias, bias)
    return notes
