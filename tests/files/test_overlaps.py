"""A folder that is written never lies in one that is read."""

from dataclasses import replace
from pathlib import Path

import pytest

from vigreux.config.transformer import CacheConfig, RunConfig, TaskConfig, TeachConfig, TeacherConfig
from vigreux.errors import ConfigError
from vigreux.files.overlaps import check_overlaps


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.chdir(tmp_path)
    for name in ("data", "teacher", "data/deep"):
        Path(name).mkdir()
    Path("data/text.txt").write_text("a")
    return RunConfig(task=TaskConfig(data="data"), teacher=TeacherConfig(model="teacher"), output="run")


@pytest.mark.parametrize(
    "output", ["data/run", "data", "data/deep/run", "./data/../data/run", "teacher/run", "link/run"]
)
def test_an_output_in_what_is_read(config: RunConfig, output: str) -> None:
    Path("link").symlink_to("data")
    with pytest.raises(
        ConfigError, match=r"^output: .* lies in (task.data|teacher.model) '.*, and would be read"
    ) as error:
        check_overlaps(replace(config, output=output))
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"^cache.path: "):
        check_overlaps(replace(config, cache=CacheConfig(path=output)), "cache.path")


@pytest.mark.parametrize("output", ["run", "data-run", "runs/data", "../run"])
def test_an_output_beside_it(config: RunConfig, output: str) -> None:
    check_overlaps(replace(config, output=output))
    check_overlaps(replace(config, cache=CacheConfig(path=output)), "cache.path")
    check_overlaps(
        replace(config, task=TaskConfig(data="data/text.txt"), output="data/run")
    )  # a file, read alone


@pytest.mark.parametrize(("output", "cache"), [("a", "a"), ("a/b", "a"), ("a", "a/b")])
def test_run_folder_and_cache_in_each_other(config: RunConfig, output: str, cache: str) -> None:
    with pytest.raises(ConfigError, match="contain one another"):
        check_overlaps(replace(config, output=output, cache=CacheConfig(path=cache)))
    check_overlaps(replace(config, output=output, cache=CacheConfig(path="c")))


def test_several_folders_and_held_out_data(config: RunConfig) -> None:
    for task in (TaskConfig(data=["x.txt", "data"]), TaskConfig(data="x.txt", eval_data="data")):
        with pytest.raises(ConfigError, match="lies in task"):
            check_overlaps(replace(config, task=task, output="data/run"))
    with pytest.raises(ConfigError, match=r"lies in task\.data"):
        check_overlaps(TeachConfig(task=TaskConfig(data="data"), output="data/run"))
