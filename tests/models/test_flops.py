"""FLOPs without weights: an early view costs its blocks alone, and a meta model what a real one does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config

from tests.models.families import EVERY_MODEL, FAMILIES, LANGUAGE_MODELS, LAYERS, batch_of, config_of
from vigreux.models.flops import count_flops, view_flops
from vigreux.models.student import build
from vigreux.models.views import LogitsView, cut


def counted_by_torch(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_the_counts_are_those_of_torch(mode: Callable[[], Any], backend: SDPBackend) -> None:
    """Of operations that torch composes of others, of convolutions and of attention kernels."""
    query = torch.randn(2, 2, 5, 8)

    def run() -> None:
        with mode(), sdpa_kernel(backend):
            torch.nn.functional.scaled_dot_product_attention(query, query, query)
            torch.nn.Linear(8, 3)(query) @ torch.ones(3, 4)
            torch.nn.Conv1d(5, 6, 3)(query[0])
            torch.einsum("abc,abd->cd", query[0], query[1])

    assert count_flops(run) == counted_by_torch(run) > 0


def test_a_linear_layer() -> None:
    layer, rows = torch.nn.Linear(5, 7), torch.randn(3, 5)
    assert count_flops(lambda: layer(rows)) == 2 * 3 * 5 * 7
    assert (
        count_flops(lambda: layer(rows).sum().backward()) == 2 * 2 * 3 * 5 * 7
    )  # no gradient of the input is asked for


def test_gpt2_by_hand() -> None:
    config = GPT2Config(n_embd=32, n_layer=4, n_head=4, n_positions=16, vocab_size=61)
    tokens, width, length = 2 * 10, 32, 10
    block = 2 * tokens * (3 + 1 + 4 + 4) * width**2 + 2 * 2 * tokens * length * width
    for depth in range(5):
        assert view_flops(config, "AutoModelForCausalLM", depth, batch=2, seq=10) == depth * block
        assert (
            view_flops(config, "AutoModelForCausalLM", depth, batch=2, seq=10, backward=True)
            == 3 * depth * block
        )
    # of two blocks that are not trained there is no backward pass
    assert (
        view_flops(config, "AutoModelForCausalLM", 4, batch=2, seq=10, backward=True, frozen=2)
        == (4 + 2 * 2) * block
    )
    assert view_flops(config, "AutoModelForCausalLM", batch=2, seq=10) == 4 * block + 2 * tokens * width * 61
    assert (
        view_flops(config, "AutoModelForCausalLM", batch=2, seq=10, positions_share=0.15)
        == 4 * block + 2 * 3 * width * 61
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_early_views_cost_their_blocks_alone_and_grow_linearly(name: str) -> None:
    counts = [
        view_flops(config_of(name), FAMILIES[name].headless, depth, batch=2, seq=10)
        for depth in range(LAYERS)
    ]
    steps = [after - before for before, after in pairwise(counts)]
    if name == "deberta-v2-conv":  # its convolution runs beside the first block
        assert steps[0] > steps[1] > 0
    else:
        assert len(set(steps)) == 1
        assert steps[0] > 0


@pytest.mark.parametrize(("name", "auto_class"), EVERY_MODEL)
def test_meta_and_real_models_agree(name: str, auto_class: str) -> None:
    """The expected counts are those of torch's own counter, the slow twin of ours."""
    model, batch = build(config_of(name), auto_class, attn_implementation="eager"), batch_of(name)
    expected = counted_by_torch(lambda: cut(model, 2)(batch).sum().backward())
    assert view_flops(config_of(name), auto_class, 2, batch=3, seq=10, backward=True) == expected
    expected = counted_by_torch(lambda: LogitsView(model)(batch))
    assert view_flops(config_of(name), auto_class, batch=3, seq=10) == expected


@pytest.mark.parametrize(("name", "auto_class"), LANGUAGE_MODELS)
def test_dropped_positions_cost_no_head(name: str, auto_class: str) -> None:
    whole, few = (
        view_flops(config_of(name), auto_class, batch=3, seq=10, positions_share=share)
        for share in (1.0, 0.1)
    )
    none = view_flops(config_of(name), auto_class, batch=3, seq=10, positions_share=0.0)
    assert whole == view_flops(config_of(name), auto_class, batch=3, seq=10)
    assert (whole - none) == 10 * (few - none) > 0
