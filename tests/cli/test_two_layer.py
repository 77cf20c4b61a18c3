"""Parity tasks on the command line: the options of a task's kind, the four commands, and bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from joblib import parallel_config

from tests.cli.conftest import Outcome, Vigreux
from vigreux.backends.two_layer.build import make_setup, make_task
from vigreux.cli import compare
from vigreux.cli.families import TWO_LAYER, family_of
from vigreux.cli.main import main
from vigreux.cli.parsing import read_arguments
from vigreux.config.shared import BudgetConfig
from vigreux.config.two_layer import BooleanTaskConfig, NetworkConfig, SGDConfig, TwoLayerConfig
from vigreux.errors import ConfigError
from vigreux.models.two_layer import TwoLayer
from vigreux.report import words
from vigreux.report.read import read_experiment
from vigreux.report.tables import comparison_table
from vigreux.run.checkpoints import verify_manifest, write_manifest
from vigreux.run.folder import RunFolder

EXAMPLES = Path(__file__).parents[2] / "examples"
ALL_KINDS = (
    "causal-lm, masked-lm, classification, token-classification, embedding, parity, hierarchical-parity"
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGREUX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("vigreux.backends.two_layer.teachers._CHUNK", 256)
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: None
    )  # a file of 100 bytes each would wait for the disk


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of 24 units on 2 of 12 coordinates, taught for 300 steps: checkpoints at 100, 200 and 300."""
    root = tmp_path_factory.mktemp("parity")
    (root / "teacher.yaml").write_text(
        f"""
task: {{kind: parity, n: 12, k: 2, data_seed: 9, eval_samples: 64}}
student: {{width: 24}}
budget: {{steps: 300}}
training: {{eval_every: 100, save_every: 100, decay: constant}}
output: {root / "teacher"}
"""
    )
    assert main(["teach", str(root / "teacher.yaml"), "--quiet"]) == 0
    return root / "teacher"


@pytest.fixture
def config(taught: Path, tmp_path: Path) -> Path:
    """A student of 5 units for it, 60 steps, in the test's folder `run`."""
    path = tmp_path / "student.yaml"
    path.write_text(
        f"""
task: {{kind: parity, n: 12, k: 2, eval_samples: 64}}
teacher: {{model: {taught}}}
student: {{width: 5}}
budget: {{steps: 60}}
training: {{eval_every: 20, save_every: 40, threads: 1}}
output: run
"""
    )
    return path


def refused(outcome: Outcome, *parts: str) -> None:
    """Exit code 2 and one line that has all the parts."""
    assert outcome.code == 2, outcome
    lines = [line for line in outcome.err.splitlines() if not line.startswith("vigreux: warning")]
    assert len(lines) == 1, outcome.err
    for part in parts:
        assert part in lines[0], lines[0]


# --- whose options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "two_layer"),
    [
        ([], False),
        (["--task.kind", "parity"], True),
        (["--task.kind=hierarchical-parity"], True),
        (["--task.kind", "masked-lm"], False),
        (["parity.yaml"], True),
        (["--config", "parity.yaml"], True),
        (["--config=parity.yaml"], True),
        (["parity.yaml", "--task.kind", "causal-lm"], False),
        (["text.yaml", "--task.kind", "parity"], True),
        (
            ["--task.kind", "parity", "--config", "text.yaml"],
            True,
        ),  # options override files, whatever their order
        (["parity.yaml", "--config", "kindless.yaml"], True),
        (["--task", "{kind: parity, n: 9}"], True),
        (["--task={kind: parity}"], True),
        (["--task", "task.yaml"], True),
        (["--output", "parity.yaml"], False),
        (["list.yaml"], False),
    ],
)
def test_the_kind_of_task_picks_the_options(
    argv: list[str], two_layer: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "parity.yaml": "task: {kind: parity}",
        "text.yaml": "task: {kind: causal-lm}",
        "kindless.yaml": "seed: 3",
        "task.yaml": "kind: parity",
        "list.yaml": "- task",
    }
    for name, text in files.items():
        Path(name).write_text(text)
    assert (family_of(read_arguments("distill", argv)) is TWO_LAYER) is two_layer


def test_an_unknown_kind_lists_all(vigreux: Vigreux) -> None:
    Path("c.yaml").write_text("task: {kind: party}")
    for command in ("distill", "teach", "compare", "plan"):
        refused(
            vigreux(command, "--task.kind", "party"),
            "task.kind: unknown value 'party'; did you mean 'parity'?",
            ALL_KINDS,
        )
    refused(vigreux("distill", "c.yaml"), "did you mean 'parity'?", ALL_KINDS)
    Path("c.yaml").write_text("task: {kind: 3}")
    refused(vigreux("distill", "c.yaml"), "task.kind: unknown value '3'", ALL_KINDS)


