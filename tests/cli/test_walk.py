"""A walk over every leaf of the configurations and of a stage, with values of the wrong kind.

Each value is used (exit 0, and the run's config.yaml holds it) or refused (exit 2, one line, and no file is
left behind). The leaves come from the type hints, so a new field is walked over by itself.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tests.cli.conftest import Vigreux
from vigreux.backends.transformer.training import argument_fields, check_training, stage_arguments
from vigreux.backends.transformer.training_tables import SEVERAL_PROCESSES
from vigreux.checks import check_value, field_types
from vigreux.config.transformer import RunConfig, TeachConfig
from vigreux.config.tree import leaf_types
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.curriculum import DurationUnit, Embedding, Hidden, Joint, Labels, Logits, Projection
from vigreux.curriculum.serialize import from_plain, to_plain
from vigreux.errors import ConfigError
from vigreux.run.folder import RunFolder

# written in C where PyYAML has them
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# what is tried on every leaf, whatever it should be
VALUES: dict[str, Any] = {
    "text": "x",
    "negative": -1,
    "zero": 0,
    "fraction": 1.5,
    "nan": math.nan,
    "infinite": math.inf,
    "huge": 10**30,
    "empty": "",
    "null": None,
    "list": [],
    "nested": [[1]],
    "mapping": {"a": 1},
    "nul": "a\0b",
    "long": "x" * 300,
    "true": True,
    "digits": "1",
}
ROOTS: dict[str, type] = {"distill": RunConfig, "teach": TeachConfig, "two-layer": TwoLayerConfig}


def leaves(command: str) -> list[str]:
    """Dotted names of all fields that hold a value, not a section."""
    return list(leaf_types(ROOTS[command]))


# accepted by their types, and good for something only where a file, a model or a device has that name: tried
# alone
NAMES = {
    "task.data", "task.eval_data", "task.text_field", "task.label_field", "task.support", "task.features",
    "teacher.model", "teacher.revision", "teacher.checkpoints", "teacher.device", "teacher.blocks",
    "teacher.after_blocks", "teacher.options", "student.model", "student.from_layers", "model.start",
    "model.family", "model.tokenizer", "curriculum", "cache.path", "training", "budget.steps",
}  # fmt: skip
# budgets that are counted otherwise: their runs would be long
LEFT_OUT = {"budget.flops", "budget.seconds"}


@pytest.fixture(scope="session")
def bases(llama: Path, tiny: Any) -> dict[str, dict[str, Any]]:
    """A configuration of each command that runs in well under a second."""
    small = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 8}
    task = {"data": tiny.text, "max_length": 8, "max_eval": 1, "max_train": 2}
    return {
        "distill": {
            "task": task,
            "teacher": {"model": str(llama)},
            "student": {"layers": 1, "hidden": 8, "heads": 2},
            "curriculum": "one-shot",
            "budget": {"steps": 1},
            "training": small,
            "output": "run",
        },
        "teach": {
            "task": task,
            "model": {"family": "llama", "layers": 1, "hidden": 8, "heads": 2, "vocab_size": 300},
            "budget": {"steps": 1},
            "training": small,
            "output": "run",
        },
        "two-layer": {
            "task": {"kind": "parity", "n": 4, "k": 2, "eval_samples": 8},
            "student": {"width": 4},
            "curriculum": "supervised",
            "budget": {"steps": 2},
            "output": "run",
        },
    }


def with_leaf(plain: dict[str, Any], leaf: str, value: Any) -> dict[str, Any]:
    """A copy of `plain` in which `leaf` is `value`."""
    copy: dict[str, Any] = json.loads(json.dumps(plain))
    *sections, last = leaf.split(".")
    inner = copy
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    return copy


def held(plain: dict[str, Any], leaf: str) -> Any:
    for key in leaf.split("."):
        plain = plain[key]
    return plain


def listed() -> set[Path]:
    return set(Path().rglob("*"))


def used_or_refused(
    vigreux: Vigreux, command: str, values: dict[str, Any], base: dict[str, Any]
) -> str | None:
    """Runs a command whose file has these values, and holds it to the promise above.

    The line that refuses them.
    """
    plain = base
    for leaf, value in values.items():
        plain = with_leaf(plain, leaf, value)
    Path("config.yaml").write_text(yaml.dump(plain, Dumper=Dumper))
    before = listed()
    outcome = vigreux("distill" if command == "two-layer" else command, "config.yaml", "--quiet")
    if outcome.code == 0:
        (folder,) = {path.parent for path in listed() - before if path.name == "run.json"}
        kept = RunFolder.open(folder).config()
        for leaf, value in values.items():
            assert held(kept, leaf) == value, (leaf, value)
        shutil.rmtree(folder)
    else:
        assert outcome.code == 2, (values, outcome)
        one_line(outcome.err)
    assert listed() == before, values
    return None if outcome.code == 0 else outcome.err


def refused_leaf(vigreux: Vigreux, command: str, values: dict[str, Any], base: dict[str, Any]) -> str | None:
    """The one of these values that is refused."""
    message = used_or_refused(vigreux, command, values, base)
    if message is None:
        return None
    named = [leaf for leaf in values if f" {leaf}:" in message]
    assert len(named) == 1, (values, message)
    return named[0]


def one_line(err: str) -> None:
    told = [line for line in err.splitlines() if not line.startswith("vigreux: warning")]
    assert len(told) == 1, err
    assert told[0].startswith("vigreux: "), err
    assert len(told[0]) < 900, err


def accepted_by_type(command: str, leaf: str, value: Any) -> bool:
    try:
        check_value(leaf, value, leaf_types(ROOTS[command])[leaf])
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("command", ROOTS)
def test_values_that_no_type_accepts(
    vigreux: Vigreux, bases: dict[str, dict[str, Any]], command: str
) -> None:
    for leaf, value in itertools.product(leaves(command), VALUES.values()):
        if not accepted_by_type(command, leaf, value):
            assert used_or_refused(vigreux, command, {leaf: value}, bases[command]), (leaf, value)


@pytest.mark.parametrize("command", ROOTS)
def test_names_of_what_may_not_be_there(
    vigreux: Vigreux, bases: dict[str, dict[str, Any]], command: str
) -> None:
    """One value each: a word, which names nothing."""
    for leaf in NAMES & set(leaves(command)):
        for value in ("x", {"a": 1}, [[1]]):
            if accepted_by_type(command, leaf, value):
                used_or_refused(vigreux, command, {leaf: value}, bases[command])


@pytest.mark.parametrize("command", ROOTS)
def test_values_that_are_used(vigreux: Vigreux, bases: dict[str, dict[str, Any]], command: str) -> None:
    """All leaves at once, each with its first accepted value of the walk, then with its second and so on."""
    columns: list[dict[str, Any]] = []
    for leaf in leaves(command):
        values = [value for value in VALUES.values() if accepted_by_type(command, leaf, value)]
        if leaf in NAMES or leaf in LEFT_OUT:
            continue
        for number, value in enumerate(values):
            columns += [{}] if number == len(columns) else []
            columns[number][leaf] = value
    used: set[str] = set()
    for values in columns:
        while values and (refused := refused_leaf(vigreux, command, values, bases[command])) is not None:
            del values[refused]  # one of them does not go with the task; the others are used
        used |= values.keys()
    assert len(used) > 10


@pytest.mark.parametrize("command", ROOTS)
def test_options_of_the_command_line(
    vigreux: Vigreux, bases: dict[str, dict[str, Any]], command: str
) -> None:
    """The same through the other door, one value a leaf: kinds take turns."""
    Path("config.yaml").write_text(yaml.safe_dump(bases[command]))
    before = listed()
    texts = itertools.cycle(
        ["-1", "1.5", ".nan", "1" + "0" * 30, "", "null", "[]", "{a: 1}", "x" * 300, "true"]
    )
    for leaf, text in zip(leaves(command), texts):
        if accepted_by_type(command, leaf, yaml.safe_load(text)) or accepted_by_type(command, leaf, text):
            continue
        outcome = vigreux("distill" if command == "two-layer" else command, "config.yaml", f"--{leaf}", text)
        assert outcome.code == 2, (leaf, text, outcome)
        one_line(outcome.err)
        assert listed() == before


def test_settings_of_the_trainer() -> None:
    """Every field of the installed `TrainingArguments`: refused in one line, or what a stage trains with."""
    told: list[tuple[str, str]] = []
    changed = set()
    for name, value in itertools.product(argument_fields(), VALUES.values()):
        try:
            check_training({name: value})
            arguments = stage_arguments({name: value}, "run", 1, 0)
        except ConfigError as error:
            told.append((name, str(error)))
            continue
        given = getattr(arguments, name)
        if value is not None and getattr(given, "value", given) not in (value, [value]):
            changed.add(name)
    # of one process without a GPU; of `debug` the text "" is the empty list
    assert changed <= {"dataloader_pin_memory", "debug", *SEVERAL_PROCESSES}
    assert len(told) > 500
    for name, message in told:
        one_line(f"vigreux: {message}")
        assert name in message


def test_the_walk_is_long_enough() -> None:
    """At least the 600 cases that were promised; the number is printed."""
    leaf_count = sum(len(leaves(command)) for command in ROOTS) + len(argument_fields())
    count = leaf_count * len(VALUES) + len(list(stage_cases()))
    print(f"{count} cases on {leaf_count} leaves")
    assert count >= 600


# --- stages -------------------------------------------------------------------------------------------------

TARGETS: dict[str, type] = {"labels": Labels, "logits": Logits, "hidden": Hidden, "embedding": Embedding}
STAGE = {"name": "a", "duration": {"steps": 5}}
STAGES: dict[str, dict[str, Any]] = {
    "labels": STAGE | {"target": {"labels": {}}},
    "logits": STAGE | {"target": {"logits": {}}},
    "hidden": STAGE | {"target": {"hidden": {"layer": 1, "projection": {}}}, "depth": 1},
    "embedding": STAGE | {"target": {"embedding": {"projection": {}}}},
    "joint": STAGE | {"target": {"joint": {"hidden": {"layer": 1}, "logits": {}}}, "depth": 1},
}


def stage_leaves() -> Iterator[tuple[str, str]]:
    """Kind of target, dotted path of a value in its stage."""
    for kind, cls in [*TARGETS.items(), ("joint", Joint)]:
        yield from ((kind, f"target.{kind}.{field}") for field in field_types(cls))
    yield from (("hidden", f"target.hidden.projection.{field}") for field in field_types(Projection))
    yield from (("joint", f"target.joint.hidden.{field}") for field in field_types(Hidden))
    yield from (("joint", f"target.joint.logits.{field}") for field in field_types(Logits))
    yield from (("hidden", key) for key in ("name", "teacher", "target", "depth", "frozen", "duration"))
    yield from (("logits", key) for key in ("teacher", "teacher.checkpoint", "teacher.model", "depth"))
    yield from (("logits", f"duration.{unit}") for unit in get_args(DurationUnit))
    yield from (("logits", f"duration.{key}") for key in ("limit", "min_delta"))


def stage_cases() -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Stage, dotted path, value: each path with every value of the walk."""
    for (kind, path), value in itertools.product(stage_leaves(), VALUES.values()):
        stage = json.loads(json.dumps(STAGES[kind]))
        if path.startswith("duration."):
            stage["duration"] = {"limit": 9, "min_delta": 0.1, "plateau": 3}
            if path.split(".")[1] in get_args(DurationUnit) and path != "duration.plateau":
                stage["duration"] = {}
        yield with_leaf(stage, path, value), path, value


