"""Models that `teach` starts at random: an encoder for the next token does not see it, and dropout is what
was asked for.
"""

from __future__ import annotations

import pytest
import torch

from vigreux.assembly.build_teacher import make_teaching_setup
from vigreux.config.shared import BudgetConfig
from vigreux.config.transformer import ModelConfig, TaskConfig, TeachConfig
from vigreux.errors import ConfigError


def model(family: str, kind: str = "causal-lm", **changes):
    """A fresh one on sentences of a grammar."""
    sizes = ModelConfig(family=family, layers=2, hidden=16, heads=2, **changes)
    task = TaskConfig(kind=kind, data="grammar:cfg3b:k", max_length=32, max_eval=2)
    return make_teaching_setup(
        TeachConfig(task=task, model=sizes, budget=BudgetConfig(steps=1))
    ).student.eval()


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "roberta"])
def test_no_family_sees_the_next_token(family):
    ids = torch.tensor([[3, 0, 1, 2, 0, 1], [3, 0, 1, 2, 0, 2]])
    with torch.no_grad():
        one, other = model(family)(ids).logits
    torch.testing.assert_close(one[:5], other[:5])
    assert not torch.equal(one[5], other[5])


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_dropout_is_set_wherever_the_family_has_it(family):
    kind = "masked-lm" if family == "bert" else "causal-lm"
    usual, none, half = (
        {m.p for m in model(family, kind, **given).modules() if isinstance(m, torch.nn.Dropout)}
        for given in ({}, {"dropout": 0.0}, {"dropout": 0.5})
    )
    assert usual == {0.1}
    assert none == {0.0}
    assert half == {0.5}


def test_dropout_that_cannot_be():
    with pytest.raises(
        ConfigError, match=r"model\.dropout: 1\.0; accepted: a number from 0 to below 1 or null"
    ):
        ModelConfig(family="bert", dropout=1.0)


def test_a_family_that_cannot_have_these_sizes():
    with pytest.raises(ConfigError, match=r"^model\.heads: the family 'mamba' has no attention heads"):
        model("mamba")
    with pytest.raises(
        ConfigError, match=r"^model\.family: a model of the family 'mamba2' .*; accepted: other sizes"
    ):
        make_teaching_setup(
            TeachConfig(
                task=TaskConfig(kind="causal-lm", data="grammar:cfg3b:k", max_length=32, max_eval=2),
                model=ModelConfig(family="mamba2", layers=2, hidden=16),
                budget=BudgetConfig(steps=1),
            )
        )
