"""Processes that run functions side by side: a failure or a kill concerns one function alone."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import pytest

from vigreux.errors import TrainingError
from vigreux.sweeps.workers import KILLED, THREAD_SETTINGS, Workers


def _succeed() -> None:
    pass


def _fail(reason: str) -> None:
    raise TrainingError(reason)


def _be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _check_threads(expected: str) -> None:
    threads = {name: os.environ[name] for name in THREAD_SETTINGS}
    if set(threads.values()) != {expected}:
        raise TrainingError(str(threads))


def _raise_unexpected() -> None:
    raise ZeroDivisionError


def test_a_failed_run_and_a_killed_process_take_no_other_run_with_them() -> None:
    functions = {
        "killed": _be_killed,
        "failed": partial(_fail, "the loss is nan"),
        "after": _succeed,
        "killed again": _be_killed,
        "last": _succeed,
    }
    with Workers(1) as workers:
        ended = dict(workers.run(functions))
    assert ended == {
        "killed": KILLED,
        "failed": "the loss is nan",
        "after": None,
        "killed again": KILLED,
        "last": None,
    }


def test_processes_have_their_threads_and_serve_several_sweeps() -> None:
    with Workers(1, threads=3) as workers:
        for _ in range(2):
            assert dict(workers.run({"a": partial(_check_threads, "3")})) == {"a": None}
        assert len(workers._started) == 1


def test_an_unexpected_error_is_not_hidden() -> None:
    with Workers(1) as workers, pytest.raises(ZeroDivisionError):
        dict(workers.run({"a": _raise_unexpected}))


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def test_an_interruption_ends_all_runs() -> None:
    began = time.monotonic()
    with Workers(2) as workers:
        ended = workers.run({"short": partial(_sleep, 0), "long": partial(_sleep, 300)})
        assert next(ended) == ("short", None)
        with pytest.raises(KeyboardInterrupt):
            ended.throw(KeyboardInterrupt)
    assert time.monotonic() - began < 200