@pytest.mark.parametrize("command", ["distill", "teach", "compare", "plan"])
def test_help_of_both_kinds(vigreux: Vigreux, command: str) -> None:
    usual, own = (
        " ".join(vigreux(command, *argv, "--help").out.split()) for argv in ([], ["--task.kind", "parity"])
    )
    assert f"Parity tasks have other options: vigreux {command} --task.kind parity --help" in usual
    assert "--task.max_length" in usual
    assert "--task.support" not in usual
    assert "A parity task: two-layer networks" in own.replace(
        "two- layer", "two-layer"
    )  # where lines are wrapped
    assert "--task.support SUPPORT the coordinates of parity, from 0. Default: drawn with `seed`" in own
    assert "--training.learning_rate LEARNING_RATE of the stages that match labels or logits [0.005]" in own
    assert "--extraction.projection {gaussian,orthogonal,sparse,pca,identity,learned} gaussian" in own
    assert "[sparse]" in own
    assert "--task.max_length" not in own


def test_a_parity_run_imports_no_transformers(taught: Path, config: Path, tmp_path: Path) -> None:
    calls = [
        ["distill", str(config), "--quiet", "--curriculum", "one-shot"],
        ["plan", str(config)],
        ["teach", str(config), "--quiet", "--output", "other"],
        ["compare", str(config), "--quiet", "--output", "grid", "--curricula", "one-shot", "--seeds", "1"],
    ]
    code = f"""
import sys
from vigreux.cli.main import main
for argv in {calls!r}:
    assert main(argv) == 0
    found = {{"transformers", "accelerate", "datasets", "tokenizers", "ruptures"}} & set(sys.modules)
    assert not found, (argv, found)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # and torch has nothing to say


# --- the commands -------------------------------------------------------------------------------------------


def test_teach_keeps_a_series(vigreux: Vigreux, taught: Path, tmp_path: Path) -> None:
    given = ["teach", taught.parent / "teacher.yaml", "--output", "teacher", "--quiet"]
    done = vigreux(
        *given, "--curriculum", "extraction", "--teacher.model", "nobody", "--checkpoints", "[3]"
    )  # has no say
    assert done.code == 0, done.err
    assert "held out: loss 0." in done.out
    assert f"teacher: {Path('teacher/student')} (362 parameters)" in done.out
    assert f"checkpoints: {Path('teacher/stages/00-labels')}" in done.out
    folder = RunFolder.open("teacher")
    assert folder.info()["name"] == "supervised"
    assert folder.config() == RunFolder.open(taught).config() | {"output": "teacher"}
    steps = sorted(int(path.name.split("-")[1]) for path in Path("teacher/stages/00-labels").iterdir())
    assert steps == [100, 200, 300]
    assert not any(verify_manifest(path) for path in Path("teacher/stages/00-labels").iterdir())
    again = [(root / "student" / "model.safetensors").read_bytes() for root in (Path("teacher"), taught)]
    assert again[0] == again[1]
    assert vigreux(*given, "--resume").err == "teacher is finished; there is nothing to do\n"


CURRICULA = {
    "supervised": ["labels"],
    "one-shot": ["final"],
    "progressive": ["checkpoint-100", "checkpoint-200", "final"],  # the last checkpoint is the final teacher
    "p-shot": ["checkpoint-200", "final"],
    "extraction": ["hidden-1-to-1", "final"],
}


@pytest.mark.parametrize("name", CURRICULA)
def test_distill(vigreux: Vigreux, config: Path, taught: Path, name: str) -> None:
    chosen = ["--checkpoints", "[200]"] if name == "p-shot" else []
    done = vigreux("distill", config, "--curriculum", name, "--quiet", *chosen)
    assert done.code == 0, done.err
    folder = RunFolder.open("run")
    summary = folder.summary()
    assert summary is not None
    assert [stage.name for stage in folder.stages()] == CURRICULA[name]
    assert summary.steps == 60
    weights = (taught / "student" / "model.safetensors").stat().st_size
    assert (
        summary.bytes_kept
        == weights * {"supervised": 0, "one-shot": 1, "progressive": 3, "p-shot": 2, "extraction": 1}[name]
    )
    assert "student: run/student (77 parameters" in done.out
    assert ("4.7 times fewer than the teacher" in done.out) is (name != "supervised")
    assert TwoLayer.load(folder.student).width == 5


def test_a_long_run_shows_where_it_is(vigreux: Vigreux, config: Path) -> None:
    done = vigreux("distill", config, "--curriculum", "one-shot")
    assert "final" in done.out
    assert "60/60" in done.out


def test_the_result_is_a_function_of_seed_and_type(vigreux: Vigreux, config: Path) -> None:
    def weights(*options: str) -> TwoLayer:
        shutil.rmtree("run", ignore_errors=True)
        assert vigreux("distill", config, "--quiet", *options).code == 0
        return TwoLayer.load("run/student")

    first, seeded, double = weights(), weights("--seed", "1"), weights("--student.dtype", "float64")
    assert torch.equal(first.hidden.weight, weights().hidden.weight)
    assert not torch.equal(first.hidden.weight, seeded.hidden.weight)
    assert double.dtype == torch.float64


def test_compare(vigreux: Vigreux, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        "compare",
        config,
        "--curricula",
        "one-shot,p-shot,extraction",
        "--checkpoints",
        "[200]",
        "--output",
        "grid",
    ]
    done = vigreux(*given, "--seeds", "1")
    assert done.code == 0, done.err
    assert "accuracy ↑" in done.out
    assert "run 3 of 3: extraction-seed0" in done.out
    described = json.loads(Path("grid/compare.json").read_text())
    assert (described["metric"], described["higher_is_better"], described["budget"]) == (
        "accuracy",
        True,
        "60 steps each",
    )
    assert Path("grid/plot.png").exists()
    page = Path("grid/report.html").read_text()
    assert "into a student of width 5 (77 parameters), for the parity of 2 of 12 coordinates" in page
    monkeypatch.setattr(compare, "show", lambda root: None)
    with parallel_config(backend="threading"):
        more = vigreux(*given, "--seeds", "2", "--resume", "--jobs", "2")
    assert more.code == 0, more.err
    assert len(list(Path("grid").glob("*/summary.json"))) == 6


def test_a_report_of_one_run_is_judged_by_accuracy(vigreux: Vigreux, config: Path) -> None:
    tree = ["--task.kind", "hierarchical-parity", "--task.classes", "4", "--task.k", "2"]
    assert vigreux("distill", config, "--curriculum", "supervised", "--quiet", *tree).code == 0
    experiment = read_experiment(["run"])
    said = " ".join(words.summary(experiment, comparison_table(experiment)))
    assert (
        "was trained on labels, without a teacher, for hierarchical parity, 4 classes from features of 2 of"
        " 12"
        " coordinates." in said
    )
    assert "the student reached an accuracy of" in said


def test_plan_reads_no_weights(vigreux: Vigreux, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vigreux.models.two_layer.load_file", lambda *_: pytest.fail("weights were read"))
    done = vigreux("plan", config, "--budget.steps", "1000")
    assert done.code == 0, done.err
    assert "hidden-1-to-1   final     hidden 1 (sparse/0)   1       200" in done.out
    # student: forward and backward of 5 units on 12 inputs, and 2 logits
    # teacher: its hidden units, and for each an entry of P or two logits
    assert (
        f"student: 77 parameters, width 5, {(200 * 4 * 5 * 12 + 800 * 4 * 5 * (12 + 4)) / 1000:g} kFLOP"
        in done.out
    )
    assert f"teacher: 362 parameters, width 24, {1000 * 2 * 24 * (12 + 2) / 1000:g} kFLOP" in done.out
    assert "teacher weights to keep: 1.74 kB" in done.out
    assert "memory: about" in done.out
    assert "time: about" in done.out
    assert not Path("run").exists()
    assert not Path(os.environ["VIGREUX_CACHE"]).exists()


def test_plan_of_every_curriculum(vigreux: Vigreux, config: Path) -> None:
    kept = {}
    for name in CURRICULA:
        done = vigreux(
            "plan", config, "--curriculum", name, "--checkpoints", "[200]", "--training.batch_size", "3"
        )
        assert done.code == 0, done.err
        kept[name] = done.out.split("teacher weights to keep: ")[1].splitlines()[0]
    assert kept == {
        "supervised": "0 B",
        "one-shot": "1.74 kB",
        "progressive": "3.49 kB",
        "p-shot": "3.49 kB",
        "extraction": "1.74 kB",
    }
    for options in (
        ["--extraction.projection", "identity", "--student.width", "24"],
        ["--training.loss", "hinge", "--curriculum", "one-shot"],
        ["--student.dtype", "float64", "--student.width", "5000", "--extraction.projection", "gaussian"],
    ):
        assert vigreux("plan", config, *options).code == 0


def test_plan_of_joint_stages_and_projected_logits(vigreux: Vigreux, config: Path) -> None:
    for target, depth, read in (
        ("{hidden: {layer: 2, projection: gaussian}}", "depth: 1", 24 * (12 + 2) + 2 * 5),
        (
            "{joint: {hidden: {layer: 1, projection: gaussian}, logits: {}}}",
            "depth: null",
            24 * (12 + 2) + 24 * 5,
        ),
        (
            "{joint: {hidden: {layer: 2, projection: gaussian}, logits: {}}}",
            "depth: null",
            24 * (12 + 2) + 2 * 5,
        ),
    ):
        stages = f"[{{target: {target}, {depth}, duration: {{steps: 1000}}}}]"
        done = vigreux("plan", config, "--curriculum", stages)
        assert done.code == 0, done.err
        assert f"teacher: 362 parameters, width 24, {1000 * 2 * read / 1000:g} kFLOP" in done.out


def test_settings_of_the_engine_reach_it() -> None:
    made = make_setup(
        TwoLayerConfig(
            task=BooleanTaskConfig(n=10, k=2, data_seed=7, eval_samples=11),
            student=NetworkConfig(width=3, dtype="float64"),
            curriculum="supervised",
            budget=BudgetConfig(steps=5),
            schedule="per-stage",
            training=SGDConfig(learning_rate=0.2),
            seed=4,
        )
    )
    assert (made.steps, made.carried_schedule, made.data_seed, made.eval_samples) == (5, False, 7, 11)
    assert made.settings.learning_rate == 0.2
    assert torch.equal(
        made.student.hidden.weight, TwoLayer(10, 3, 2, seed=4, dtype=torch.float64).hidden.weight
    )


# --- examples -----------------------------------------------------------------------------------------------


def configuration(argv: list[str]) -> TwoLayerConfig:
    return read_arguments("distill", argv).parse(TwoLayerConfig, "")[0]


@pytest.mark.parametrize("kind", ["parity", "hierarchical-parity"])
def test_the_examples_are_at_the_papers_scale(kind: str) -> None:
    teacher, student = (
        configuration([str(EXAMPLES / kind / f"{name}.yaml")]) for name in ("teacher", "student")
    )
    assert (teacher.task.n, teacher.student.width, student.student.width) == (100, 50_000, 100)
    assert teacher.for_teaching().training.keep_checkpoints
    assert make_task(teacher.task) == make_task(student.task)
    assert teacher.task.data_seed != student.task.data_seed
    assert student.teacher.model == teacher.output


def small(path: Path, *changes: tuple[str, str]) -> Path:
    """A copy of an example with other numbers in it."""
    text = path.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    copy = Path(path.name)
    copy.write_text(text)
    return copy


@pytest.mark.parametrize(
    ("kind", "stages", "ends"),
    [
        ("parity", "until-saturation.yaml", [7, 7, 7]),
        ("hierarchical-parity", "three-shot.yaml", [10, 10, 20]),
    ],
)
def test_the_examples_run(vigreux: Vigreux, kind: str, stages: str, ends: list[int]) -> None:
    size = [
        "--quiet",
        "--task.n",
        "14",
        "--task.k",
        "2",
        "--task.eval_samples",
        "64",
        "--training.eval_every",
        "1",
    ]
    teacher = [
        "--student.width",
        "9",
        "--budget.steps",
        "40",
        "--training.save_every",
        "10",
        "--output",
        "teacher",
    ]
    assert vigreux("teach", EXAMPLES / kind / "teacher.yaml", *size, *teacher).code == 0
    student = [
        "distill",
        EXAMPLES / kind / "student.yaml",
        *size,
        "--teacher.model",
        "teacher",
        "--budget.steps",
        "40",
    ]
    assert vigreux(*student, "--output", "extracted").code == 0
    steps = (
        [("6000000", "10"), ("6200000", "20")] if kind == "parity" else [("4500000", "10"), ("6500000", "20")]
    )
    curriculum = small(EXAMPLES / kind / stages, *steps)
    done = vigreux(
        *student, "--output", "stages", "--curriculum", curriculum, "--training.learning_rate", "1e-9"
    )
    assert done.code == 0, done.err
    # so slowly that nothing improves: a stage of `plateau: 5` ends after its sixth evaluation
    expected = [6, 6, 6] if kind == "parity" else ends
    assert [stage.steps for stage in RunFolder.open("stages").stages()] == expected


# --- bad input ----------------------------------------------------------------------------------------------

OPTIONS: list[tuple[list[str], list[str]]] = [
    (["--task.k", "13"], ["task.k: 13", "1 to task.n = 12"]),
    (["--task.k", "0"], ["task.k: 0", "a whole number from 1"]),
    (["--task.n", "0"], ["task.n: 0"]),
    (["--task.support", "[3, 12]"], ["task.support: 12 is outside", "0 to task.n - 1 = 11"]),
    (["--task.support", "[-1, 3]"], ["task.support: -1 is outside"]),
    (["--task.support", "[3, 3]"], ["task.support: 3 occurs twice"]),
    (["--task.support", "[]"], ["task.support: empty"]),
    (["--task.support", "[1, 2, 3]"], ["task.support: 3 coordinates", "task.k = 2"]),
    (["--task.features", "[[1]]"], ["task.features", "task.support"]),
    (["--task.data_seed", "-1"], ["task.data_seed"]),
    (["--teacher.model", ""], ["teacher.model: missing", "vigreux teach"]),
    (["--teacher.model", "nowhere"], ["teacher.model", "'nowhere'", "vigreux teach"]),
    (
        ["--teacher.checkpoints", "nowhere", "--curriculum", "progressive"],
        ["teacher.checkpoints", "'nowhere'"],
    ),
    (
        ["--curriculum", "p-shot"],
        ["'p-shot' needs the steps to use (vigreux select RUN chooses them); available: 100, 200"],
    ),
    (
        ["--curriculum", "p-shot", "--checkpoints", "[150]"],
        ["checkpoints: unknown value '150'", "accepted: 100, 200, 300"],
    ),
    (["--curriculum", "progressive", "--checkpoints", "[200, 100]"], ["checkpoints", "rising"]),
    (["--curriculum", "progresive"], ["did you mean 'progressive'"]),
    (
        ["--curriculum", "[{target: logits, teacher: {checkpoint: 250}, duration: {steps: 3}}]"],
        ["'250'", "accepted: 100, 200, 300"],
    ),
    (
        ["--curriculum", "[{target: {hidden: {layer: 3}}, depth: 1, duration: {steps: 3}}]"],
        ["hidden layer 3; accepted: layer 1, the hidden units, or 2, the teacher's logits"],
    ),
    (
        ["--curriculum", "[{target: {joint: {hidden: {layer: 0}, logits: {}}}, duration: {steps: 3}}]"],
        ["hidden layer 0; accepted: layer 1"],
    ),
    (
        ["--curriculum", "[{target: {joint: {hidden: {layer: 1}}}, duration: {steps: 3}}]"],
        ["curriculum[0].target.joint.logits: missing"],
    ),
    (["--curriculum", "[{target: logits, duration: {epochs: 3}}]"], ["3 epochs of an endless stream"]),
    (["--extraction.projection", "pca"], ["projection 'pca'", "sparse, gaussian, orthogonal, identity"]),
    (["--extraction.projection", "identity"], ["identity", "24", "5"]),
    (["--extraction.projection", "sparce"], ["extraction.projection", "did you mean 'sparse'"]),
    (["--extraction.hidden_share", "1"], ["extraction.hidden_share", "between 0 and 1"]),
    (["--extraction.layers", "{2: 1}"], ["teacher layer 2"]),
    (["--student.width", "0"], ["student.width: 0"]),
    (
        ["--student.width", "1000000000000"],
        ["student.width: 1000000000000", "60 TB", "fits into memory"],
    ),
    (["--student.width", "wide"], ["student.width", "a whole number"]),
    (["--student.dtype", "float16"], ["student.dtype", "float32, float64"]),
    (["--budget.steps", "0"], ["budget.steps: 0"]),
    (["--budget.steps", "1"], ["less than one step"]),
    (["--budget.steps", "null"], ["budget: missing; accepted: budget.steps"]),
    (["--budget.steps", "null", "--budget.flops", "1e9"], ["budget", "accepted: budget.steps"]),
    (["--budget.steps", "null", "--budget.seconds", "9"], ["budget", "accepted: budget.steps"]),
    (["--loss.top_k", "1"], ["loss", "all logits"]),
    (["--loss.divergence", "reverse-kl"], ["loss", "soft-cross-entropy"]),
    (["--loss.student_temperature", "2"], ["loss.student_temperature"]),
    (["--loss.temperature", "0"], ["temperature"]),
    (["--training.learning_rte", "1"], ["did you mean --training.learning_rate"]),
    (["--training.learning_rate", "0"], ["training.learning_rate", "a positive number"]),
    (["--training.batch_size", "0"], ["training.batch_size"]),
    (["--training.loss", "mse"], ["training.loss", "cross-entropy, hinge"]),
    (["--training.match", "relu"], ["training.match", "before-relu, after-relu"]),
    (["--student.layers", "2"], ["--student.layers"]),
    (["--task.max_length", "2"], ["--task.max_length"]),
    (["--output", "student.yaml"], ["student.yaml", "is a file"]),
    (["--output", "student.yaml/run"], ["student.yaml/run", "cannot be written"]),
    (["--output", "/proc/vigreux/run"], ["/proc/vigreux/run", "cannot be written"]),
]
TREE = ["--task.kind", "hierarchical-parity", "--curriculum", "supervised"]
OPTIONS += [
    ([*TREE, "--task.classes", "6"], ["task.classes: 6 is not a power of two", "2, 4, 8"]),
    ([*TREE, "--task.classes", "1"], ["task.classes: 1"]),
    (
        [*TREE, "--task.classes", "8"],
        ["task.k: 7 features of 2 coordinates do not fit into n = 12", "1 to 1"],
    ),
    ([*TREE, "--task.features", "[[0], [1]]"], ["task.features: 2 sets", "1, 3, 7"]),
    ([*TREE, "--task.features", "[[0, 1], [2, 3], [3, 4]]"], ["task.features: 3 occurs twice"]),
    ([*TREE, "--task.features", "[[0, 1], [2, 3], [4, 12]]"], ["task.features: 12 is outside"]),
    ([*TREE, "--task.features", "[[0, 1], [2, 3], []]"], ["task.features: a set is empty"]),
    ([*TREE, "--task.features", "[[0, 1], [2, 3], [4, 5]]"], ["task.features: 3 sets", "task.classes = 8"]),
    (
        [*TREE, "--task.classes", "4", "--task.features", "[[0, 1], [2, 3], [4]]"],
        ["a set of 1", "task.k = 2"],
    ),
    ([*TREE, "--task.support", "[1, 2]"], ["task.support", "task.features"]),
]


@pytest.mark.parametrize(("options", "parts"), OPTIONS, ids=[" ".join(options) for options, _ in OPTIONS])
def test_a_wrong_option(vigreux: Vigreux, config: Path, options: list[str], parts: list[str]) -> None:
    before = sorted(Path.cwd().iterdir())
    refused(vigreux("distill", config, "--quiet", *options), *parts)
    assert sorted(Path.cwd().iterdir()) == before


GOOD = [
    ["--task.k", "12", "--curriculum", "supervised"],
    ["--curriculum", "p-shot", "--checkpoints", "[100]"],
    [
        "--curriculum",
        "[{target: logits, teacher: {checkpoint: 300}, duration: {steps: 3}}]",
        "--budget.steps",
        "null",
    ],
    [
        "--curriculum",
        "[{target: {hidden: {layer: 1, projection: orthogonal}}, depth: 1, duration: {samples: 3}}]",
    ],
    ["--curriculum", "[{target: {hidden: {layer: 2}}, depth: 1, duration: {steps: 3}}]"],
    [
        "--curriculum",
        "[{target: {joint: {hidden: {layer: 1}, logits: {alpha: 0.1}, weight: 0.5}}, duration: {steps: 3}}]",
    ],
    ["--extraction.projection", "identity", "--student.width", "24"],
    ["--student.width", "1"],
    ["--budget.steps", "3"],
    ["--loss.divergence", "forward-kl", "--loss.temperature", "1e-20", "--loss.alpha", "0.5"],
    ["--training.loss", "hinge", "--training.match", "after-relu", "--training.batch_size", "7"],
    [*TREE, "--task.classes", "4", "--task.features", "[[0, 1], [2, 3], [4, 11]]"],
    [*TREE, "--task.classes", "8", "--task.k", "1"],
    ["--output", "deep/er/run"],
]


@pytest.mark.parametrize("options", GOOD, ids=[" ".join(options) for options in GOOD])
def test_the_nearest_right_options(vigreux: Vigreux, config: Path, options: list[str]) -> None:
    outcome = vigreux("distill", config, "--quiet", *options)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ({"n": 13}, ["teacher.model: has n 12", "a teacher of the task's n, 13"]),
        (
            {"kind": "hierarchical-parity", "classes": 4},
            ["teacher.model: has classes 2", "the task's classes, 4"],
        ),
    ],
)
def test_a_teacher_of_another_task(
    vigreux: Vigreux, config: Path, task: dict[str, Any], parts: list[str]
) -> None:
    plain = yaml.safe_load(config.read_text())
    plain["task"] |= task
    config.write_text(yaml.safe_dump(plain))
    for command in ("distill", "plan", "compare"):
        refused(
            vigreux(command, config, *(["--curricula", "one-shot"] if command == "compare" else [])), *parts
        )
        assert not Path("run").exists()


@pytest.mark.parametrize("options", [["--task.seed", "1"], ["--task.k", "3"], ["--task.support", "[0, 1]"]])
def test_a_teacher_of_other_coordinates(vigreux: Vigreux, config: Path, options: list[str]) -> None:
    for command in ("distill", "plan", "compare"):
        given = [command, config, *options, *(["--curricula", "one-shot"] if command == "compare" else [])]
        refused(
            vigreux(*given),
            "task: other coordinates than the teacher's run",
            "accepted: its own, --task.k 2 --task.seed 0",
        )
        assert not Path("run").exists()
    assert vigreux("distill", config, *options, "--curriculum", "supervised", "--quiet").code == 0


def test_a_teacher_whose_coordinates_are_named(vigreux: Vigreux, config: Path, taught: Path) -> None:
    drawn = make_task(BooleanTaskConfig(n=12, k=2)).features[0]
    assert vigreux("distill", config, "--quiet", "--task.support", str([*reversed(drawn)])).code == 0
    shutil.copytree(taught, "mine")
    plain = yaml.safe_load(Path("mine/config.yaml").read_text())
    plain["task"]["support"] = [3, 4]
    Path("mine/config.yaml").write_text(yaml.safe_dump(plain))
    refused(
        vigreux("distill", config, "--teacher.model", "mine"),
        "accepted: its own, --task.k 2 --task.support '[3, 4]'",
    )
    Path("mine/config.yaml").write_text("task: {kind: parity, n: 12, classes: 8, later: 1}")
    assert vigreux("distill", config, "--quiet", "--teacher.model", "mine", "--output", "other").code == 0


def test_a_teacher_that_is_damaged_or_another_kind_of_model(
    vigreux: Vigreux, config: Path, taught: Path
) -> None:
    shutil.copytree(taught, "mine")
    given = ["distill", config, "--quiet", "--teacher.model", "mine"]
    weights = Path("mine/student/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-5])
    refused(vigreux(*given), "mine/student: missing or damaged weights")
    shutil.copytree(taught / "student", "mine/student", dirs_exist_ok=True)
    Path("mine/student/config.json").write_text('{"model_type": "bert"}')
    refused(vigreux(*given), "model type 'bert'", "'two-layer'")
    shutil.copytree(taught / "student", "mine/student", dirs_exist_ok=True)
    middle = Path("mine/stages/00-labels/checkpoint-200/model.safetensors")
    middle.write_bytes(middle.read_bytes()[:-1] + b"\x07")
    refused(vigreux(*given, "--curriculum", "progressive"), "checkpoint-200: model.safetensors is damaged")
    assert not Path("run").exists()
    assert vigreux(*given, "--curriculum", "p-shot", "--checkpoints", "[100]").code == 0


def test_a_teacher_that_has_not_finished(vigreux: Vigreux, config: Path, taught: Path) -> None:
    shutil.copytree(taught, "mine")
    shutil.rmtree("mine/student")
    refused(vigreux("distill", config, "--teacher.model", "mine"), "'mine' has not finished", "vigreux teach")


def test_a_learning_rate_that_diverges(vigreux: Vigreux, taught: Path) -> None:
    """Names the step and the last checkpoint, which is kept and goes on at the rate that it was made with."""
    given = [
        "teach",
        taught.parent / "teacher.yaml",
        "--quiet",
        "--training.save_every",
        "1",
        "--output",
        "run",
    ]
    outcome = vigreux(*given, "--training.learning_rate", "1e15")
    refused(
        outcome,
        "stage 'labels'",
        "is not finite at step",
        "learning rate 1e+15",
        "checkpoint",
        "training.learning_rate",
    )
    folder = RunFolder.open("run")
    assert folder.status == "failed"
    assert not folder.student.exists()
    for path in Path("run").glob("stages/*/checkpoint-*"):
        assert str(path.name) in outcome.err or int(path.name.split("-")[1]) >= 1
        assert not verify_manifest(path)
    refused(vigreux(*given), "run: already holds a run (failed)", "--resume")
    refused(vigreux(*given, "--resume"), "another configuration: training.learning_rate")


@pytest.mark.parametrize("option", ["--task.eval_samples", "--training.batch_size"])
def test_too_little_memory(vigreux: Vigreux, config: Path, option: str) -> None:
    refused(
        vigreux("distill", config, "--quiet", option, "1000000000000"),
        "not enough memory",
        option.removeprefix("--"),
    )


def test_a_folder_that_is_taken(vigreux: Vigreux, config: Path) -> None:
    given = ["distill", config, "--quiet", "--curriculum", "one-shot"]
    assert vigreux(*given).code == 0
    before = Path("run/summary.json").read_bytes()
    refused(vigreux(*given), "run: already holds a run (finished)")
    refused(vigreux(*given, "--resume", "--student.width", "6"), "another configuration", "student.width")
    done = vigreux(*given, "--resume")
    assert (done.code, done.err) == (0, "run is finished; there is nothing to do\n")
    refused(vigreux(*given, "--resume", "--output", "elsewhere"), "no run in 'elsewhere' yet")
    assert Path("run/summary.json").read_bytes() == before


def test_a_comparison_is_checked_before_its_first_run(
    vigreux: Vigreux, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["compare", config, "--seeds", "1", "--quiet", "--output", "grid"]
    refused(vigreux(*given, "--curricula", "one-shot,p-shot"), "'p-shot' needs the steps to use")
    refused(vigreux(*given, "--curricula", "one-shot,p-shot", "--checkpoints", "[7]"), "unknown value '7'")
    refused(vigreux(*given, "--curricula", "one-shot", "--budget.steps", "null"), "budget: missing")
    refused(vigreux(*given, "--curriculum", "one-shot"), "--curriculum", "--curricula")
    refused(vigreux(*given, "--curricula", "one-shot", "--output", "student.yaml/grid"), "cannot be written")
    assert not Path("grid").exists()
    (Path("series") / "checkpoint-7").mkdir(parents=True)
    TwoLayer(12, 24, 2).save(Path("series/checkpoint-7"))
    write_manifest("series/checkpoint-7")
    chosen = ["--teacher.checkpoints", "series", "--checkpoints", "[7]"]
    monkeypatch.setattr(compare, "show", lambda root: None)
    assert vigreux(*given, "--curricula", "one-shot,p-shot", *chosen).code == 0


def test_teach_needs_a_budget_and_no_teacher(vigreux: Vigreux) -> None:
    refused(vigreux("teach", "--task.kind", "parity"), "budget: missing; accepted: budget.steps")
    refused(vigreux("plan", "--task.kind", "parity"), "teacher.model: missing")
    refused(vigreux("distill", "--task.kind", "parity"), "teacher.model: missing")
    assert list(Path.cwd().iterdir()) == []


def test_a_file_with_a_key_of_another_task(vigreux: Vigreux, config: Path) -> None:
    plain = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(plain | {"task": plain["task"] | {"max_lenght": 3}}))
    refused(vigreux("distill", config), "student.yaml: task.max_lenght")
    config.write_text(yaml.safe_dump(plain | {"training": {"learning_rte": 3}}))
    refused(
        vigreux("distill", config),
        "student.yaml: training.learning_rte",
        "did you mean 'learning_rate'",
    )


def test_the_task_that_is_drawn_or_given() -> None:
    drawn = make_task(BooleanTaskConfig(n=20, k=3, seed=1))
    assert (drawn.n, len(drawn.features[0]), drawn.classes) == (20, 3, 2)
    assert drawn != make_task(BooleanTaskConfig(n=20, k=3, seed=2))
    assert make_task(BooleanTaskConfig(n=20, k=2, support=[4, 1])).features == ((4, 1),)
    tree = make_task(BooleanTaskConfig("hierarchical-parity", n=20, k=2, classes=4))
    assert (tree.classes, [len(node) for node in tree.features]) == (4, [2, 2, 2])
    with pytest.raises(ConfigError, match="do not fit"):
        make_task(BooleanTaskConfig("hierarchical-parity", n=5, k=2, classes=4))
