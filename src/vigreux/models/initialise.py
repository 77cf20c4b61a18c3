"""How a student starts from its teacher's embeddings: through the projection that its hidden stages use."""

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

LEAST_CORRELATION = (
    0.5  # of the student's hidden state 0 with its target; BERT's kind, where it is least exact, has 0.9
)
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
    """Sets the student's embeddings so that its hidden state 0 is `h_S⁰ = h_T⁰ P`, with P the `matrix`.

    Where everything before the blocks is linear in the tables (word, position, token type, patches), each
    becomes the teacher's times `P`; exact for GPT-2, Llama, Gemma (whose fixed factor √hidden is divided
    out), OPT, T5, ViT. Where embeddings are narrower than the hidden size and pass a projection (ELECTRA, OPT
    350M) the student takes tables and norm as they are, and the projection times `P`: exact too.

    Where a LayerNorm ends the embeddings (BERT and its relatives), `h_T⁰ = γ ⊙ n(e) + β`, and centring and γ
    are folded into the tables: `e_S = e (I − 11ᵀ/d) diag(γ) P`, `γ_S = κ`, `β_S = βP`, with κ the standard
    deviation over coordinates of `(h_T⁰ − β)P`, measured on an even sample of the vocabulary.

    The scale stays the teacher's, whatever the student's `initializer_range`. Tied heads follow; an untied
    head becomes the teacher's times `P`; an output bias is copied.

    With a larger vocabulary on either side the common rows are copied.

    Args:
        student: changed in place; of the teacher's family.
        teacher: with the same head, where the student's head is to be set.
        matrix: `P`, (d_T, d_S); preserves the mean variance of a coordinate.
        student_layout: default found.
        teacher_layout: default found.

    Returns:
        Notes for the user: tables of different length.

    Raises:
        ConfigError: another family, an embedding size that the two do not share, or a student that the claim
            does not hold for.
    """
    check_same_family(student, teacher)
    layout_s, layout_t = student_layout or find_layout(student), teacher_layout or find_layout(teacher)
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
            spread = _spread(states, matrix, constant) if norm.centres else 1.0
            _set_norm(front_s[name], constant, spread)
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
    """Measures the student's hidden state 0 against its target, and puts a common factor right.

    A family may multiply its embeddings by √hidden in its own forward pass. The factor shows as a hidden
    state 0 that is a multiple of the target, and is divided out of the tables.

    Args:
        student: with its new tables; changed where a factor shows.
        layout: its.
        batch: tokens.
        target: (B, T, d_S) the teacher's hidden state 0 times `P`.
        linear: the modules whose sum the hidden state is; `None` where a norm follows them.

    Raises:
        ConfigError: the hidden state has little to do with its target.
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
    own, theirs = text_config(student).model_type, text_config(teacher).model_type
    if own != theirs:
        families = f"{own!r}, not of the teacher's, {theirs!r}"
        raise ConfigError(f"student.init: the student is of the family {families}; accepted for it: random")


def _front(model: nn.Module, layout: Layout) -> dict[str, nn.Module]:
    """The modules with parameters of their own that make hidden state 0, by their path in the base model."""
    view = cut(model, 0, layout).module
    return {
        name: module
        for name, module in view.named_modules()
        if any(p is not None for p in module._parameters.values())
    }


def _bridge(front_s: dict[str, nn.Module], front_t: dict[str, nn.Module]) -> nn.Linear | None:
    """The linear layer after narrower embeddings that the teacher has, and the student has not."""
    extra = [front_t[name] for name in front_t.keys() - front_s.keys()]
    if not extra and front_s.keys() == front_t.keys():
        return None
    if len(extra) == 1 and isinstance(extra[0], nn.Linear) and front_s.keys() < front_t.keys():
        return extra[0]
    differ = ", ".join(sorted(front_s.keys() ^ front_t.keys()))
    raise ConfigError(f"student.init: student and teacher embed differently ({differ}); accepted: random")


def _sample(student: PreTrainedModel, teacher: PreTrainedModel) -> dict[str, Tensor] | None:
    """An even sample of the vocabulary that both have, in rows of 16 tokens; `None` for models of images."""
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
    """The teacher's hidden state 0 (B, T, d_T), and input and output of each module that ran, in order."""
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
            f" {tuple(states.shape)}, and"
            f" projected-embeddings needs {shape} (rows, tokens, width); accepted: random"
        )
    return states, calls


