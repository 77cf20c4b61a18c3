"""`vigreux.sweep`: where runs are, what is run, and what happens to the others when one fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vigreux
from vigreux.backends.two_layer import build
from vigreux.config.shared import BudgetConfig
from vigreux.config.two_layer import TwoLayerConfig, TwoLayerTeacherConfig
from vigreux.errors import CheckpointError, ConfigError, TrainingError
from vigreux.files.lock import FolderLock
from vigreux.sweeps.folders import settings_fingerprint
from vigreux.sweeps.sweep import RunsFailedError, sweep


def by_seed(config: TwoLayerConfig, *seeds: int) -> dict[str, TwoLayerConfig]:
    return {f"seed{seed}": replace(config, seed=seed) for seed in seeds}


def test_runs_are_placed_by_their_names(config: TwoLayerConfig, capsys: pytest.CaptureFixture[str]) -> None:
    result = vigreux.sweep(by_seed(config, 3, 1), "grid")
    assert list(result.runs) == ["seed3", "seed1"]
    assert [run.path for run in result.runs.values()] == [Path("grid/seed3"), Path("grid/seed1")]
    assert result.trained == ("seed3", "seed1")
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("run ")] == ["run 1 of 2: seed3", "run 2 of 2: seed1"]
    (row,) = result.table().rows
    assert (row.finished, row.total) == (2, 2)


def test_finished_runs_are_kept_on_a_resume(
    config: TwoLayerConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(by_seed(config, 0), "grid", quiet=True)
    before = Path("grid/seed0/summary.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"grid/seed0: already holds a run"):
        sweep(by_seed(config, 0, 1), "grid", quiet=True)
    result = sweep(by_seed(config, 0, 1), "grid", resume=True, quiet=True)
    assert list(result.runs) == ["seed0", "seed1"]
    assert result.trained == ("seed1",)
    assert Path("grid/seed0/summary.json").read_bytes() == before
    assert capsys.readouterr().out == ""


def test_a_run_of_another_configuration_is_not_resumed(config: TwoLayerConfig) -> None:
    sweep(by_seed(config, 0), "grid", quiet=True)
    other = replace(config, budget=BudgetConfig(steps=96))
    with pytest.raises(CheckpointError, match="another configuration: budget"):
        sweep(by_seed(other, 0), "grid", resume=True, quiet=True)


def test_a_run_of_the_same_settings_counts_whatever_its_name(config: TwoLayerConfig) -> None:
    first = sweep({"first": config}, "lab", folders="settings", resume=True, quiet=True)
    same = sweep({"second": config}, "lab", folders="settings", resume=True, quiet=True)
    assert same.runs["second"].path == first.runs["first"].path
    assert same.trained == ()
    other = sweep({"second": replace(config, seed=1)}, "lab", folders="settings", resume=True, quiet=True)
    assert other.runs["second"].path.name.startswith("second-")
    with pytest.raises(CheckpointError, match="already holds a run"):
        sweep({"third": config}, "lab", folders="settings", quiet=True)


def test_runs_of_the_same_settings_are_trained_once(config: TwoLayerConfig) -> None:
    result = sweep({"a": config, "b": config}, "lab", folders="settings", quiet=True)
    assert result.runs["a"].path == result.runs["b"].path
    assert result.trained == ("a",)


def test_names_that_share_a_run_share_its_failure(
    config: TwoLayerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_for(1, TrainingError("the loss is nan"), monkeypatch)
    configs = {"first": config, "a": replace(config, seed=1), "b": replace(config, seed=1)}
    with pytest.raises(RunsFailedError, match="2 of 3 runs failed") as caught:
        sweep(configs, "lab", folders="settings", quiet=True)
    assert list(caught.value.result.failures) == ["a", "b"]


def test_the_fingerprint_is_of_what_changes_the_result(config: TwoLayerConfig, tmp_path: Path) -> None:
    print_of = settings_fingerprint(config, tmp_path)
    assert len(print_of) == 12
    assert settings_fingerprint(replace(config, output="elsewhere"), tmp_path) == print_of
    threads = replace(config, training=replace(config.training, threads=7))
    assert settings_fingerprint(threads, tmp_path) == print_of
    assert settings_fingerprint(replace(config, seed=5), tmp_path) != print_of
    taught = [
        replace(config, teacher=TwoLayerTeacherConfig(str(root / "teacher")))
        for root in (tmp_path, tmp_path / "moved")
    ]
    assert settings_fingerprint(taught[0], tmp_path) == settings_fingerprint(taught[1], tmp_path / "moved")


def fail_for(seed: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Runs of this seed fail; gives the seeds in the order in which they run."""
    run_two_layer, order = build.run_two_layer, []

    def failing(config: TwoLayerConfig, **options: bool) -> object:
        order.append(config.seed)
        if config.seed == seed:
            raise error
        return run_two_layer(config, **options)

    monkeypatch.setattr(build, "run_two_layer", failing)
    return order


def test_a_sweep_goes_on_past_a_run_that_fails(
    config: TwoLayerConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order = fail_for(1, TrainingError("the loss is nan"), monkeypatch)
    with pytest.raises(RunsFailedError, match=r"1 of 3 runs failed \(seed1: the loss is nan\)") as caught:
        sweep(by_seed(config, 0, 1, 2), "grid", quiet=True)
    assert order == [0, 1, 2]
    assert isinstance(caught.value, TrainingError)
    assert list(caught.value.result.runs) == ["seed0", "seed2"]
    assert caught.value.result.failures == {"seed1": "the loss is nan"}
    assert capsys.readouterr().err == "vigreux: seed1 failed: the loss is nan\n"


def test_what_the_first_run_refuses_ends_the_sweep(
    config: TwoLayerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = fail_for(0, ConfigError("no"), monkeypatch)
    with pytest.raises(ConfigError, match="no"):
        sweep(by_seed(config, 0, 1), "grid", quiet=True)
    assert order == [0]


def test_all_configurations_are_checked_before_the_first_run(config: TwoLayerConfig) -> None:
    configs = by_seed(config, 0) | {"untaught": replace(config, curriculum="one-shot")}
    with pytest.raises(ConfigError, match=r"teacher\.model: missing"):
        sweep(configs, "grid", quiet=True)
    with pytest.raises(ConfigError, match=r"configs: 'a/b'; accepted: names of folders"):
        sweep({"a/b": config}, "grid")
    with pytest.raises(ConfigError, match="configs: is empty"):
        sweep({}, "grid")
    with pytest.raises(ConfigError, match="jobs: 0; accepted: a whole number from 1"):
        sweep(by_seed(config, 0), "grid", jobs=0)
    assert not Path("grid").exists()


def test_one_sweep_at_a_time_writes_a_folder(config: TwoLayerConfig) -> None:
    Path("grid").mkdir()
    lock = FolderLock(Path("grid"))
    lock.take()
    with pytest.raises(CheckpointError, match="grid: is being written by another comparison or sweep"):
        sweep(by_seed(config, 0), "grid", quiet=True)
    lock.release()
    sweep(by_seed(config, 0), "grid", quiet=True)


def test_processes_give_what_one_process_gives(config: TwoLayerConfig) -> None:
    here = sweep(by_seed(config, 0, 1), "here", quiet=True)
    beside = sweep(by_seed(config, 0, 1), "beside", jobs=2, quiet=True)
    for name, run in here.runs.items():
        files = [folder / "student" / "model.safetensors" for folder in (run.path, beside.runs[name].path)]
        assert files[0].read_bytes() == files[1].read_bytes()
