import re

import pytest

from vigreux.errors import DataError
from vigreux.report.plot_correlations import correlations_figure, save_correlations
from vigreux.report.style import DARK, LIGHT, to_svg


def correlation(subset, value, where="in", feature=0, class_id=1):
    return {
        "subset": subset,
        "where": where,
        "degree": len(subset),
        "feature": feature,
        "class_id": class_id,
        "value": value,
    }


def outside(subset, value):
    return correlation(subset, value, where="out", feature=None)


def parity_records(support=2, scale=1):
    """Three checkpoints, with a spike at the second; the support's variables come with both signs."""
    return [
        {
            "step": step * scale,
            "accuracy": accuracy,
            "correlations": [correlation([i], (-1) ** i * height * (i + 1)) for i in range(support)]
            + [outside([30], -0.01), outside([31], 0.03), correlation([0, 1], 0.5)],
        }
        for step, accuracy, height in ((0, 0.5, 0.02), (100, 0.75, 0.4), (200, 1.0, 0.1))
    ]


def curves(axes):
    """Label → y values; unlabelled lines by their number."""
    lines = [(line.get_label(), line) for line in axes.get_lines()]
    return {
        label if not label.startswith("_") else i: list(line.get_ydata())
        for i, (label, line) in enumerate(lines)
    }


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_a_line_a_variable_their_mean_and_what_lies_outside():
    figure = correlations_figure(parity_records())
    above, below = figure.axes
    assert titles(figure) == ["Held-out accuracy ↑", "|Correlations| with single variables"]
    assert list(above.get_lines()[0].get_xdata()) == [0, 100, 200]
    assert curves(above) == {0: [0.5, 0.75, 1.0]}
    assert curves(below) == {
        0: [0.02, 0.4, 0.1],
        1: [0.04, 0.8, 0.2],
        "in the support": pytest.approx([0.03, 0.6, 0.15]),
        "outside (band: largest)": pytest.approx([0.02] * 3),
    }
    (band,) = below.collections
    assert band.get_datalim(below.transData).extents.tolist() == [0, 0, 200, 0.03]
    assert (below.get_xlabel(), below.get_ylim()[0]) == ("steps of the teacher", 0)


def test_records_in_any_order():
    assert curves(correlations_figure(parity_records()[::-1]).axes[1]) == curves(
        correlations_figure(parity_records()).axes[1]
    )


@pytest.mark.parametrize(("subsets", "lines"), [(1, 2), (10, 12), (11, 2)])
def test_many_variables_become_a_band(subsets, lines):
    below = correlations_figure(parity_records(support=subsets)).axes[1]
    assert len(below.get_lines()) == lines
    bands = [band.get_datalim(below.transData).extents.tolist() for band in below.collections]
    assert len(bands) == (2 if subsets == 11 else 1)
    if subsets == 11:
        assert bands[0] == pytest.approx([0, 0.02, 200, 0.4 * 11])  # smallest to largest


def tree_records():
    return [
        {
            "step": step,
            "accuracy": None if step == 0 else 0.6,
            "correlations": [
                correlation([0], 0.1, feature=0, class_id=0),
                correlation([0], -0.3, feature=0, class_id=1),
                correlation([1], 0.5, feature=0, class_id=0),
                correlation([2], 0.2, feature=1, class_id=0),
                correlation([0, 1], 0.7, feature=0),
                correlation([0, 2], 0.9, feature=None),
            ],
        }
        for step in (0, 10)
    ]


def test_several_features_have_a_line_each_of_the_largest_over_classes():
    figure = correlations_figure(tree_records())
    assert curves(figure.axes[1]) == {"feature 1": pytest.approx([0.4, 0.4]), "feature 2": [0.2, 0.2]}
    assert list(figure.axes[0].get_lines()[0].get_xdata()) == [10]  # the other checkpoint was not scored
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["feature 1", "feature 2"]


def test_higher_degrees():
    figure = correlations_figure(parity_records(), degree=2)
    assert curves(figure.axes[1]) == {"in the support": [0.5] * 3}
    assert titles(figure)[1] == "|Correlations| with products of 2 variables"


def test_long_runs_count_in_millions_and_the_transition_is_shaded():
    figure = correlations_figure(parity_records(scale=40_000), transition=(3_000_000, 5_000_000))
    for axes in figure.axes:
        (shade,) = axes.patches
        assert (shade.get_x(), shade.get_width()) == (3, 2)
    assert figure.axes[1].get_xlabel() == "million steps of the teacher"
    assert list(figure.axes[0].get_lines()[0].get_xdata()) == [0, 4, 8]
    assert not correlations_figure(parity_records()).axes[0].patches


def test_it_becomes_svg_and_png_of_both_schemes(tmp_path):
    svg = to_svg(correlations_figure(parity_records()), "p", "d")
    found = {
        re.sub(r"<[^>]*>", "", text).strip() for text in re.findall(r"<text.*?</text>", svg, flags=re.DOTALL)
    }
    assert {"in the support", "outside (band: largest)", "steps of the teacher", "100 %"} <= found
    paths = save_correlations(parity_records(), tmp_path, "C5", transition=(50, 150))
    assert [path.name for path in paths] == ["C5-light.png", "C5-dark.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    colors = {
        theme: correlations_figure(parity_records(), theme=theme).axes[1].get_lines()[0].get_color()
        for theme in (LIGHT, DARK)
    }
    assert colors == {LIGHT: LIGHT.series1, DARK: DARK.series1}


@pytest.mark.parametrize(
    ("records", "degree"),
    [([], 1), (parity_records(), 3), ([{"step": 0, "correlations": [outside([3], 0.1)]}], 1)],
)
def test_nothing_to_draw(records, degree):
    with pytest.raises(DataError) as error:
        correlations_figure(records, degree=degree)
    assert str(error.value) == (
        f"correlations: none of degree {degree} inside the support; accepted: records of a probe with that"
        " degree"
    )


def test_checkpoints_probed_differently():
    records = parity_records()
    records[2]["correlations"].pop(0)
    with pytest.raises(DataError) as error:
        correlations_figure(records)
    assert (
        str(error.value)
        == "correlations: step 200 has other subsets than the first; accepted: the same at every step"
    )
