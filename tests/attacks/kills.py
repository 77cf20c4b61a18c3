"""Kills runs and captures at random moments, and lets several processes resume at once.

    python -m tests.attacks.kills --kills 40

The long version of test_resume.py, test_cache_kills.py and the two-layer test_engine.py, with real SIGKILLs.
After each kill the run goes on, and in the end weights and records must be those of a run that nobody
stopped. Prints what was tried; the exit code is 1 where anything differed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from tests.backends.transformer import test_cache_kills, test_damage, test_resume, tiny
from tests.backends.transformer.caches import captured
from tests.backends.two_layer import test_engine as two_layer
from vigreux.errors import VigreuxError
from vigreux.run.checkpoints import latest_checkpoint
from vigreux.run.folder import RunFolder

Go = Callable[[Path], None]  # starts the run in a folder, or goes on with it


# --- what is attacked ---------------------------------------------------------------------------------------


def transformers_run(root: Path) -> None:
    tiny.run(test_resume.case("carried"), root, resume=(root / "run.json").exists())


def two_layer_run(root: Path) -> None:
    teachers = two_layer.TwoLayerTeachers.find(
        str(root.parent / "teachers" / "final"), str(root.parent / "teachers")
    )
    two_layer.run(two_layer.case("chain", teachers), root, resume=(root / "run.json").exists())


def capture(root: Path) -> None:
    captured(test_cache_kills.setup(), root, test_cache_kills.CACHE)


def same_transformers(found: Path, expected: Path) -> None:
    test_resume.assert_same_run(found, expected)


def same_two_layer(found: Path, expected: Path) -> None:
    two_layer.assert_same_run(RunFolder.open(found), RunFolder.open(expected))


def same_capture(found: Path, expected: Path) -> None:
    whole = [
        {name: data for name, data in test_cache_kills.contents(root).items() if not name.endswith(".tmp")}
        for root in (found, expected)
    ]
    assert whole[0] == whole[1]


# --- processes ----------------------------------------------------------------------------------------------


def forked(go: Go, root: Path) -> int:
    """The number of a process that runs `go`: it ends with 0, or with 2 and one line in `said`."""
    child = os.fork()
    if child:
        return child
    try:
        warnings.simplefilter("ignore")
        go(root)
        os._exit(0)
    except VigreuxError as error:
        said(root, os.getpid()).write_text(str(error))
        os._exit(2)
    except BaseException as error:
        said(root, os.getpid()).write_text(repr(error))
        os._exit(1)


def said(root: Path, child: int) -> Path:
    return root.parent / f"said-{child}.txt"


def ended(child: int) -> int:
    """How a process ended: its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finish(go: Go, root: Path) -> None:
    child = forked(go, root)
    if (code := ended(child)) != 0:
        raise AssertionError(f"{root}: ended with {code}: {said(root, child).read_text()}")


# --- attacks ------------------------------------------------------------------------------------------------


def kill_and_go_on(go: Go, same: Go, whole: Path, root: Path, seconds: float, draw: random.Random) -> int:
    """One to three kills at random moments, then to the end; returns how many hit a running process."""
    hits = 0
    for _ in range(draw.randint(1, 3)):
        child = forked(go, root)
        time.sleep(draw.random() * seconds)
        os.kill(child, signal.SIGKILL)
        hits += ended(child) == -signal.SIGKILL
    finish(go, root)
    same(root, whole)
    return hits


def resume_at_once(go: Go, same: Go, whole: Path, root: Path, seconds: float, count: int) -> None:
    """After a kill, several processes resume at once: one trains, the others say why not and
    change nothing.
    """
    child = forked(go, root)
    deadline = time.monotonic() + 60
    while not any(latest_checkpoint(path) for path in root.glob("stages/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    ended(child)
    children = [forked(go, root) for _ in range(count)]
    codes = sorted(ended(child) for child in children)
    lines = [said(root, child).read_text() for child in children if said(root, child).exists()]
    # one that comes after the first has finished finds nothing left to do
    assert codes[0] == 0, (codes, lines)
    assert set(codes) <= {0, 2}, (codes, lines)
    assert all("is being written by" in line and "\n" not in line for line in lines), lines
    assert RunFolder.open(root).info()["resumed"] == RunFolder.open(root).info()["resumed"][:1]
    same(root, whole)


def damage_everything(whole: Path, stopped: Path, folder: Path) -> tuple[int, int]:
    """Damages every file of a run folder in all four ways; returns the cases, and those refused in one line."""  # noqa: E501
    import shutil

    cases = refused = 0
    for name in test_damage.files_of(stopped):
        for damage in test_damage.DAMAGES.values():
            root = folder / "damaged"
            shutil.copytree(stopped, root)
            damage(root / name)
            line = test_damage.resumed(root)
            cases += 1
            if line is None:
                test_resume.assert_same_run(root, whole)
            else:
                refused += 1
                assert "\n" not in line
                assert name == "run.json", line
            shutil.rmtree(root)
    return cases, refused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40, help="of training runs, in each backend")
    parser.add_argument("--captures", type=int, default=20, help="kills during a capture")
    parser.add_argument("--resumes", type=int, default=10, help="times that two, and three, resume at once")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw, failures = random.Random(args.seed), 0
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    attacked: dict[str, tuple[Go, Callable[[Path, Path], None], int]] = {
        "transformers": (transformers_run, same_transformers, args.kills),
        "two-layer": (two_layer_run, same_two_layer, args.kills),
        "capture": (capture, same_capture, args.captures),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, (go, same, kills) in attacked.items():
            whole = folder / name / "whole"
            whole.parent.mkdir()
            if name == "two-layer":
                two_layer.save_teachers(whole.parent / "teachers")
            finish(go, whole)  # compiles and loads what is loaded once
            start = time.monotonic()
            finish(go, folder / name / "timed")
            seconds, hits, place = time.monotonic() - start, 0, 0
            while hits < kills and place < 20 * kills:
                place += 1
                try:
                    hits += kill_and_go_on(go, same, whole, folder / name / f"run{place}", seconds, draw)
                except AssertionError as error:
                    failures += 1
                    print(f"{name}: {error}", flush=True)
            print(f"{name}: {hits} kills in {place} runs, {failures} failures so far", flush=True)
            for count in (2, 3) if name != "capture" else ():
                for turn in range(args.resumes):
                    try:
                        resume_at_once(
                            go, same, whole, folder / name / f"at-once{count}-{turn}", seconds, count
                        )
                    except AssertionError as error:
                        failures += 1
                        print(f"{name}: {error}", flush=True)
                print(
                    f"{name}: {args.resumes} times {count} resumed at once, {failures} failures so far",
                    flush=True,
                )
        stopped = folder / "stopped"
        for point in ("between two stages", "between two stages", "after a checkpoint's manifest"):
            test_resume.killed(test_resume.case("carried"), stopped, point)
        cases, refused = damage_everything(folder / "transformers" / "whole", stopped, folder)
        print(
            f"damage: {cases} cases, {cases - refused} with the same bits, {refused} refused in one line",
            flush=True,
        )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
