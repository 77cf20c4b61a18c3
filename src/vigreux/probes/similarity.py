"""The similarity of student and teacher layers by linear CKA, and layer pairs for extraction.

For the hidden states X (N, d_T) and Y (N, d_S) of two layers on the same N tokens (Kornblith et al. 2019,
arXiv 1905.00414, section 3)

    CKA = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)),     HSIC(X, Y) ∝ ‖Xᵀ Y‖²_F  for columns of mean 0,

CKA is invariant to rotation, shift and scale of either side. This HSIC is biased: if N is near d, unrelated
layers appear similar. The default is the unbiased HSIC (Song et al. 2012, JMLR 13; for CKA in Nguyen et al.
2021, arXiv 2010.15327). With kernel matrices XXᵀ it needs only the entries of X⁺ᵀ Y⁺, where X⁺ = [X, ‖x‖², 1]
has two more columns. No tokens are stored.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vigreux.errors import ConfigError, DataError
from vigreux.models.layout import find_layout

Batch = dict[str, Tensor]
States = Sequence[Tensor]  # hidden states 0 … L of the same N tokens, (N, d) each

_FEWEST = 4  # tokens: the unbiased estimate divides by N (N − 3)
_VARIES = 1e-12  # relative to ‖Xᵀ X‖²: a layer with a smaller HSIC is constant up to rounding


def compare_layers(
    teacher: nn.Module,
    student: nn.Module,
    batches: Iterable[Batch],
    *,
    unbiased: bool = True,
    device: torch.device | str = "cpu",
) -> Tensor:
    """CKA of all hidden states of the teacher with all hidden states of the student, without padding.

    It takes (Σ d_T) · (Σ d_S) numbers of 8 bytes, with sums over layers, and as many multiplications per
    token.

    Args:
        teacher: a Hugging Face model, with or without its head.
        student: a Hugging Face model that reads the same token ids.
        batches: inputs of both models. `attention_mask` (B, T) marks padding; without it there is none.
        unbiased: use the unbiased HSIC instead of the plain one.
        device: device of the batches and of both models.

    Returns:
        (L_T + 1, L_S + 1) float64, from −1 to 1. Row and column 0 are the embeddings. Unbiased values of
        unrelated layers are near 0. The value is 0 if a layer has the same state at all tokens.

    Raises:
        ConfigError: the blocks of a model are not found.
        DataError: there are fewer than 4 tokens.
    """
    with _evaluating(teacher), _evaluating(student):
        on_device = ({name: values.to(device) for name, values in batch.items()} for batch in batches)
        return linear_cka(
            ((token_states(teacher, batch), token_states(student, batch)) for batch in on_device),
            unbiased=unbiased,
        )


@torch.no_grad()
def token_states(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Hidden states 0 … L (N, d) of a Hugging Face model at the N tokens of a batch that are not padding."""
    base = model.get_submodule(find_layout(model).base)
    parameters = inspect.signature(type(base).forward).parameters
    inputs = {name: values for name, values in batch.items() if name in parameters}
    states = base(**inputs, output_hidden_states=True).hidden_states
    mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()  # (B, T)
    return [state[mask] for state in states]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


# --- CKA ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def linear_cka(batches: Iterable[tuple[States, States]], *, unbiased: bool = True) -> Tensor:
    """CKA (K, M) of K layers with M layers, from batches of states on the same tokens; see `compare_layers`.

    Raises:
        DataError: there are fewer than 4 tokens.
    """
    totals: list[Tensor] = []
    for x_states, y_states in batches:
        xs = [_augmented(layer) for layer in x_states]
        ys = [_augmented(layer) for layer in y_states]
        products = [x.T @ y for x in xs for y in ys] + [layer.T @ layer for layer in xs + ys]
        totals = [total.add_(product) for total, product in zip(totals, products)] if totals else products
    tokens = int(totals[0][-1, -1]) if totals else 0
    if tokens < _FEWEST:
        raise DataError(
            f"similarity: {tokens} tokens; accepted: at least {_FEWEST}, and many more than a layer is wide"
        )
    hsic = torch.stack([(_unbiased_hsic if unbiased else _biased_hsic)(moments) for moments in totals])
    K, M = len(xs), len(ys)
    rows, columns = _where_it_varies(hsic, totals)[K * M :].split([K, M])
    return hsic[: K * M].view(K, M) / (rows[:, None] * columns).sqrt()


