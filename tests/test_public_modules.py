"""The modules that users import by name, beside `vigreux` itself."""

import subprocess
import sys

import vigreux.config
import vigreux.runs
from vigreux.run.folder import RunFolder


def test_run_folders_are_read_through_one_class():
    assert vigreux.runs.RunFolder is RunFolder


def test_configurations_can_be_made_from_the_public_names():
    config = vigreux.config.RunConfig(
        task=vigreux.config.TaskConfig(kind="masked-lm", data="text.txt"),
        budget=vigreux.config.BudgetConfig(steps=5),
    )
    assert (config.task.kind, config.budget.steps) == ("masked-lm", 5)


def test_they_load_nothing_heavy():
    heavy = {"torch", "transformers", "numba", "datasets", "matplotlib"}
    code = f"import sys, vigreux.config, vigreux.runs; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
