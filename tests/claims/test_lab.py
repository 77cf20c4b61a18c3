"""A run is known by its settings: what was trained under another name is read."""

from dataclasses import replace

from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import SETTINGS
from vigreux.config.shared import BudgetConfig


def test_the_same_settings_under_another_name(tmp_path):
    said: list[str] = []
    lab = Lab(tmp_path / "runs", tmp_path / "results", say=said.append, quiet=True)
    config = replace(SETTINGS["smoke"].student("supervised", 20, 0, 64), budget=BudgetConfig(steps=64))
    first = lab.student(config, None, "first")
    assert first.status == "finished"
    assert lab.student(config, None, "second").path == first.path
    other = lab.student(replace(config, seed=1), None, "second")
    assert other.path != first.path
    assert lab.trained == [first.path.name, other.path.name]
    assert len(said) == 2