def test_the_values_of_a_stage() -> None:
    """A value is held by the stage, which is the same after a way through YAML; or one line names the stage
    and the key.
    """
    told = []
    for stage, path, value in stage_cases():
        try:
            curriculum = from_plain([stage])
        except ConfigError as error:
            told.append(str(error))
            continue
        plain = to_plain(curriculum)
        assert from_plain(yaml.load(yaml.dump(plain, Dumper=Dumper), Loader=Loader)) == curriculum
        part: Any = curriculum[0]
        for key in path.split("."):
            if key in ("joint", "labels") or (key in TARGETS and not isinstance(part, Joint)):
                continue  # the kind of a target, not a field
            name = "step" if key == "checkpoint" else "value" if key in get_args(DurationUnit) else key
            part = getattr(part, name)
        assert value is None or dataclasses.is_dataclass(part) or str(part) == str(value), (path, value, part)
    assert len(told) > 300
    for message in told:
        assert message.startswith("curriculum[0]"), message
        assert "\n" not in message
        assert len(message) < 500, message


# what broke, or was accepted without a word, once
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"target": []}, ["curriculum[0].target", "logits"]),
        ({"target": 5}, ["curriculum[0].target: 5"]),
        ({"target": None}, ["curriculum[0].target: None"]),
        ({"target": {"logits": {}, "labels": {}}}, ["curriculum[0].target", "accepted: one of"]),
        ({"depth": "1"}, ["depth", "'1'"]),
        ({"frozen": "x"}, ["frozen", "'x'"]),
        ({"target": {"hidden": {"layer": 1.5}}}, ["curriculum[0].target.hidden.layer: 1.5"]),
        ({"target": {"logits": {"top_k": 1.5}}}, ["curriculum[0].target.logits.top_k: 1.5"]),
        (
            {"target": {"hidden": {"layer": 1, "final_norm": "maybe"}}},
            ["final_norm: 'maybe'", "true or false"],
        ),
        ({"target": {"hidden": {"layer": 1, "projection": {"seed": "x"}}}}, ["projection.seed: 'x'"]),
        ({"teacher": {}}, ["curriculum[0].teacher: {}"]),
        ({"teacher": {"checkpoint": "abc"}}, ["curriculum[0].teacher.checkpoint: 'abc'"]),
        ({"teacher": {"checkpoint": 1, "model": "x"}}, ["curriculum[0].teacher", "accepted: labels"]),
        ({"name": "a\0b"}, ["curriculum[0].name"]),
        ({"name": "../a"}, ["curriculum[0].name", "without '/'"]),
        ({"name": ".a"}, ["curriculum[0].name"]),
        ({"name": "x" * 300}, ["curriculum[0].name"]),
        ({"name": None}, ["curriculum[0].name: None"]),
        ({"duration": {"steps": True}}, ["curriculum[0].duration.steps: True"]),
        ({"duration": {"steps": 10**30}}, ["curriculum[0].duration.steps"]),
    ],
)
def test_stages_through_the_command(
    vigreux: Vigreux, bases: dict[str, dict[str, Any]], change: dict[str, Any], parts: list[str]
) -> None:
    target = {"hidden": {"layer": 1}} if "depth" in change else "logits"
    stages = [STAGE | {"target": target} | change]
    Path("config.yaml").write_text(yaml.safe_dump(bases["distill"] | {"curriculum": stages}))
    before = listed()
    outcome = vigreux("distill", "config.yaml")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert all(part in outcome.err for part in parts), outcome.err
    assert listed() == before
