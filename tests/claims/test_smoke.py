"""Every claim at its smallest scale, as a user runs it."""

import json

import pytest

from tests.claims.texts import fill_cache
from vigreux.claims.catalogue import CLAIMS
from vigreux.cli.main import main
from vigreux.run.folder import RunFolder

KEYS = {
    "claim",
    "preset",
    "verdict",
    "checks",
    "numbers",
    "seeds",
    "config",
    "command",
    "seconds",
    "machine",
    "figures",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results folder after all claims."""
    root = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGREUX_CACHE", str(root / "cache"))
        fill_cache(root / "cache")
        arguments = [
            "--preset",
            "smoke",
            "--quiet",
            "--runs",
            str(root / "runs"),
            "--results",
            str(root / "results"),
        ]
        assert main(["reproduce", "all", *arguments]) == 0
        runs = sorted((root / "runs").rglob("summary.json"))
        written = {path: path.stat().st_mtime_ns for path in runs}
        assert main(["reproduce", "C2", *arguments]) == 0  # again: everything is read, nothing trained
        assert {
            path: path.stat().st_mtime_ns for path in sorted((root / "runs").rglob("summary.json"))
        } == written
    return root / "results"


@pytest.mark.parametrize("name", CLAIMS)
def test_the_result_is_whole(results, name):
    found = json.loads((results / f"{name}.smoke.json").read_text())
    assert found.keys() >= KEYS
    assert found["claim"] == name
    held = [check["holds"] for check in found["checks"]]
    assert found["verdict"] == ("holds" if all(held) else "holds in part" if any(held) else "does not hold")
    assert found["figures"]
    for figure in found["figures"]:
        assert (results / figure).read_bytes().startswith(b"\x89PNG")


def test_extraction_learns_what_one_shot_does_not_even_here(results):
    students = json.loads((results / "C7.smoke.json").read_text())["numbers"]["students"]
    final = {method: students[method]["width 100"]["accuracy"][0] for method in students}
    assert final["one-shot"] < 0.6
    assert final["extraction"] > final["one-shot"] + 0.1


def test_the_order_is_what_is_taken_away_even_here(results):
    """The ablations start from the very students of C7."""
    seventh, twelfth = (
        json.loads((results / f"{name}.smoke.json").read_text())["numbers"]["students"]
        for name in ("C7", "C12")
    )
    assert {name: twelfth[name] for name in ("one-shot", "extraction")} == {
        name: seventh[name] for name in ("one-shot", "extraction")
    }
    final = {method: own["width 100"]["accuracy"][0] for method, own in twelfth.items()}
    assert final["all at once"] < final["extraction"] - 0.1
    assert len(twelfth["all at once"]["width 100"]["explained_variance"]) == 1


def test_causal_students_learn_from_one_cache(results):
    """Written once, before the first of them."""
    (cache,) = (results.parent / "runs" / "smoke").glob("cache-*")
    students = list((results.parent / "runs" / "smoke").glob("language-causal-*-seed0-*"))
    assert len(students) == 3
    assert {RunFolder.open(student).config()["cache"]["path"] for student in students} == {str(cache)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["C99"], "claim: unknown value 'C99'"),
        (["C2", "--preset", "huge"], "--preset: unknown value 'huge'"),
        (["C2", "--sizes"], "reproduce: --sizes"),
        ([], "claim: missing"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert main(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"vigreux: {message}")
    assert error.count("\n") == 1


def test_results_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert (
        main(["reproduce", "C2", "--preset", "smoke", "--results", str(tmp_path / "file" / "results")]) == 2
    )
    assert "cannot be written" in capsys.readouterr().err