def _augmented(states: Tensor) -> Tensor:
    """[X, ‖x‖², 1], (N, d + 2) float64."""
    X = states.double()
    return torch.cat([X, X.square().sum(1, keepdim=True), torch.ones_like(X[:, :1])], dim=1)


def _biased_hsic(moments: Tensor) -> Tensor:
    """‖Xᵀ Y‖² of centred columns, from X⁺ᵀ Y⁺."""
    product, x_sum, y_sum, tokens = moments[:-2, :-2], moments[:-2, -1], moments[-1, :-2], moments[-1, -1]
    return (product - torch.outer(x_sum, y_sum) / tokens).square().sum()


def _unbiased_hsic(moments: Tensor) -> Tensor:
    """tr(K̃ L̃) + 1ᵀK̃1 · 1ᵀL̃1 / ((N − 1)(N − 2)) − 2 · 1ᵀK̃L̃1 / (N − 2), from X⁺ᵀ Y⁺.

    K̃ is X Xᵀ with a diagonal of zeros. The factor 1 / (N (N − 3)) cancels in CKA.
    """
    product, tokens = moments[:-2, :-2], moments[-1, -1]
    x_sum, y_sum = moments[:-2, -1], moments[-1, :-2]  # Σ x, Σ y
    x_weighted, y_weighted = moments[:-2, -2], moments[-2, :-2]  # Σ x ‖y‖², Σ y ‖x‖²
    x_squares, y_squares = moments[-2, -1], moments[-1, -2]  # Σ ‖x‖², Σ ‖y‖²
    both = moments[-2, -2]  # Σ ‖x‖²‖y‖²
    trace = product.square().sum() - both
    totals = (x_sum @ x_sum - x_squares) * (y_sum @ y_sum - y_squares)
    rows = x_sum @ product @ y_sum - x_sum @ x_weighted - y_sum @ y_weighted + both
    return trace + totals / ((tokens - 1) * (tokens - 2)) - 2 * rows / (tokens - 2)


def _where_it_varies(hsic: Tensor, totals: Sequence[Tensor]) -> Tensor:
    """The HSIC, or infinity for layers that do not vary, so that their CKA is 0."""
    scale = torch.stack([moments[:-2, :-2].square().sum() for moments in totals])
    return torch.where(hsic > _VARIES * scale, hsic, torch.inf)


# --- pairs --------------------------------------------------------------------------------------------------


def suggest_pairs(similarity: Tensor) -> dict[int, int]:
    """Teacher layer → student depth, for `extraction.layers`: the rising pairs with the largest similarity.

    Each student depth below the full depth gets a different teacher layer below the last one; the final stage
    covers the full depth. A student of one block gets a pair for that block, with any teacher layer. Ties go
    to the lower layers. (`recipes.pair_layers` is the evenly spaced default, which looks at no model.)

    Args:
        similarity: (L_T + 1, L_S + 1), from `compare_layers`. Row and column 0 are not used.

    Raises:
        ConfigError: the student is deeper than its teacher.

    >>> suggest_pairs(torch.tensor([[0, 0, 0], [0, 0.9, 0], [0, 0.7, 0], [0, 0, 0.9]]))
    {1: 1}
    """
    L_T, L_S = (size - 1 for size in similarity.shape)
    if L_S > L_T:
        raise ConfigError(
            f"student.layers: {L_S} is deeper than the teacher's {L_T} blocks; give extraction.layers by hand"
        )
    depths = range(1, max(L_S, 2))
    layers = range(1, L_T + 1 if L_S == 1 else L_T)
    # the best rising path so far, by its last layer
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for depth in depths:
        best = {
            layer: max(
                (
                    (total + float(similarity[layer, depth]), (*path, layer))
                    for last, (total, path) in best.items()
                    if last < layer
                ),
                key=lambda candidate: candidate[0],
            )
            for layer in layers
            if layer > min(best)
        }
    _, path = max(best.values(), key=lambda candidate: candidate[0])
    return dict(zip(path, depths))
