"""No command writes or prints an access token or password, wherever it was given."""

import sys
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Vigreux
from vigreux import secrets
from vigreux.run.folder import RunFolder

SECRET = "Zq7markedSecret0123456789"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(secrets, "_remembered", set())


def command_line(monkeypatch, *argv):
    """What the run folder keeps as the command comes from `sys.argv`."""
    monkeypatch.setattr(sys, "argv", ["vigreux", *map(str, argv)])
    return argv


def holds_no_secret(*outcomes):
    for outcome in outcomes:
        assert SECRET not in outcome.out + outcome.err
    for path in Path().rglob("*"):
        if path.is_file() and path.name != "given.yaml":
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_teachers_token(vigreux: Vigreux, causal_config, monkeypatch):
    """From the command line, through a run, its resume (with a renewed token) and its report."""
    given = command_line(
        monkeypatch, "distill", causal_config, "--quiet", "--teacher.options", f"{{token: {SECRET}}}"
    )
    first = vigreux(*given)
    assert first.code == 0, first.err
    assert RunFolder.open("run").config()["teacher"]["options"] == {"token": "***"}
    renewed = vigreux("distill", causal_config, "--resume", "--teacher.options", f"{{token: new{SECRET}}}")
    assert (renewed.code, "nothing to do" in renewed.err) == (0, True), renewed.err
    report = vigreux("report", "run")
    assert report.code == 0, report.err
    holds_no_secret(first, renewed, report)


def test_what_a_cache_a_comparison_and_a_plan_write(vigreux: Vigreux, causal_config, monkeypatch):
    config = yaml.safe_load(causal_config.read_text())
    config["teacher"]["options"] = {"token": SECRET}
    config["cache"] = {"path": "cache"}
    Path("given.yaml").write_text(yaml.safe_dump(config))
    outcomes = [
        vigreux(*command_line(monkeypatch, *command))
        for command in (
            ["plan", "given.yaml"],
            ["cache", "given.yaml", "--quiet"],
            [
                "compare",
                "given.yaml",
                "--quiet",
                "--curricula",
                "one-shot",
                "--seeds",
                "1",
                "--output",
                "all",
            ],
        )
    ]
    assert [outcome.code for outcome in outcomes] == [0] * 3, [outcome.err for outcome in outcomes]
    holds_no_secret(*outcomes)


@pytest.mark.parametrize("command", ["distill", "compare", "cache", "teach", "plan"])
def test_secrets_in_a_file_and_in_the_environment(vigreux: Vigreux, causal_config, command, monkeypatch):
    """`hub_token` has no effect and is refused; the message does not show it."""
    monkeypatch.setenv("HF_TOKEN", f"environment{SECRET}")
    config = yaml.safe_load(causal_config.read_text())
    config["training"]["hub_token"] = SECRET
    if command == "teach":
        config = {name: config[name] for name in ("task", "budget", "training", "output")}
    Path("given.yaml").write_text(yaml.safe_dump(config))
    outcome = vigreux(*command_line(monkeypatch, command, "given.yaml"))
    other = vigreux(*command_line(monkeypatch, command, causal_config, f"--training.hub_token={SECRET}"))
    holds_no_secret(outcome, other)


def test_a_password_in_an_address(vigreux: Vigreux, causal_config, monkeypatch):
    address = f"https://me:{SECRET}@host.invalid/model"
    for option in ("--teacher.model", "--student.model", "--task.data", "--teacher.checkpoints"):
        outcome = vigreux(*command_line(monkeypatch, "distill", causal_config, option, address))
        assert outcome.code == 2, outcome.err
        holds_no_secret(outcome)
