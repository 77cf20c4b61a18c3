import json
from pathlib import Path

import pytest

from vigreux.report.read import read_experiment
from vigreux.report.tables import ComparisonTable, cells, comparison_table, to_html, to_markdown, to_text
from vigreux.run.folder import RunFolder, Summary


def write(folder: Path, name: str, seed: int, accuracy: float, **more: float) -> str:
    run = RunFolder.create(folder / f"{name}-{seed}", {"seed": seed, "name": name}, [], name=name)
    cost = {"steps": 1200, "flops": 1.5e12, "seconds": 80.0, "bytes_kept": 91_000_000} | more
    run.finish(Summary({"accuracy": accuracy, "loss": 1 - accuracy}, teacher_bytes=91_000_000, **cost))
    return f"{name}-{seed}"


@pytest.fixture
def table(tmp_path: Path) -> ComparisonTable:
    runs = [write(tmp_path, "one-shot", 0, 0.90), write(tmp_path, "one-shot", 1, 0.92)]
    runs += [
        write(tmp_path, "extr|action", 0, 0.91, flops=1.2e12),
        write(tmp_path, "extr|action", 1, 0.932, flops=1.4e12),
    ]
    runs += [write(tmp_path, "<b>", 0, 0.5, bytes_kept=0)]
    broken = RunFolder.create(tmp_path / "broken", {"seed": 1, "name": "<b>"}, [], name="<b>")
    place = {"kind": "eval", "stage": "a", "global_step": 1, "flops": 1.0, "seconds": 1.0}
    broken.log_metrics({**place, "accuracy": 0.99})
    broken.fail("no")
    compare = {
        "metric": "accuracy",
        "higher_is_better": True,
        "budget": "",
        "runs": [*runs, "broken"],
        "baseline": "one-shot",
    }
    (tmp_path / "compare.json").write_text(json.dumps(compare))
    return comparison_table(read_experiment([tmp_path]))


def test_rows(table):
    one_shot, extraction, broken = table.rows
    # Student's t with one degree of freedom: 12.706 · s / sqrt(2), s = 0.02 / sqrt(2)
    assert one_shot.metrics["accuracy"] == pytest.approx((0.91, 0.12706), rel=1e-4)
    assert one_shot.difference is None
    # differences 0.010 and 0.012 in pairs: far narrower than the two intervals apart
    assert extraction.difference == pytest.approx((0.011, 0.012706), rel=1e-4)
    assert (extraction.flops, extraction.best, one_shot.best) == (1.3e12, True, False)
    assert (broken.finished, broken.total, broken.metrics["accuracy"]) == (1, 2, (0.5, None))
    assert broken.difference == pytest.approx((-0.4, None))


def test_markdown(table):
    assert to_markdown(table) == (
        "| curriculum | seeds | accuracy ↑ | against one-shot | loss ↓ | FLOPs | time | steps | teacher kept"
        " |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        "| one-shot | 2 | 91.0 % ± 12.7 | baseline | 0.090 ± 0.127 | 1.5 TFLOP | 1 min 20 s | 1,200 | 91 MB"
        " |\n"
        "| **extr\\|action** | 2 | **92.1 % ± 14.0** | +1.1 ± 1.3 | 0.079 ± 0.140 | 1.3 TFLOP | 1 min 20 s |"
        " 1,200 | 91 MB |\n"
        "| <b> | 1 of 2 finished | 50.0 % | −40.0 | 0.500 | 1.5 TFLOP | 1 min 20 s | 1,200 | 0 B |\n"
    )


def test_text(table):
    lines = [" ".join(line.split()) for line in to_text(table).splitlines()]
    assert lines[0] == "curriculum seeds accuracy ↑ against one-shot loss ↓ FLOPs time steps teacher kept"
    assert lines[3] == "extr|action 2 92.1 % ± 14.0 +1.1 ± 1.3 0.079 ± 0.140 1.3 TFLOP 1 min 20 s 1,200 91 MB"
    assert lines[4] == "<b> 1 of 2 finished 50.0 % −40.0 0.500 1.5 TFLOP 1 min 20 s 1,200 0 B"


def test_html(table):
    html = to_html(table)
    assert '<tr class=best><th scope="row">extr|action</th><td>2</td><td>92.1 % ± 14.0</td>' in html
    assert '<th scope="row">&lt;b&gt;</th>' in html
    assert "<b>" not in html


def test_without_finished_runs_there_are_no_numbers(tmp_path):
    RunFolder.create(tmp_path / "a", {"seed": 0}, [], name="a").close()
    (row,) = comparison_table(read_experiment([tmp_path / "a"])).rows
    assert (row.finished, row.metrics, row.flops, row.best) == (0, {}, None, False)
    assert "| a | 0 of 1 finished | – | – | – | – | – |" in to_markdown(
        comparison_table(read_experiment([tmp_path / "a"]))
    )


def test_the_table_shows_three_metrics_beside_the_main_one(tmp_path):
    with RunFolder.create(tmp_path / "a", {"seed": 0}, [], name="a") as run:
        run.finish(
            Summary(
                dict.fromkeys(("accuracy", "loss", "perplexity", "agreement", "kl"), 0.5), 1, 1.0, 1.0, 0, 0
            )
        )
    header, _ = cells(comparison_table(read_experiment([tmp_path / "a"])))
    assert header[2:6] == ["loss ↓", "accuracy ↑", "perplexity ↓", "agreement ↑"]
    assert header[6] == "FLOPs"


def test_a_lower_loss_is_the_best(tmp_path):
    paths = [tmp_path / write(tmp_path, name, 0, accuracy) for name, accuracy in (("a", 0.8), ("b", 0.9))]
    table = comparison_table(read_experiment(paths))
    assert table.metric.name == "loss"
    assert [row.best for row in table.rows] == [False, True]
