import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.fake import Fake, write_compare
from vigreux.report.plots import (
    XAxis,
    _without_overlap,
    comparison_figure,
    curves_figure,
    explained_variance_figure,
    save_comparison,
    seed_curve,
)
from vigreux.report.read import Experiment, read_experiment
from vigreux.report.style import LIGHT, to_svg
from vigreux.run.folder import RunFolder


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Experiment:
    return read_experiment(
        [write_compare(tmp_path_factory.mktemp("compare"), ("one-shot", "extraction"), seeds=2)]
    )


def texts(svg: str) -> list[str]:
    return [
        re.sub(r"<[^>]*>", "", text).strip() for text in re.findall(r"<text.*?</text>", svg, flags=re.DOTALL)
    ]


@pytest.mark.parametrize(
    ("key", "largest", "label", "last"),
    [
        ("flops", 4.2e12, "TFLOP of student and teacher", 4.2),
        ("flops", 900.0, "FLOP of student and teacher", 900),
        ("seconds", 100.0, "seconds", 100),
        ("seconds", 600.0, "minutes", 10),
        ("seconds", 36000.0, "hours", 10),
        ("global_step", 600, "step", 600),
    ],
)
def test_the_unit_keeps_numbers_short(key, largest, label, last):
    axis = XAxis.reaching(key, largest)
    assert (axis.label, axis.of({key: largest}), axis.largest) == (
        label,
        pytest.approx(last),
        pytest.approx(last),
    )


def test_seed_curve_is_the_mean_between_lowest_and_highest(compared):
    runs = compared.groups["one-shot"]
    xs, mean, low, high = seed_curve(runs, "accuracy", XAxis.reaching("global_step", 600))
    assert xs == list(range(50, 601, 50))
    first = [run.evaluations[0]["accuracy"] for run in runs]
    assert (mean[0], low[0], high[0]) == (pytest.approx(sum(first) / 2), min(first), max(first))


def test_seed_curve_takes_the_steps_that_all_seeds_have(tmp_path):
    for seed, steps in ((0, (10, 20, 30)), (1, (10, 30, 40))):
        with RunFolder.create(tmp_path / str(seed), {"seed": seed}, [], name="a") as run:
            for step in steps:
                run.log_metrics(
                    {
                        "kind": "eval",
                        "stage": "a",
                        "global_step": step,
                        "flops": 1.0,
                        "seconds": 1.0,
                        "loss": float(step + seed),
                    }
                )
    runs = read_experiment([tmp_path / "0", tmp_path / "1"]).runs
    assert seed_curve(runs, "loss", XAxis.reaching("global_step", 40)) == (
        [10, 30],
        [10.5, 30.5],
        [10, 30],
        [11, 31],
    )


def test_the_comparison_labels_its_lines_and_the_teacher(compared):
    svg = to_svg(comparison_figure(compared), "p", "d")
    assert {
        "one-shot",
        "extraction",
        "teacher",
        "Held-out accuracy ↑",
        "TFLOP of student and teacher",
    } <= set(texts(svg))


def test_the_comparison_of_runs_without_an_evaluation_is_empty(tmp_path):
    for name in "ab":
        RunFolder.create(tmp_path / name, {"seed": 0}, [], name=name).close()
    svg = to_svg(comparison_figure(read_experiment([tmp_path / "a", tmp_path / "b"])), "p", "d")
    assert not {"a", "b"} & set(texts(svg))


def test_curves_name_their_stages_where_names_fit_and_number_them_where_not(tmp_path):
    Fake("progressive").write(tmp_path / "many")
    (run,) = read_experiment([tmp_path / "many"]).runs
    found = texts(to_svg(curves_figure(run, read_experiment([tmp_path / "many"]).metric), "p", "d"))
    assert {"1", "2", "3", "4", "Training loss", "Held-out accuracy ↑"} <= set(found)
    assert "Explained variance ↑" not in found
    Fake("extraction").write(tmp_path / "hidden")
    experiment = read_experiment([tmp_path / "hidden"])
    assert "Explained variance ↑" in texts(
        to_svg(curves_figure(experiment.runs[0], experiment.metric, "flops"), "p", "d")
    )


def test_explained_variance_shows_each_hidden_stage_and_what_went_wrong(tmp_path):
    Fake(collapse=True).write(tmp_path / "a")
    figure = explained_variance_figure(read_experiment([tmp_path / "a"]))
    assert figure is not None
    svg = to_svg(figure, "p", "d")
    assert {"hidden-2-to-1", "hidden-4-to-2", "−0.12"} <= set(texts(svg))
    assert "var(--warn)" in svg
    Fake("one-shot").write(tmp_path / "b")
    assert explained_variance_figure(read_experiment([tmp_path / "b"])) is None


def test_svg_is_well_formed_follows_the_page_and_points_nowhere_else(compared):
    svg = to_svg(comparison_figure(compared), "mine", 'a "quoted" \\1 <description>')
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == 'a "quoted" \\1 <description>'
    assert set(root.attrib) == {"viewBox", "role", "aria-label"}
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert all(name.startswith("mine-") for name in ids)
    referenced = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    assert referenced
    assert referenced <= set(ids)
    assert "http" not in svg
    assert LIGHT.series1 not in svg
    assert "var(--series1)" in svg
    assert not list(root.iter("style"))


def test_png_files_for_both_schemes(compared, tmp_path):
    paths = save_comparison(compared, tmp_path)
    assert [path.name for path in paths] == ["comparison-light.png", "comparison-dark.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.05, 0.2)), min_size=1, max_size=8))
def test_labels_do_not_overlap_and_stay_where_they_can(wanted_and_heights):
    wanted, heights = zip(*sorted(wanted_and_heights))
    places = _without_overlap(wanted, heights)
    for i in range(len(places) - 1):
        assert places[i + 1] - places[i] >= (heights[i] + heights[i + 1]) / 2 - 1e-9
    if all(b - a >= (h + k) / 2 for a, b, h, k in zip(wanted, wanted[1:], heights, heights[1:])):
        assert places == pytest.approx(wanted)
