import errno

import pytest

from vigreux.errors import CheckpointError, TrainingError
from vigreux.files import atomic as files


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_write_atomic_keeps_the_old_content_when_it_is_stopped_before_the_end(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    files.write_atomic(path, "old")
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    files.write_atomic(path, b"new")
    assert path.read_text() == "new"


def test_append_and_read_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert files.read_lines(path) == []
    files.append_line(path, {"loss": 0.5, "name": "a\nb"})
    files.append_line(path, {"loss": float("nan"), "all": [float("inf"), 1]})
    assert files.read_lines(path) == [{"loss": 0.5, "name": "a\nb"}, {"loss": None, "all": [None, 1]}]
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("torn", [b'{"loss": 0.', b'{"loss": 0.25}', b"\0\0\0\0", b"\0\0\n", b"[1]\n"])
def test_a_torn_last_line_is_left_out(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    files.append_line(path, {"loss": 0.5})
    with open(path, "ab") as file:
        file.write(torn)
    assert files.read_lines(path) == [{"loss": 0.5}]


def test_a_damaged_line_before_the_last_is_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"loss": 1}\n{"los\n{"loss": 2}\n')
    with pytest.raises(CheckpointError) as error:
        files.read_lines(path)
    assert (
        one_line(error)
        == f"{path}: line 2 is damaged (found b'{{\"los\\n'); accepted: one JSON record a line"
    )


def test_a_full_disk_is_one_line():
    with pytest.raises(TrainingError) as error:
        files.append_line("/dev/full", {"loss": 1.0})
    assert (
        one_line(error)
        == "/dev/full: the disk is full; free some space, then --resume continues from the last checkpoint"
    )


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    files.write_atomic(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(TrainingError, match="the disk is full"):
        files.write_atomic(path, "new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("run.json", "old")]


def test_a_file_that_another_process_has_just_renamed_is_no_link(tmp_path, monkeypatch):
    """The temporary file of another process was listed, and is gone when it is looked at."""
    files.write_atomic(tmp_path / "cache.json", "{}")
    monkeypatch.setattr(
        files.os, "walk", lambda folder: [(str(folder), [], [".cache.json.1.tmp", "cache.json"])]
    )
    files.check_no_links(tmp_path)
    (tmp_path / ".cache.json.1.tmp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="is a symbolic link"):
        files.check_no_links(tmp_path)
