"""What a comparison asks for, and the table that fits the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor
from rich.console import Console

from tests.cli.conftest import Vigreux
from vigreux.cli.compare import parse_curricula, parse_seeds, widest_table
from vigreux.errors import ConfigError
from vigreux.report.metrics import Metric
from vigreux.report.tables import ComparisonTable, Row
from vigreux.run.folder import RunFolder


def test_seeds() -> None:
    assert parse_seeds("3") == 3
    assert parse_seeds("7,0") == [7, 0]
    assert parse_seeds("5,") == [5]
    for wrong in ("x", ",", "1.5"):
        with pytest.raises(ConfigError, match=f"seeds: '{wrong}'; accepted: how many"):
            parse_seeds(wrong)


def test_curricula() -> None:
    assert parse_curricula("one-shot, mine/stages.yaml") == ["one-shot", "mine/stages.yaml"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seeds", "0", "seeds: 0; accepted: how many (from 1 to 1,000)"),
        ("--seeds", "1001", "seeds: 1001; accepted: how many (from 1 to 1,000)"),
        ("--seeds", "1,1", "seeds: [1, 1]; accepted: how many"),
        ("--seeds", "-1,", "seeds: -1; accepted: a whole number from 0"),
        ("--curricula", "", "curricula: ''; accepted: one or more different names"),
        (
            "--curricula",
            "one-shot,one-shot",
            "curricula: 'one-shot, one-shot'; accepted: one or more different",
        ),
        (
            "--curricula",
            "a/x.yaml,b/x.yaml",
            "curricula: 'a/x.yaml, b/x.yaml'; accepted: one or more different",
        ),
    ],
)
def test_seeds_and_curricula_that_are_refused(
    vigreux: Vigreux, causal_config: Path, option: str, value: str, message: str
) -> None:
    refused = vigreux("compare", causal_config, f"{option}={value}")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert message in refused.err
    assert list(Path.cwd().iterdir()) == []


def test_processes_of_their_own_and_a_curriculum_from_a_file(vigreux: Vigreux, causal_config: Path) -> None:
    get_reusable_executor().shutdown(
        wait=True
    )  # processes that another test left behind are in that test's folder
    Path("mine.yaml").write_text(
        "- {target: {hidden: {layer: 1}}, depth: 1, duration: {share: 0.5}}\n- {target: labels, duration:"
        " {share: 0.5}}"
    )
    given = [
        "compare",
        causal_config,
        "--curricula",
        "supervised,mine.yaml",
        "--seeds",
        "4,",
        "--output",
        "grid",
        "--quiet",
    ]
    done = vigreux(*given, "--jobs", "2")
    assert done.code == 0, done.err
    assert [stage.steps for stage in RunFolder.open("grid/mine-seed4").stages()] == [2, 2]
    for printed in ("plot: grid/plot.png", "report: grid/report.html"):
        assert printed in done.out
        assert Path(printed.split()[1]).exists()
    # the same comparison may grow, another may not take its place
    assert json.loads(Path("grid/compare.json").read_text())["baseline"] == "supervised"
    before = Path("grid/compare.json").read_bytes()
    other = vigreux(*given, "--resume", "--budget.steps", "6")
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert 'another comparison: budget: "4 steps each" in the folder, "6 steps each" now' in other.err
    assert Path("grid/compare.json").read_bytes() == before


def test_a_comparison_that_could_not_start_can_be_started_again(
    vigreux: Vigreux, causal_config: Path
) -> None:
    given = [
        "compare",
        causal_config,
        "--quiet",
        "--curricula",
        "supervised",
        "--seeds",
        "1",
        "--output",
        "grid",
    ]
    assert vigreux(*given, "--teacher.model", "./nowhere").code == 2
    assert vigreux(*given).code == 0
    taken = vigreux(*given)
    assert taken.code == 2
    assert taken.err == "vigreux: output: 'grid' is not empty; accepted: a new folder, or --resume to go on\n"


@pytest.mark.parametrize(
    ("option", "instead"), [("--curriculum=one-shot", "--curricula"), ("--seed=1", "--seeds")]
)
def test_what_a_comparison_sets_itself(
    vigreux: Vigreux, causal_config: Path, option: str, instead: str
) -> None:
    refused = vigreux("compare", causal_config, option)
    assert refused.code == 2
    assert (
        refused.err
        == f"vigreux: {option.split('=')[0]}: a comparison sets it for each run; accepted: {instead}\n"
    )


@pytest.mark.parametrize(("width", "shown"), [(200, 3), (105, 1), (60, 0)])
def test_a_narrow_terminal_has_fewer_metrics(width: int, shown: int) -> None:
    names = ["loss", "accuracy", "agreement", "perplexity"]
    row = Row("extraction", 1, 1, dict.fromkeys(names, (0.5, None)), None, 1e9, 1.0, 10, 100)
    table = widest_table(ComparisonTable((row,), Metric.named("loss"), "supervised"), Console(width=width))
    headers = [str(column.header) for column in table.columns]
    assert [name for name in names[1:] if f"{name} " in " ".join(headers)] == names[1 : 1 + shown]
