"""Processes that run configurations side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from vigreux.errors import VigreuxError

if TYPE_CHECKING:
    from joblib.externals.loky import ProcessPoolExecutor

THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
KILLED = "its process was killed"


class Workers:
    """`jobs` processes; each runs one function after another.

    The processes are separate pools of one process each. If the operating system kills one (it does so when
    memory runs out), only the run of that process fails, and a new process takes its place. A single pool of
    several processes would fail as a whole.
    """

    def __init__(self, jobs: int, threads: int | None = None) -> None:
        """Starts nothing yet.

        Args:
            jobs: The number of processes.
            threads: The threads of each process; without it the processes share the processors evenly.
        """
        self.jobs = jobs
        self.threads = threads
        self._idle: SimpleQueue[ProcessPoolExecutor | None] = SimpleQueue()
        for _ in range(jobs):
            self._idle.put(None)  # started at the first use
        self._started: list[ProcessPoolExecutor] = []

    def run(
        self, functions: Mapping[str, Callable[[], object]]
    ) -> Generator[tuple[str, str | None], None, None]:
        """Calls each function in one of the processes, in order.

        Yields:
            The name of a function that ended, and the reason if it failed with a `VigreuxError` or its
            process was killed.
        """
        calls = ThreadPoolExecutor(self.jobs)
        futures = {calls.submit(self._call, function): name for name, function in functions.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], _failure(future)
        except BaseException:  # an interruption ends all runs
            calls.shutdown(wait=False, cancel_futures=True)
            self.close()
            raise
        calls.shutdown()

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        for process in self._started:
            process.shutdown(wait=False, kill_workers=True)
        self._started.clear()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, function: Callable[[], object]) -> None:
        process = self._idle.get() or self._start()
        try:
            process.submit(function).result()
        except BrokenProcessPool:
            process = None
            raise
        finally:
            self._idle.put(process)

    def _start(self) -> ProcessPoolExecutor:
        from joblib.externals.loky import ProcessPoolExecutor

        process = ProcessPoolExecutor(1, env=self._environment())
        self._started.append(process)
        return process

    def _environment(self) -> dict[str, Any]:
        """torch and numba read these variables once, when they are loaded."""
        from joblib import cpu_count

        if self.threads is not None:
            return dict.fromkeys(THREAD_SETTINGS, str(self.threads))
        share = max(1, cpu_count() // self.jobs)
        return {name: os.environ.get(name, str(share)) for name in THREAD_SETTINGS}


def _failure(future: Future[None]) -> str | None:
    try:
        future.result()
    except VigreuxError as error:
        return str(error)
    except BrokenProcessPool:
        return KILLED
    return None
