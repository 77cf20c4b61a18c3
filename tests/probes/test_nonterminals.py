"""The non-terminal probe reads what hidden states hold, from the token's own place or from another one, and
no more.
"""

import pytest
import torch

from tests.reference import position_probe as reference
from vigreux.errors import ConfigError
from vigreux.probes.nonterminals import (
    IGNORE,
    PositionProbe,
    ProbeData,
    ProbeSettings,
    fit_nonterminal_probe,
    joined,
)

SYMBOLS, LENGTH = 4, 6


def data(count: int, seed: int, *, shift: int = 0, noise: bool = False) -> ProbeData:
    """Ancestors one-hot in the hidden state `shift` places on; or hidden states that say nothing."""
    draw = torch.Generator().manual_seed(seed)
    ancestors = torch.randint(0, SYMBOLS, (count, LENGTH, 2), generator=draw)
    hidden = torch.nn.functional.one_hot(ancestors, SYMBOLS).flatten(2).float().roll(shift, 1)
    if noise:
        hidden = torch.randn(hidden.shape, generator=draw)
    return ProbeData(hidden, torch.ones(count, LENGTH, dtype=torch.bool), ancestors)


@pytest.mark.parametrize("shift", [0, 2])
def test_what_is_there_is_read(shift):
    scores = fit_nonterminal_probe(
        data(600, 0, shift=shift), data(100, 1, shift=shift), ProbeSettings(epochs=20)
    )
    assert min(scores.accuracy) > 0.97
    assert max(scores.majority) < 0.4


def test_what_is_not_there_is_not_read():
    scores = fit_nonterminal_probe(data(600, 0, noise=True), data(200, 1, noise=True))
    assert max(scores.accuracy) < 0.4


def test_padding_and_ignored_positions_take_no_part():
    whole, short = data(4, 0), data(4, 1)
    short = ProbeData(short.hidden[:, :4], short.mask[:, :4], short.ancestors[:, :4])
    both = joined([short, whole])
    assert both.hidden.shape == (8, LENGTH, 2 * SYMBOLS)
    assert (both.ancestors[:4, 4:] == IGNORE).all()
    assert not both.mask[:4, 4:].any()
    torch.manual_seed(0)
    probe = PositionProbe(LENGTH, 2 * SYMBOLS, 2, SYMBOLS, heads=3, rank=2)
    torch.testing.assert_close(probe(both.hidden, both.mask)[:4, :4], probe(short.hidden, short.mask))


def test_the_same_as_a_loop_over_heads_and_places():
    torch.manual_seed(0)
    probe, own = PositionProbe(LENGTH, 2 * SYMBOLS, 2, SYMBOLS, heads=3, rank=2).double(), data(3, 2)
    mask = own.mask.clone()
    mask[1, 4:] = False
    found = probe(own.hidden.double(), mask)
    torch.testing.assert_close(found, reference.probe(probe, own.hidden.double(), mask))


def test_a_seed_fixes_it():
    one, other = (fit_nonterminal_probe(data(50, 0), data(50, 1)) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 0}, r"probe.heads: 0; accepted: a whole number from 1"),
        ({"epochs": -1}, r"probe.epochs: -1"),
        ({"rate": 0.0}, r"probe.rate: 0.0; accepted: a positive number"),
        ({"rate": float("nan")}, r"probe.rate: nan"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        ProbeSettings(**settings)
