"""Each file that a resume reads, flipped, cut, emptied or deleted: the same bits, or one line before
training.
"""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import shutil
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import SafetensorError

from tests.backends.transformer.test_resume import assert_same_run, case, killed
from tests.backends.transformer.tiny import run
from tests.backends.two_layer import test_engine as two_layer
from vigreux.errors import CheckpointError, VigreuxError
from vigreux.run.checkpoints import latest_checkpoint, write_manifest
from vigreux.run.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")


def flip(path: Path) -> None:
    """Changes one byte, at a place that follows from the file's name."""
    data = bytearray(path.read_bytes())
    data[zlib.crc32(path.name.encode()) % len(data)] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


DAMAGES = {"flip": flip, "cut": cut, "empty": empty, "delete": Path.unlink}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "run"
    run(case("carried"), root)
    return root


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed inside the last stage, with a checkpoint of that stage."""
    root = tmp_path_factory.mktemp("stopped") / "run"
    killed(case("carried"), root, "between two stages")
    killed(case("carried"), root, "between two stages")
    killed(case("carried"), root, "after a checkpoint's manifest")
    return root


@pytest.fixture
def ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def files_of(root: Path) -> list[str]:
    names = (
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.stat().st_size
    )
    return sorted(names)


def resumed(root: Path) -> str | None:
    """Goes on with a run; the line where it is refused."""
    try:
        run(case("carried"), root, resume=True)
    except VigreuxError as error:
        return str(error)
    return None


def cases_of(root: Path) -> list[tuple[str, str]]:
    """A file of each kind with one damage; weights and states are flipped.

    tests/attacks/kills.py tries all files with all four damages.
    """
    ways = itertools.cycle(DAMAGES)
    names = [name for name in files_of(root) if not name.startswith("stages/00") or "carried" in name]
    return [(name, "flip" if Path(name).suffix in (".safetensors", ".pt") else next(ways)) for name in names]


def test_every_file(whole: Path, stopped: Path, tmp_path: Path, ignored: None) -> None:
    root = tmp_path / "run"
    for name, damage in cases_of(stopped):
        shutil.copytree(stopped, root)
        DAMAGES[damage](root / name)
        line = resumed(root)
        if name == "run.json":  # which holds all that is asked: without it nothing can be gone on with
            assert line is not None, damage
            assert "run.json" in line
            assert "\n" not in line
        else:
            assert line is None, (name, damage)
            assert_same_run(root, whole)
        shutil.rmtree(root)


def test_every_file_of_a_two_layer_run(tmp_path: Path, ignored: None) -> None:
    teachers = two_layer.save_teachers(tmp_path / "teacher")
    expected = two_layer.run(two_layer.case("chain", teachers), tmp_path / "whole")
    stopped, root = tmp_path / "stopped", tmp_path / "run"
    for point in ("between two stages", "between two stages", "after a manifest"):
        two_layer.killed(two_layer.case("chain", teachers), stopped, point)
    for name, damage in cases_of(stopped):
        shutil.copytree(stopped, root)
        DAMAGES[damage](root / name)
        if name == "run.json":
            with pytest.raises(CheckpointError, match=r"run\.json"):
                two_layer.run(two_layer.case("chain", teachers), root, resume=True)
        else:
            found = two_layer.run(two_layer.case("chain", teachers), root, resume=True)
            two_layer.assert_same_run(found, expected)
        shutil.rmtree(root)


@pytest.mark.parametrize("name", ["metrics.jsonl", "stages.jsonl", "config.yaml", "plan.json"])
def test_what_was_damaged_is_said(name: str, stopped: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(stopped, root)
    flip(root / name)
    with pytest.warns(UserWarning, match=rf"{name}: .*damaged"):
        assert resumed(root) is None


def test_the_states_that_a_stage_hands_on(whole: Path, tmp_path: Path) -> None:
    """Damaged between two stages, where only they say what the next one's optimiser begins with."""
    root = tmp_path / "run"
    killed(case("carried"), root, "between two stages")
    (states,) = root.glob("stages/00-*/carried/optimizer_states.pt")
    flip(states)
    with pytest.warns(UserWarning, match="is missing or damaged: done again"):
        assert resumed(root) is None
    assert_same_run(root, whole)


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "optimizer_states.pt"])
def test_a_pickle_that_would_run_code(name: str, tmp_path: Path, ignored: None) -> None:
    """Even with a manifest that agrees."""
    root, mark = tmp_path / "run", tmp_path / "mark"
    point = "between two stages" if name == "optimizer_states.pt" else "after a checkpoint's manifest"
    killed(case("carried"), root, point)
    (directory,) = {path.parent for path in root.rglob(name)}
    (directory / name).write_bytes(pickle.dumps(Payload(mark)))
    write_manifest(directory)
    line = resumed(root)
    assert line is not None
    assert "\n" not in line
    assert not mark.exists()
    assert RunFolder.open(root).status == "failed"


