"""What README and the examples show is what runs: the snippet is the example's, every configuration and
curriculum is valid.
"""

import json
import re
import runpy
from pathlib import Path

import pytest

from vigreux.cli.families import TWO_LAYER, family_of
from vigreux.cli.parsing import read_arguments
from vigreux.config.curricula import from_config
from vigreux.config.transformer import RunConfig
from vigreux.curriculum.serialize import from_yaml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_snippet_is_the_example():
    example = (ROOT / "examples" / "python_api.py").read_text()
    snippet = example.split("# [readme]\n")[1].split("# [/readme]")[0].strip()
    assert f"```python\n{snippet}\n```" in README


def test_files_that_readme_names_exist():
    for part in README.split("](")[1:]:
        target = part.split(")")[0]
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_tests_that_the_page_on_safety_names_exist():
    page = (ROOT / "docs" / "safety.md").read_text()
    folder = ""
    names = []
    for name in re.findall(r"`((?:tests/)?[\w/]*?(?:test_\w+\.py|reference/\w+\.py|report/))`", page):
        folder = name.rpartition("/")[0] if name.startswith("tests/") else folder
        names.append(ROOT / (name if name.startswith("tests/") else f"{folder}/{name}"))
    assert len(names) > 20
    assert [name for name in names if not name.exists()] == []


TABLES = [
    ("docs/parity.md", "speed"),
    ("docs/parity.md", "parity"),
    ("docs/grammars.md", "transformers"),
    ("docs/grammars.md", "sampler"),
    ("docs/extraction.md", "bert"),
    ("docs/extraction.md", "gpt2"),
    ("docs/speed.md", "distillation"),
    ("docs/speed.md", "stages"),
    ("docs/speed.md", "memory"),
    ("docs/speed.md", "profile"),
    ("docs/grammars.md", "share"),
    ("docs/language.md", "language"),
    ("docs/language.md", "masked"),
    ("docs/language.md", "causal"),
    ("docs/language.md", "shots"),
]


@pytest.mark.parametrize(("page", "table"), TABLES)
def test_tables_are_those_of_the_results(page, table):
    made = runpy.run_path(str(ROOT / "studies" / "tables.py"))[table]()
    assert made.count("\n") > 3
    assert made in (ROOT / page).read_text(), "run: python studies/tables.py"


def test_the_speeds_that_readme_quotes_are_those_of_the_results():
    rows = json.loads((ROOT / "results" / "distill.json").read_text())["rows"]
    speed = {(row["kind"], row["contender"]): row["tokens_per_cpu_second"] for row in rows}
    memory = {row["contender"]: row["megabytes"] for row in rows if row["kind"] == "causal-lm"}
    quoted = []
    for kind in ("causal-lm", "masked-lm"):
        ratios = [speed[kind, "Vigreux"] / value for key, value in speed.items() if key[0] == kind]
        quoted.append(
            f"{sorted(ratios)[1]:.1f} to {max(ratios):.1f} times as many"
        )  # the first one is Vigreux
    own = memory.pop("Vigreux")
    quoted.append(f"{own:.0f} MB instead of {min(memory.values()):.0f} to {max(memory.values()):.0f} MB")
    step = next(
        row
        for row in json.loads((ROOT / "results" / "online-sgd.json").read_text())
        if row["case"] == "width 50000" and row["threads"] == 2
    )
    torch_ratio, jax_ratio = step["torch"] / step["vigreux"], step["jax_scan"] / step["vigreux"]
    quoted += [f"{step['vigreux']:.1f} µs", f"PyTorch takes {torch_ratio:.1f} times as long"]
    quoted.append(f"JAX scan {jax_ratio:.1f} times")
    prose = " ".join(README.split())
    assert [text for text in quoted if text not in prose] == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/**/*.yaml")), ids=lambda path: path.name)
def test_example_configurations(path):
    text = path.read_text()
    if text.lstrip("# ").startswith("A curriculum") or "\n- name:" in text:
        assert from_yaml(text)
        return
    arguments = read_arguments("x", [str(path)])
    family = family_of(arguments)
    cls = family.teach_config if "\nmodel:" in text else family.run_config
    config, _ = arguments.parse(cls, "")
    assert config.output.startswith("runs/")
    assert (family is TWO_LAYER) == ("parity" in path.parent.name)
    if cls is RunConfig:
        assert from_config(config, student_layers=config.student.layers, teacher_layers=30)