def _hidden_state_0(model: PreTrainedModel, layout: Layout, batch: dict[str, Tensor]) -> Tensor:
    """(B, T, H), in evaluation mode."""
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
    """The end of the embeddings: a LayerNorm, or its scale and bias alone (MobileBERT's does not centre)."""

    module: Any
    centres: bool = True


def _is_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() == 1


def _only_called(module: nn.Module) -> bool:
    """Whether weights of this kind serve by a call alone; a table may also be read by another module."""
    return _is_norm(module) or isinstance(module, nn.Linear)


def _last_norm(
    front: dict[str, nn.Module], calls: dict[str, tuple[Tensor, Tensor]], width: int
) -> _Norm | None:
    """The last norm of this width that runs: a module of any class that computes what a LayerNorm does."""
    if not calls:  # a model of images
        norms = [m for m in front.values() if isinstance(m, nn.LayerNorm) and m.normalized_shape == (width,)]
        return _Norm(norms[-1]) if norms else None
    for name in reversed(calls):
        module: Any = front[name]
        if not _is_norm(module) or module.weight.shape != (width,):
            continue
        given, gave = calls[name]
        bias = getattr(module, "bias", None)
        scaled = given * module.weight + (0 if bias is None else bias)
        normed = nn.functional.layer_norm(given, (width,), module.weight, bias, eps=1e-12)
        for computed, centres in ((normed, True), (scaled, False)):
            if (computed - gave).abs().max() <= 0.05 * gave.abs().max():
                return _Norm(module, centres)
    return None


def _maps(norm: _Norm | None, bridge: nn.Linear | None, matrix: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """The maps (width, d_S) of embeddings to the student, by their width, and a constant (d_S,).

    The norm and the linear layer after the embeddings add the constant.

    A norm between is folded: `(I − 11ᵀ/d) diag(γ)` times what comes after it, without the first factor where
    it does not centre.
    """
    width, constant = matrix.shape[0], matrix.new_zeros(matrix.shape[1])
    # ELECTRA: norm, then bridge
    last = bridge is not None and norm is not None and norm.module.weight.shape != (width,)
    after = matrix if bridge is None or not last else bridge.weight.float().T @ matrix
    if bridge is not None and bridge.bias is not None:
        constant = bridge.bias.float() @ matrix
    if norm is not None:
        bias = getattr(norm.module, "bias", None)
        constant = constant if bias is None else constant + bias.float() @ after
        after = norm.module.weight.float().unsqueeze(1) * after
        if norm.centres:
            after = after - after.mean(dim=0, keepdim=True)
    maps = {len(after): after}
    if bridge is not None and not last:
        maps[bridge.in_features] = bridge.weight.float().T @ after
    return maps, constant


def _spread(states: Tensor | None, matrix: Tensor, constant: Tensor) -> float:
    """κ: the standard deviation over coordinates of `h_T⁰ P − constant`; the student's norm has 1."""
    assert states is not None
    return float((states @ matrix - constant).std(dim=-1, correction=0).mean())


def _set_norm(target: nn.Module, bias: Tensor, spread: float) -> None:
    weight, own_bias = target.get_parameter("weight"), getattr(target, "bias", None)
    weight.fill_(spread)
    if own_bias is not None:
        own_bias.copy_(bias)


def _set_front(name: str, target: nn.Module, source: nn.Module, maps: dict[int, Tensor]) -> list[str]:
    """Maps every parameter to the student along its output dimension; copies those of other widths."""
    notes = []
    factor = _input_scale(source) / _input_scale(target)
    for key, value in source.named_parameters(recurse=False):
        new, old = _project(source, value.float(), maps) * factor, target.get_parameter(key)
        if new.shape[1:] != old.shape[1:] or (new.dim() == 1 and new.shape != old.shape):
            raise ConfigError(
                f"student.init: {name}.{key} is {tuple(old.shape)} in the student, {tuple(new.shape)} wanted;"
                " accepted: another student.hidden, or student.init: random"
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
