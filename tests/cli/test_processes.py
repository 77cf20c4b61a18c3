"""The commands of docs/scaling.md, on two processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL, Vigreux
from tests.cli.tiny import Tiny
from tests.processes import two_ranks
from vigreux.run.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")
SIZES = ["--student.layers", 2, "--student.hidden", 16, "--task.max_length", 16, "--budget.steps", 6]
LAUNCH = [
    sys.executable,
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


def launch(*argv: object, cwd: Path) -> str:
    """`accelerate launch -m vigreux …`, on CPUs; gives what it printed."""
    command = [*LAUNCH, "-m", "vigreux", *map(str, argv)]
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def ranks(*argv: object, cwd: Path) -> str:
    """The same without the launcher."""
    ended = two_ranks("vigreux", *argv, cwd=cwd)
    assert [rank.code for rank in ended] == [0, 0], "\n".join(rank.err[-4000:] for rank in ended)
    return "".join(rank.out for rank in ended)


def test_two_processes_write_a_cache_and_train_from_it_and_with_everything_spread(
    vigreux: Vigreux, tiny: Tiny, llama: Path, tmp_path: Path
) -> None:
    small = [*SMALL, "--training.per_device_train_batch_size"]
    options = ["--teacher.model", llama, "--task.kind", "causal-lm", "--task.data", tiny.text, *SIZES]
    alone = vigreux("distill", *options, *small, 4, "--output", "alone")
    assert alone.code == 0, alone.err
    shown = ranks(
        "cache", *options, *small, 2, "--cache.path", "cache", "--cache.shard_samples", 8, cwd=tmp_path
    )
    assert shown.count("cache: cache") == 1
    shown = ranks(
        "distill",
        *options,
        *small,
        2,
        "--cache.path",
        "cache",
        "--sharded",
        "true",
        "--output",
        "cached",
        cwd=tmp_path,
    )
    assert shown.count("cached/student") == 1
    ranks(
        "distill",
        *options,
        *small,
        2,
        "--sharded",
        "true",
        "--teacher.sharded",
        "true",
        "--output",
        "spread",
        cwd=tmp_path,
    )
    expected = RunFolder.open(tmp_path / "alone").summary()
    assert expected is not None
    for name, rel in (("spread", 1e-4), ("cached", 1e-2)):
        found = RunFolder.open(tmp_path / name).summary()
        assert found is not None
        assert found.metrics["loss"] == pytest.approx(expected.metrics["loss"], rel=rel), name
        assert found.steps == expected.steps


def test_a_spread_model_is_taught_as_a_whole_one(vigreux: Vigreux, tiny: Tiny, tmp_path: Path) -> None:
    options = [
        "--task.kind",
        "causal-lm",
        "--task.data",
        tiny.text,
        "--task.max_length",
        16,
        "--budget.steps",
        6,
        *SMALL,
    ]
    options += [
        "--model.family",
        "llama",
        "--model.layers",
        2,
        "--model.hidden",
        16,
        "--model.heads",
        2,
        "--model.vocab_size",
        300,
    ]
    alone = vigreux("teach", *options, "--output", "alone")
    assert alone.code == 0, alone.err
    options += ["--training.per_device_train_batch_size", 2, "--sharded", "true"]
    launch("teach", *options, "--output", "spread", cwd=tmp_path)
    losses = [RunFolder.open(tmp_path / name).metrics("train")[-1]["loss"] for name in ("alone", "spread")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize(
    ("variable", "flag"),
    [("ACCELERATE_USE_FSDP", "--use_fsdp"), ("ACCELERATE_USE_DEEPSPEED", "--use_deepspeed")],
)
def test_a_launcher_that_shards_by_itself_is_refused(
    variable: str,
    flag: str,
    vigreux: Vigreux,
    tiny: Tiny,
    llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(variable, "true")
    options = ["--teacher.model", llama, "--task.kind", "causal-lm", "--task.data", tiny.text, *SIZES, *SMALL]
    refused = vigreux("distill", *options, "--output", "run")
    assert refused.code == 2
    assert f"accelerate launch {flag}: " in refused.err
    assert "accepted: --multi_gpu with sharded: true" in refused.err
    assert not (tmp_path / "run").exists()


def test_a_comparison_has_no_spread_teacher(vigreux: Vigreux, tiny: Tiny, llama: Path) -> None:
    options = ["--teacher.model", llama, "--task.kind", "causal-lm", "--task.data", tiny.text, *SIZES, *SMALL]
    refused = vigreux("compare", *options, "--teacher.sharded", "true", "--output", "grid")
    assert refused.code == 2
    assert "teacher.sharded: true, and a comparison prepares its runs on one process" in refused.err
