"""A run is known by its settings: what was trained under another name is read."""

from dataclasses import replace

from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import SCALES
from vigreux.config.shared import BudgetConfig


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
