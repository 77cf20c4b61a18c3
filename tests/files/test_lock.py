"""One writer a folder: whatever the lock file holds, and however many come at once."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from vigreux.errors import CheckpointError
from vigreux.files.lock import LOCK, SOFT_LOCK, FolderBusyError, FolderLock, is_locked
from vigreux.run.folder import RunFolder

CONFIG = {"seed": 0}

# resumes when it is told to, says how that went, and holds the run until its input ends
RESUMER = """
import sys
from vigreux.errors import VigreuxError
from vigreux.run.folder import RunFolder
print("ready", flush=True)
sys.stdin.readline()
try:
    run = RunFolder.resume(sys.argv[1], {"seed": 0})
except VigreuxError as error:
    print(error, flush=True)
    sys.exit(2)
print("taken", flush=True)
sys.stdin.readline()
"""
# takes a new run, forks a worker that outlives it, and waits to be killed
PARENT = """
import os, sys, time
from vigreux.run.folder import RunFolder
run = RunFolder.create(sys.argv[1], {"seed": 0}, [])
if os.fork() == 0:
    print("ready", flush=True)  # the child says so: it has let go of the lock by now
    time.sleep(20)
    os._exit(0)
time.sleep(20)
"""


def process(code: str, path: Path) -> subprocess.Popen[str]:
    made = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert made.stdout is not None
    assert made.stdout.readline() == "ready\n"
    return made


def end(made: subprocess.Popen[str]) -> None:
    os.killpg(made.pid, signal.SIGKILL)
    made.wait()


def at_once(path: Path, count: int) -> list[str]:
    """What so many processes say that resume at the same moment, while this one reads the run's status."""
    processes = [process(RESUMER, path) for _ in range(count)]
    try:
        for each in processes:
            each.stdin.write("go\n")
            each.stdin.flush()
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            RunFolder.open(path).status  # noqa: B018  (asks for the lock, and must not keep anybody from it)
        return sorted(each.stdout.readline() for each in processes)
    finally:
        for each in processes:
            end(each)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("ended", ["killed", "failed"])
def test_of_several_that_resume_at_once_one_goes_on(count: int, ended: str, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG, [])
    if ended == "failed":
        run.fail("interrupted")
    run.close()
    for _ in range(2):  # and again, after the one that went on was killed
        lines = at_once(run.path, count)
        assert lines.count("taken\n") == 1
        assert all("is being written by " in line for line in lines if line != "taken\n")
        assert RunFolder.open(run.path).status == "stopped"
    assert len(run.info()["resumed"]) == 2, "those that were refused changed nothing"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_worker_that_outlives_a_killed_run_does_not_keep_its_lock(tmp_path: Path) -> None:
    parent = process(PARENT, tmp_path / "run")
    try:
        assert RunFolder.open(tmp_path / "run").status == "running"
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert RunFolder.open(tmp_path / "run").status == "stopped"
        RunFolder.resume(tmp_path / "run", CONFIG).close()
    finally:
        os.killpg(parent.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"\xff\xfe\x00rubbish",
        b"process " + b"9" * 400 + b" on here",
        f"process {os.getppid()} on x".encode(),
    ],
)
def test_what_the_lock_file_holds_does_not_matter(rubbish: bytes, tmp_path: Path) -> None:
    RunFolder.create(tmp_path, CONFIG, []).close()
    (tmp_path / LOCK).write_bytes(rubbish)
    assert RunFolder.open(tmp_path).status == "stopped"
    with RunFolder.resume(tmp_path, CONFIG) as run:
        assert run.status == "running"
        assert RunFolder.open(tmp_path).status == "running"


def test_a_process_number_that_is_another_s(tmp_path: Path) -> None:
    """run.json names a process that lives, and is not the writer any more."""
    run = RunFolder.create(tmp_path, CONFIG, [])
    run._write_info({**run.info(), "writer": f"process {os.getppid()} on here"})
    run.close()
    assert RunFolder.open(tmp_path).status == "stopped"
    RunFolder.resume(tmp_path, CONFIG).close()


def test_asking_changes_nothing(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
    lock = FolderLock(tmp_path)
    lock.take()
    lock.take()  # once more is nothing
    for _ in range(3):
        assert is_locked(tmp_path)
    with pytest.raises(FolderBusyError):
        FolderLock(tmp_path).take()
    lock.release()
    assert not is_locked(tmp_path)


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in one line; the existence of a file stands for the lock."""

    def refused(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "flock", refused)
    lock = FolderLock(tmp_path)
    with pytest.warns(UserWarning, match="its file system has no locks") as said:
        lock.take()
    assert all("\n" not in str(warning.message) for warning in said)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert is_locked(tmp_path)
        with pytest.raises(FolderBusyError):
            FolderLock(tmp_path).take()
        lock.release()
        assert not is_locked(tmp_path)
        run = RunFolder.create(tmp_path / "run", CONFIG, [])
        with pytest.raises(CheckpointError, match="is being written by process"):
            RunFolder.resume(tmp_path / "run", CONFIG)
        run.close()
        assert not (tmp_path / "run" / SOFT_LOCK).exists()
