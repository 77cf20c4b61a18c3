"""Processes of their own for a test, without the seconds that a new interpreter takes for its imports.

A server, one for each worker of pytest, imports the libraries once. Each process is a fork of it. The server
has run nothing, so a process begins as a new interpreter with the same imports would.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

IMPORTED = (
    "vigreux.assembly.one_run",
    "vigreux.backends.transformer.backend",
    "vigreux.cli.main",
    "accelerate",
)
SECONDS = 600  # longer than any of these processes takes, also on a machine that is busy


@dataclass(frozen=True)
class Ended:
    """How a process ended; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str


def python_m(
    module: str, *argv: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Ended:
    """Runs `python -m MODULE ARGV…`, with `env` over the environment of this process."""
    return _run(module, argv, cwd, [dict(env or {})])[0]


def two_ranks(module: str, *argv: object, cwd: Path | None = None) -> list[Ended]:
    """Runs `python -m MODULE ARGV…` twice, as `accelerate launch --num_processes 2` starts it, on CPUs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "ACCELERATE_USE_CPU": "true",
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "CUDA_VISIBLE_DEVICES": "",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    return _run(
        module, argv, cwd, [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    )


def _run(
    module: str, argv: Sequence[object], cwd: Path | None, environments: Sequence[dict[str, str]]
) -> list[Ended]:
    """One process for each environment; the first that fails ends the others."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    arguments = [module, *map(str, argv)]
    folder = str(cwd or Path.cwd())
    with tempfile.TemporaryDirectory() as outputs:
        processes = [
            context.Process(
                target=_main, args=(arguments, folder, {**os.environ, **environment}, f"{outputs}/{number}")
            )
            for number, environment in enumerate(environments)
        ]
        for process in processes:
            process.start()
        _wait(processes)
        return [
            Ended(
                process.exitcode or 0,
                Path(f"{outputs}/{number}.out").read_text(),
                Path(f"{outputs}/{number}.err").read_text(),
            )
            for number, process in enumerate(processes)
        ]


def _wait(processes: Sequence[ForkServerProcess]) -> None:
    """Waits for all of them; the first that fails or takes too long ends the others."""
    end = time.monotonic() + SECONDS
    running = list(processes)
    while running:
        ended = connection.wait([process.sentinel for process in running], end - time.monotonic())
        failed = not ended
        for process in [process for process in running if process.sentinel in ended]:
            process.join()
            running.remove(process)
            failed = failed or process.exitcode != 0
        if failed:
            for process in running:
                process.kill()
                process.join()
            return


def _main(arguments: list[str], folder: str, environment: dict[str, str], output: str) -> None:
    """The process itself."""
    import torch

    for stream, ending in ((sys.stdout, "out"), (sys.stderr, "err")):
        stream.flush()
        with open(f"{output}.{ending}", "wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(1)
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
