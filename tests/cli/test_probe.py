"""`vigreux probe` on a run that it trains first: its numbers are those of the functions, its
errors one line.
"""

import json
from pathlib import Path

import pytest

from vigreux.cli.main import main

TEACH = [
    "teach", "--task.kind", "masked-lm", "--task.data", "grammar:cfg3b:k", "--task.max_length", "32", "--task.max_eval", "12",  # noqa: E501
    "--model.family", "bert", "--model.layers", "2", "--model.hidden", "16", "--model.heads", "2", "--budget.steps", "4",  # noqa: E501
    "--task.attend_masked", "false", "--keep_every", "2", "--training.per_device_train_batch_size", "4", "--quiet",  # noqa: E501
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("probed") / "run"
    assert main([*TEACH, "--output", str(folder)]) == 0
    return folder


def records(capsys, *arguments: str) -> list[dict]:
    capsys.readouterr()
    assert main(["probe", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_ngrams_of_a_series_and_of_the_finished_model(run, capsys, tmp_path):
    options = ("--positions", "8,12", "--n", "2,3", "--sentences", "6")
    series = records(capsys, "ngrams", str(run), "--series", *options, "--save", str(tmp_path / "saved.json"))
    (finished,) = records(capsys, "ngrams", str(run), *options)
    assert [record["step"] for record in series] == [2, 4]
    assert json.loads((tmp_path / "saved.json").read_text()) == series
    assert series[-1]["ngrams"] == finished["ngrams"]
    assert [score["n"] for score in finished["ngrams"]] == [2, 3]
    assert all(score["sentences"] == 6 and 0 < score["robust"] < 1 for score in finished["ngrams"])
    (doubled,) = records(capsys, "ngrams", str(run), *options, "--convention", "l1")
    assert doubled["ngrams"][0]["robust"] == pytest.approx(2 * finished["ngrams"][0]["robust"])
    (attending,) = records(capsys, "ngrams", str(run), *options, "--attend-masked")
    assert attending["ngrams"][0]["robust"] != pytest.approx(finished["ngrams"][0]["robust"], abs=1e-12)


def test_models_side_by_side_give_the_same(run, capsys):
    options = ("ngrams", str(run), str(run), "--positions", "8", "--sentences", "4")
    assert records(capsys, *options, "--jobs", "2") == records(capsys, *options)


def test_nonterminals_by_level(run, capsys):
    (record,) = records(capsys, "nonterminals", str(run), "--training", "64", "--held-out", "32")
    assert len(record["accuracy"]) == len(record["majority"]) == 3
    assert record["accuracy"][2] == 1  # the root is always the same symbol
    assert all(0 < value <= 1 for value in record["accuracy"])


def test_boundaries_count_every_prediction_once(run, capsys):
    (record,) = records(capsys, "boundaries", str(run))
    evaluated = json.loads((run / "summary.json").read_text())["metrics"]["accuracy"]
    right, count = (sum(level[name] for level in record["levels"]) for name in ("right", "count"))
    assert right / count == pytest.approx(evaluated)
    assert len(record["levels"]) == 4


def test_similarity_of_a_model_with_itself(run, capsys):
    (record,) = records(capsys, "similarity", str(run), str(run))
    assert [row[i] for i, row in enumerate(record["cka"])] == pytest.approx([1, 1, 1])
    assert record["pairs"] == {"1": 1}


@pytest.mark.parametrize("probe", ["ngrams", "nonterminals", "boundaries", "similarity"])
def test_tables_and_help(probe, run, capsys):
    small = {
        "ngrams": ["--positions", "8"],
        "nonterminals": ["--training", "16", "--held-out", "8"],
        "similarity": [str(run)],
    }
    assert main(["probe", probe, str(run), *small.get(probe, [])]) == 0
    assert "run" in capsys.readouterr().out
    assert main(["probe", probe, "--help"]) == 0
    assert f"vigreux probe {probe}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grams", "x"], "unknown value 'grams'; did you mean 'ngrams'?"),
        (["ngrams", "nowhere"], "nowhere: not a run folder"),
        (["ngrams", "RUN", "--positions", "300"], "no sentence has room for a 2-gram"),
        (["ngrams", "RUN", "--n", "two"], "--n: 'two'; accepted: whole numbers with commas"),
        (["ngrams", "RUN", "--n", "1"], "n: (1,); accepted: lengths of n-grams from 2"),
        (["nonterminals", "RUN", "--training", "0"], "--training: 0; accepted: a whole number from 1"),
        (["similarity", "RUN"], "similarity of one model"),
        (["ngrams", "RUN", "--wrong"], "--wrong"),
    ],
)
def test_bad_input_gets_one_line(arguments, message, run, capsys):
    capsys.readouterr()
    assert main(["probe", *(str(run) if argument == "RUN" else argument for argument in arguments)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
