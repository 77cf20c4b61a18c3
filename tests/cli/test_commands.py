"""The commands end to end: compare in steps and in FLOPs, a taught series that then teaches, plans that hold,
reports.
"""

import json
import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests.cli.conftest import SMALL, Vigreux
from vigreux.cli.main import main
from vigreux.run.folder import RunFolder


def ok(outcome):
    assert outcome.code == 0, outcome.err
    return outcome


def test_distill_prints_scores_cost_and_what_is_next(vigreux: Vigreux, causal_config):
    out = ok(vigreux("distill", causal_config, "--quiet", "--budget.steps", "10")).out
    summary = RunFolder.open("run").summary()
    assert summary.steps == 10
    for part in ("perplexity", "agreement", str(Path("run/student")), "10 steps", "vigreux report run"):
        assert part in out
    again = vigreux("distill", causal_config, "--quiet", "--budget.steps", "10", "--resume")
    assert again.code == 0
    assert "finished" in again.err + again.out


def test_compare(vigreux: Vigreux, causal_config):
    out = ok(
        vigreux(
            "compare", causal_config, "--quiet", "--budget.steps", "10", "--seeds", "2", "--output", "grid"
        )
    ).out
    described = json.loads(Path("grid/compare.json").read_text())
    assert described["runs"] == [
        f"{name}-seed{seed}" for seed in (0, 1) for name in ("supervised", "one-shot", "extraction")
    ]
    for name in ("supervised", "one-shot", "extraction"):
        runs = [RunFolder.open(f"grid/{name}-seed{seed}").summary() for seed in (0, 1)]
        assert [run.steps for run in runs] == [10, 10]
        mean = sum(run.metrics["loss"] for run in runs) / 2
        row = next(line for line in out.splitlines() if line.strip().startswith(name))
        assert f"{mean:.3f}" in row
        assert "±" in row
    page = Path("grid/report.html").read_text()
    assert "extraction" in page
    assert list(Path("grid").glob("*.png")) + list(Path("grid").glob("*.svg"))
    # the same batches for all: the two curricula with a teacher see the same samples
    assert vigreux("compare", causal_config, "--quiet", "--budget.steps", "10", "--output", "grid").code == 2
    before = Path("grid/one-shot-seed1/summary.json").read_bytes()
    ok(
        vigreux(
            "compare",
            causal_config,
            "--quiet",
            "--budget.steps",
            "10",
            "--seeds",
            "2",
            "--output",
            "grid",
            "--resume",
        )
    )
    assert Path("grid/one-shot-seed1/summary.json").read_bytes() == before


def test_compare_at_equal_flops(vigreux: Vigreux, causal_config):
    ok(
        vigreux(
            "compare",
            causal_config,
            "--quiet",
            "--budget.steps",
            "null",
            "--budget.flops",
            "2e8",
            "--seeds",
            "1",
            "--output",
            "grid",
        )
    )
    for name in ("supervised", "one-shot", "extraction"):
        summary = RunFolder.open(f"grid/{name}-seed0").summary()
        dearest = summary.flops / summary.steps * 2  # a step of the last stage costs less than twice the mean
        assert 2e8 - dearest <= summary.flops <= 2e8


def test_a_budget_in_seconds(vigreux: Vigreux, causal_config):
    ok(
        vigreux(
            "distill",
            causal_config,
            "--quiet",
            "--curriculum",
            "one-shot",
            "--budget.steps",
            "null",
            "--budget.seconds",
            "0.5",
        )
    )
    assert 0.05 < RunFolder.open("run").summary().seconds < 10


def test_teach_from_text_then_distil_from_its_checkpoints(vigreux: Vigreux, tiny):
    task = ["--task.kind", "causal-lm", "--task.data", tiny.text, "--task.max_length", "16", *SMALL]
    model = ["--model.family", "llama", "--model.layers", "2", "--model.hidden", "16", "--model.heads", "2"]
    given = ["teach", *task, *model, "--model.vocab_size", "280", "--budget.steps", "6", "--keep_every", "2"]
    out = ok(vigreux(*given, "--output", "teacher")).out
    series = Path("teacher/stages/00-labels")
    assert sorted(path.name for path in series.glob("checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-6",
    ]
    assert str(series) in out
    assert AutoModelForCausalLM.from_pretrained(series / "checkpoint-2").config.num_hidden_layers == 2
    student = ["--teacher.model", "teacher/student", "--teacher.checkpoints", series, "--student.layers", "1"]
    ok(
        vigreux(
            "distill", *task, *student, "--curriculum", "progressive", "--budget.steps", "9", "--output", "a"
        )
    )
    stages = [(stage.name, stage.steps) for stage in RunFolder.open("a").stages()]
    assert stages == [("checkpoint-2", 3), ("checkpoint-4", 3), ("final", 3)]
    given = [*task, *student, "--curriculum", "p-shot", "--checkpoints", "[4]", "--budget.steps", "20"]
    ok(vigreux("distill", *given, "--output", "b"))
    assert [(stage.name, stage.steps) for stage in RunFolder.open("b").stages()] == [
        ("checkpoint-4", 3),
        ("final", 17),
    ]
    kept = RunFolder.open("b").summary().bytes_kept
    assert kept > RunFolder.open("b").summary().teacher_bytes


def test_teach_gives_a_headless_model_a_head(vigreux: Vigreux, tiny, masked):
    given = [
        "teach",
        "--task.kind",
        "classification",
        "--task.data",
        tiny.labelled,
        "--task.max_length",
        "32",
        *SMALL,
    ]
    given += ["--model.start", masked, "--model.freeze_blocks", "1", "--budget.steps", "2"]
    ok(vigreux(*given, "--output", "teacher"))
    config = json.loads(Path("teacher/student/config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert set(config["id2label"].values()) == {"cold", "warm"}


@pytest.mark.parametrize("curriculum", ["supervised", "one-shot", "extraction"])
def test_a_plan_is_what_a_run_then_costs(vigreux: Vigreux, causal_config, llama, curriculum):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        Path("bare").mkdir(exist_ok=True)
        (Path("bare") / name).write_bytes((llama / name).read_bytes())
    given = [causal_config, "--curriculum", curriculum, "--budget.steps", "10"]
    out = ok(vigreux("plan", *given, "--teacher.model", "bare")).out
    assert not Path("run").exists()
    planned = float(re.search(r"for ([\d.]+) MFLOP", out)[1]) * 1e6
    ok(vigreux("distill", *given, "--quiet"))
    assert RunFolder.open("run").summary().flops == pytest.approx(planned, rel=0.05)


def test_report(vigreux: Vigreux, causal_config):
    ok(vigreux("distill", causal_config, "--quiet", "--curriculum", "supervised"))
    out = ok(vigreux("report", "run")).out
    page = Path(out.strip().splitlines()[-1].removeprefix("report: "))
    assert page.read_text().lstrip().lower().startswith("<!doctype html")


@pytest.mark.parametrize("command", ["distill", "compare", "teach", "plan", "report"])
def test_help_is_for_people(command, capsys):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"vigreux {command}" in shown
    assert "Path to a configuration file" not in shown
    assert len(shown.split("\n\n")[0].splitlines()) <= 3  # the usage
