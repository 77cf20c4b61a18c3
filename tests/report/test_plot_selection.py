"""The figure of `vigreux select`."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from vigreux.report.metrics import Metric
from vigreux.report.plot_selection import selection_figure, short
from vigreux.report.style import DARK, LIGHT, save_png
from vigreux.selection import Curve, choose_checkpoints, find_transitions

STEPS = np.arange(1, 81) * 100_000.0
RISE = 1 / (1 + np.exp(-(STEPS - 6.5e6) / 1.4e5))
CURVE = Curve(STEPS, 0.5 + 0.5 * RISE, rises=True)
LOSS = Curve(STEPS, 0.7 * (1 - RISE), rises=False)


def figure_of(curve, metric, *, choose=True, shots=None, theme=LIGHT):
    transitions = find_transitions(curve)
    available = range(100_000, 8_000_000, 100_000)
    choices = choose_checkpoints(transitions, available, shots) if choose else ()
    return (
        transitions,
        choices,
        selection_figure(curve, Metric.named(metric), transitions, choices, available, theme),
    )


@pytest.mark.parametrize(("curve", "metric"), [(CURVE, "accuracy"), (LOSS, "loss")])
def test_what_the_figure_shows(curve, metric):
    (transition,), (choice,), figure = figure_of(curve, metric)
    (axes,) = figure.axes
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx(
        (transition.start, transition.end)
    )
    line, ticks, _, dot = axes.lines
    assert np.array_equal(line.get_xydata(), np.stack([curve.steps, curve.values], axis=1))
    assert list(ticks.get_xdata()) == list(range(100_000, 8_000_000, 100_000))
    assert dot.get_xdata()[0] == choice.step == 6_500_000
    assert dot.get_ydata()[0] == pytest.approx(curve.values[64])
    (name,) = axes.texts
    assert name.get_text() == f"6.5M at {100 * choice.way:.0f} %"
    assert axes.get_title(loc="left").startswith(
        f"Held-out {metric} {'↑' if curve.rises else '↓'} and its phase transitions"
    )


def test_checkpoints_of_one_transition_share_a_label():
    _, choices, figure = figure_of(CURVE, "accuracy", shots=3)
    (name,) = figure.axes[0].texts
    assert name.get_text().splitlines() == [
        f"{short(choice.step)} at {100 * choice.way:.0f} %" for choice in choices
    ]
    assert list(figure.axes[0].lines[-1].get_xdata()) == [choice.step for choice in choices]


def test_names_stay_inside_the_figure():
    for curve, metric in ((CURVE, "accuracy"), (LOSS, "loss")):
        for shift in (3.5e6, 0):
            _, _, figure = figure_of(
                Curve(curve.steps, np.interp(STEPS + shift, STEPS, curve.values), curve.rises), metric
            )
            figure.draw_without_rendering()
            axes = figure.axes[0]
            for text in (axes.texts[0], axes._left_title):
                box = text.get_window_extent()
                assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
                assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_without_a_choice_only_the_curve_and_its_bands():
    _, _, figure = figure_of(CURVE, "accuracy", choose=False)
    assert len(figure.axes[0].patches) == 1
    assert not figure.axes[0].texts


def test_each_theme_as_a_png(tmp_path):
    for theme in (LIGHT, DARK):
        _, _, figure = figure_of(CURVE, "accuracy", theme=theme)
        assert to_hex(figure.axes[0].lines[0].get_color()) == theme.series1
        save_png(figure, tmp_path / "plot.png", theme)
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("steps", "text"),
    [(6_500_000, "6.5M"), (12_500, "12.5k"), (400, "400"), (0, "0"), (2e9, "2G"), (6_540_000, "6.54M")],
)
def test_steps_in_few_characters(steps, text):
    assert short(steps) == text
