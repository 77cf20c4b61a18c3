"""`vigreux cache`, and students that learn from what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL, Vigreux
from tests.cli.tiny import Tiny, documents, save_llama, write_text
from vigreux.run.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")
EXACT = ["--cache.precision", "float32", "--cache.head_precision", "float32", "--cache.shard_samples", "16"]


def common(teacher: Path, tiny: Tiny, kind: str, *more: object) -> list[object]:
    data = tiny.labelled if kind == "classification" else tiny.text
    sizes = ["--student.layers", 2, "--student.hidden", 16, "--task.max_length", 16, "--budget.steps", 6]
    return ["--teacher.model", teacher, "--task.kind", kind, "--task.data", data, *sizes, *SMALL, *more]


@pytest.mark.parametrize("kind", ["causal-lm", "masked-lm", "classification"])
def test_a_student_of_the_cache_is_the_student_of_the_teacher(
    kind: str, vigreux: Vigreux, tiny: Tiny, llama: Path, masked: Path, classifier: Path, tmp_path: Path
) -> None:
    teacher = {"causal-lm": llama, "masked-lm": masked, "classification": classifier}[kind]
    options = common(teacher, tiny, kind)
    made = vigreux("cache", *options, *EXACT, "--cache.path", "cache")
    assert made.code == 0, made.err
    assert "what is lost" in made.out
    assert "next: vigreux distill CONFIG.yaml --cache.path cache" in made.out
    assert vigreux("distill", *options, "--output", "live").code == 0
    done = vigreux("distill", *options, "--cache.path", "cache", "--output", "cached")
    assert done.code == 0, done.err
    live, cached = (RunFolder.open(tmp_path / name).summary() for name in ("live", "cached"))
    assert live is not None
    assert cached is not None
    for name, value in cached.metrics.items():
        assert value == pytest.approx(live.metrics[name], rel=1e-3), name
    assert cached.teacher_metrics.keys() <= live.teacher_metrics.keys()
    again = vigreux("cache", *options, *EXACT, "--cache.path", "cache")
    assert again.code == 0
    assert ", 0 of " in again.out


def test_one_cache_for_several_seeds(vigreux: Vigreux, tiny: Tiny, llama: Path) -> None:
    options = common(llama, tiny, "causal-lm")
    assert vigreux("cache", *options, "--cache.path", "cache").code == 0
    for seed in (0, 1):
        done = vigreux(
            "distill", *options, "--seed", seed, "--cache.path", "cache", "--output", f"seed{seed}"
        )
        assert done.code == 0, done.err


def test_what_it_takes_is_said_before(vigreux: Vigreux, tiny: Tiny, llama: Path, tmp_path: Path) -> None:
    shown = vigreux("cache", *common(llama, tiny, "causal-lm"), *EXACT, "--cache.path", "cache", "--estimate")
    assert shown.code == 0
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert vigreux("cache", *common(llama, tiny, "causal-lm"), *EXACT, "--cache.path", "cache").code == 0
    manifest = json.loads((tmp_path / "cache" / "cache.json").read_text())
    assert manifest["by"] == "index"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--task.max_length", 12], "cache: was made with another data and another task"),
        (["--task.data", "other.txt"], "cache: was made with another data; accepted"),
        (["--teacher.model", "other"], "cache: was made with another teacher (final)"),
        (["--student.hidden", 8], "cache: was made for students of width 16; accepted: that width, not 8"),
        (["--extraction.projection", "gaussian"], "cache: does not hold 'final: hidden 2 (gaussian/0)'"),
        (["--cache.path", "nowhere"], "nowhere: is no cache"),
    ],
)
def test_a_cache_of_something_else_is_refused(
    changes: list[object], message: str, vigreux: Vigreux, tiny: Tiny, llama: Path, tmp_path: Path
) -> None:
    write_text(tmp_path / "other.txt", documents(60, seed=5))
    if "other" in changes:
        save_llama(tmp_path / "other", tiny.bpe, seed=3)
    options = common(llama, tiny, "causal-lm")
    assert vigreux("cache", *options, "--cache.path", "cache").code == 0
    refused = vigreux("distill", *options, "--cache.path", "cache", *changes, "--output", "run")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert message in refused.err
    assert not (tmp_path / "run").exists()


def test_masks_follow_the_seed(vigreux: Vigreux, tiny: Tiny, masked: Path) -> None:
    options = common(masked, tiny, "masked-lm")
    assert vigreux("cache", *options, "--cache.path", "cache").code == 0
    refused = vigreux("distill", *options, "--cache.path", "cache", "--seed", 1, "--output", "run")
    assert refused.code == 2
    assert "holds the samples of seed 0, which masks follow; accepted: that seed" in refused.err
    refused = vigreux("distill", *options, "--cache.path", "cache", "--budget.steps", 20, "--output", "run")
    assert refused.code == 2
    assert "stage 'final' reads samples 16 to 80 of the stream, which were not written for it" in refused.err
    refused = vigreux("cache", *options, "--cache.path", "other", "--cache.by", "index")
    assert "cache.by: 'index', and samples are others each time they come; accepted: stream" in refused.err


def test_the_samples_of_one_run_take_less(vigreux: Vigreux, tiny: Tiny, llama: Path, tmp_path: Path) -> None:
    """Each stage's signals for its own samples, where one seed's run is all that is wanted."""
    options = common(llama, tiny, "causal-lm", "--budget.steps", 30)
    sizes = {}
    for by in ("index", "stream"):
        assert vigreux("cache", *options, "--cache.path", by, "--cache.by", by).code == 0
        done = vigreux("distill", *options, "--cache.path", by, "--output", f"run-{by}")
        assert done.code == 0, done.err
        sizes[by] = json.loads((tmp_path / by / "cache.json").read_text())
    assert sizes["stream"]["spans"] == {"final: hidden 2 (pca)": [[0, 32]], "final: head input": [[0, 120]]}
    summaries = [RunFolder.open(tmp_path / f"run-{by}").summary() for by in sizes]
    assert summaries[0] is not None
    assert summaries[1] is not None
    assert summaries[0].metrics == pytest.approx(dict(summaries[1].metrics), rel=1e-6)


def test_bad_input(vigreux: Vigreux, tiny: Tiny, llama: Path) -> None:
    options = common(llama, tiny, "causal-lm")
    for more, message in (
        ([], "cache.path: missing"),
        (
            ["--cache.path", "c", "--curriculum", "supervised"],
            "curriculum: no stage asks a teacher for anything",
        ),
        (["--cache.path", "c", "--cache.k", 0], "cache.k: 0; accepted: a whole number from 1"),
        (["--cache.path", "c", "--cache.logits", "all"], "cache.logits: "),
    ):
        refused = vigreux("cache", *options, *more)
        assert refused.code == 2
        assert message in refused.err
        assert refused.err.count("\n") == 1


RULES = "s -> a b a\ns -> b a\na -> x y\na -> y\nb -> y x\n"


def test_a_law_that_changed_under_its_name(vigreux: Vigreux, tiny: Tiny, tmp_path: Path) -> None:
    """A file of rules is known by the sentences that it gives; so is which of their tokens are predicted."""
    rules = tmp_path / "own.grammar"
    rules.write_text(RULES)
    data = [
        "--task.kind",
        "causal-lm",
        "--task.data",
        f"grammar:{rules}",
        "--task.max_length",
        16,
        "--task.max_eval",
        16,
    ]
    model = ["--model.family", "gpt2", "--model.layers", 2, "--model.hidden", 16, "--model.heads", 2]
    assert vigreux("teach", *data, *model, "--budget.steps", 2, *SMALL, "--output", "teacher").code == 0
    student = [
        "--teacher.model",
        "teacher/student",
        "--student.hidden",
        8,
        "--student.heads",
        2,
        "--budget.steps",
        6,
        *SMALL,
    ]
    assert vigreux("cache", *data, *student, "--cache.path", "cache").code == 0
    refused = vigreux(
        "distill", *data, "--task.boundary_level", 1, *student, "--cache.path", "cache", "--output", "run"
    )
    assert refused.code == 2
    assert "was made with another task" in refused.err
    rules.write_text(RULES.replace("a -> y\n", "a -> x x\n"))
    refused = vigreux("distill", *data, *student, "--cache.path", "cache", "--output", "run")
    assert refused.code == 2
    assert "was made with another data" in refused.err


def test_a_capture_goes_on_with_its_own_projection(
    vigreux: Vigreux, tiny: Tiny, llama: Path, tmp_path: Path
) -> None:
    """Principal components are those of a seed's first batches: shards of another seed's would not fit the
    ones that are there.
    """
    options = common(llama, tiny, "causal-lm", "--student.init", "random", *EXACT, "--cache.path", "cache")
    assert vigreux("cache", *options, "--seed", 0).code == 0
    path = tmp_path / "cache" / "train" / "shard-00001.safetensors"
    before = path.read_bytes()
    path.unlink()
    assert vigreux("cache", *options, "--seed", 1).code == 0
    assert path.read_bytes() == before


def test_a_teacher_that_is_loaded_otherwise_is_another(vigreux: Vigreux, tiny: Tiny, llama: Path) -> None:
    """A quantised one has other signals than its weights."""
    options = common(llama, tiny, "causal-lm")
    assert vigreux("cache", *options, "--cache.path", "cache").code == 0
    eager = ["--teacher.options", "{attn_implementation: eager}"]
    refused = vigreux("distill", *options, *eager, "--cache.path", "cache", "--output", "run")
    assert refused.code == 2
    assert "teacher (final)" in refused.err