@pytest.mark.parametrize(
    "manifest",
    [
        '{"files": {}}',
        '{"files": null}',
        '{"files": {"/etc/passwd": {"bytes": 1, "sha256": "0"}}}',
        "[[[[",
        "[]",
    ],
)
def test_a_manifest_that_covers_no_weights(
    manifest: str, stopped: Path, whole: Path, tmp_path: Path, ignored: None
) -> None:
    root = tmp_path / "run"
    shutil.copytree(stopped, root)
    checkpoint = latest_checkpoint(next(root.glob("stages/02-*")))
    assert checkpoint is not None
    (checkpoint / "manifest.json").write_text(manifest)
    flip(checkpoint / "model.safetensors")
    assert resumed(root) is None
    assert_same_run(root, whole)


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "student.tmp", "stages/02-final", ".lock", "initial", "new.txt"]
)
def test_nothing_is_written_through_a_link(name: str, stopped: Path, tmp_path: Path) -> None:
    root, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(stopped, root)
    if "." in name and name != "student.tmp":
        outside.write_text("mine")
    else:
        outside.mkdir()
    inside = root / name
    if inside.is_dir():
        shutil.rmtree(inside)
    inside.unlink(missing_ok=True)
    inside.symlink_to(outside)
    before = sorted(path.name for path in outside.iterdir()) if outside.is_dir() else outside.read_text()
    line = resumed(root)
    assert line is not None
    assert f"{inside}: is a symbolic link" in line
    after = sorted(path.name for path in outside.iterdir()) if outside.is_dir() else outside.read_text()
    assert before == after
    assert RunFolder.open(root).status == "stopped"


def test_the_folder_itself_may_be_a_link(stopped: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "elsewhere")
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    assert resumed(tmp_path / "run") is None
    assert_same_run(tmp_path / "run", whole)


def test_a_file_that_the_manifest_does_not_name(
    stopped: Path, whole: Path, tmp_path: Path, ignored: None
) -> None:
    root = tmp_path / "run"
    shutil.copytree(stopped, root)
    checkpoint = latest_checkpoint(next(root.glob("stages/02-*")))
    assert checkpoint is not None
    (checkpoint / "notes.txt").write_text("a nearest neighbour: it is not loaded")
    assert latest_checkpoint(checkpoint.parent) == checkpoint
    (checkpoint / "adapter_config.json").write_text("{}")
    assert latest_checkpoint(checkpoint.parent) is None
    assert resumed(root) is None
    assert_same_run(root, whole)


def test_the_first_weights_of_another_student(tmp_path: Path) -> None:
    """Damaged before a checkpoint stands for them: another student does not take their place."""
    root = tmp_path / "run"
    killed(case("carried"), root, "at the second step")
    flip(root / "initial" / "model.safetensors")
    folder = RunFolder.open(root)
    folder._write_info({**folder.info(), "fingerprints": {"student": "another"}})
    with pytest.raises(
        CheckpointError, match="first weights are missing or damaged, and this student has others"
    ):
        run(case("carried"), root, resume=True)


# --- what cannot be written ---------------------------------------------------------------------------------

FAILURES: dict[str, tuple[Exception, str]] = {
    "of Python": (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
    "of tokenizers": (Exception("No space left on device (os error 28)"), "the disk is full"),
    "of torch": (
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos"),
        "the disk is full",
    ),
    "of safetensors": (
        SafetensorError("I/O error: No space left on device (os error 28)"),
        "the disk is full",
    ),
    "a quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
    "a limit": (OSError(errno.EFBIG, "File too large", "student.tmp"), "student.tmp: cannot be written"),
    "a permission": (PermissionError(errno.EACCES, "Permission denied", "x"), "x: cannot be written"),
    "another permission": (Exception("Permission denied (os error 13)"), "cannot be written"),
    "moved away": (FileNotFoundError(errno.ENOENT, "No such file", "run"), "run: was moved or deleted"),
    "memory": (MemoryError(), "not enough memory"),
    "memory of torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_cannot_be_written_is_one_line(
    name: str, stopped: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignored: None
) -> None:
    """While the finished student is saved; once there is room the run goes on to the same bits."""
    root = tmp_path / "run"
    shutil.copytree(stopped, root)
    error, message = FAILURES[name]

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr("vigreux.backends.transformer.backend.write_card", failing)
    line = resumed(root)
    assert line is not None
    assert message in line
    assert "\n" not in line
    assert RunFolder.open(root).status == "failed"
    assert RunFolder.open(root).info()["failure"]
    monkeypatch.undo()
    assert resumed(root) is None
    assert_same_run(root, whole)


def test_an_error_of_our_own_is_not_hidden(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "run"
    shutil.copytree(stopped, root)

    def failing(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("vigreux.backends.transformer.backend.write_card", failing)
    with pytest.raises(RuntimeError, match="a bug"):
        run(case("carried"), root, resume=True)
    assert RunFolder.open(root).status == "failed"


# --- a finished run -----------------------------------------------------------------------------------------


def test_a_finished_student(whole: Path, tmp_path: Path) -> None:
    """Deleted it is saved again; damaged it is named, and nothing of it is overwritten."""
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    assert resumed(root) is None
    shutil.rmtree(root / "student")
    assert resumed(root) is None
    assert_same_run(root, whole)
    (root / "student" / "README.md").write_text("mine")
    assert resumed(root) is None
    assert RunFolder.open(root).has_student()
    flip(root / "student" / "model.safetensors")
    before = (root / "student" / "model.safetensors").read_bytes()
    line = resumed(root)
    assert line is not None
    assert (
        "student: model.safetensors is damaged (its SHA-256 differs from the recorded one); accepted: delete"
        in line
    )
    assert (root / "student" / "model.safetensors").read_bytes() == before
