"""What a comparison of variants shows: gains by seed, and what each cost."""

import pytest

from vigreux.claims.common.variants import figure, gains, table


def row(accuracy, loss, flops, explained):
    return {
        "accuracy": accuracy,
        "interval": [sum(accuracy) / 2],
        "loss": loss,
        "flops": flops,
        "explained_variance": explained,
    }


ROWS = {
    "one-shot": row([0.5, 0.6], [1.0, 0.8], [2e12, 2e12], [[], []]),
    "other": row([0.52, 0.64], [0.9, 0.7], [1e12, 1e12], [[0.5, 0.2], [0.7, 0.4]]),
}


def test_gains_are_those_of_the_same_seed():
    mean, half = gains(ROWS, "other", "one-shot")
    assert mean == pytest.approx(3)
    assert half == pytest.approx(
        12.706 * 1.0, rel=1e-3
    )  # Student's t of two seeds, whose gains differ by two points


def test_the_table():
    lines = table(ROWS).splitlines()
    assert lines[2] == "| one-shot | 55.0 % | – | 0.900 | 2.0 T | – |"
    assert lines[3] == "| other | 58.0 % | +3.0 ± 12.7 | 0.800 | 1.0 T | 0.60, 0.30 |"


def test_one_seed_has_no_interval():
    first = ("accuracy", "explained_variance")
    one = {name: own | {key: own[key][:1] for key in first} for name, own in ROWS.items()}
    assert "| +2.0 |" in table(one)


def test_the_figure(tmp_path):
    figure({"a teacher": ROWS}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
