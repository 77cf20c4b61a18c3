"""A run is known by its settings: what was trained under another name is read."""

from dataclasses import replace
from pathlib import Path

from vigreux.claims.common import grammar
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import SCALES
from vigreux.config.shared import BudgetConfig
from vigreux.sweeps.folders import settings_fingerprint


def test_the_same_settings_under_another_name(tmp_path):
    said: list[str] = []
    lab = Lab(tmp_path / "runs", tmp_path / "results", say=said.append, quiet=True)
    config = replace(SCALES["smoke"].student("supervised", 20, 0, 64), budget=BudgetConfig(steps=64))
    first = lab.students({"first": config})["first"]
    assert first.status == "finished"
    assert lab.students({"second": config})["second"].path == first.path
    other = lab.students({"second": replace(config, seed=1)})["second"]
    assert other.path != first.path
    assert lab.trained == [first.path.name, other.path.name]
    assert len(said) == 2


def test_finished_runs_of_earlier_versions_are_still_known():
    """The names of their folders end with these fingerprints; a new field of a configuration must not change
    them.
    """
    lab = Path("/lab")
    teacher = SCALES["laptop"].teacher().for_teaching()
    assert settings_fingerprint(teacher, lab) == "ed4c3b99833e"
    assert settings_fingerprint(grammar.SCALES["laptop"].teacher(), lab) == "cb82069c9a64"
    student = grammar.SCALES["laptop"].student("one-shot", 1)
    assert settings_fingerprint(student, lab) == "2688cdd25329"
