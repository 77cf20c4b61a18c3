"""The run folder: the only thing engines write, and the only thing that comes after (report, select, compare) reads.

    RUN/
      run.json          format, name of the curriculum, seed, device, command, versions, status, times, failure
      config.yaml       what was asked
      curriculum.yaml   the stages, resolved
      metrics.jsonl     one line a record (see `RunFolder.log_metrics`)
      stages.jsonl      one line a finished stage (`StageRecord`)
      stages/00-NAME/checkpoint-N/   resume points, each with a manifest
      student/          the finished model
      initial/          the student's first weights, from which a resumed first stage starts
      plan.json         steps and costs of the stages, fixed when the run began
      summary.json      final metrics and cost (`Summary`)

A process may be killed between any two instructions: files are replaced whole, lines are appended whole, and a checkpoint
counts only once its manifest, written last, agrees with its files.
"""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.metadata
import json
import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import yaml

from vigreux.errors import CheckpointError, VigreuxError
from vigreux.files import (
    append_line,
    drop_torn_line,
    finite,
    read_lines,
    rewrite_lines,
    write_atomic,
    writing,
)
from vigreux.same_run import config_hash, deal_alike, filled, first_difference, process_count, relevant
from vigreux.secrets import redact, redact_command, redact_text

FORMAT = 1

# --- what the files hold --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StageRecord:
    """One finished stage.

    Args:
        name: the stage's, unique in the curriculum.
        target: what was matched, in words (`str(stage.target)`).
        depth: student blocks trained and run; None is the whole student.
        steps: optimiser steps.
        seconds: wall time.
        student_flops: floating-point operations of the student, forwards and backwards.
        teacher_flops: the same of the teacher, forwards.
        first_loss: training loss at the first log of the stage.
        last_loss: training loss at its last log.
        explained_variance: 1 − loss / target variance at the end, for stages that match hidden states; at or below 0 the stage
            learned no more than the targets' mean.
        notes: what the user should know.
        checkpoint: the stage's last checkpoint, relative to the run folder.
    """

    name: str
    target: str
    depth: int | None
    steps: int
    seconds: float
    student_flops: float
    teacher_flops: float
    first_loss: float | None = None
    last_loss: float | None = None
    explained_variance: float | None = None
    notes: tuple[str, ...] = ()
    checkpoint: str | None = None


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Args:
        metrics: the student's on held-out data, by their plain names ("accuracy", not "eval_accuracy").
        steps: optimiser steps of all stages.
        flops: floating-point operations of student and teacher together.
        seconds: wall time of all stages.
        bytes_kept: bytes of teacher weights that the curriculum needs kept, the final teacher's included.
        teacher_bytes: bytes of the final teacher's weights alone.
        notes: what the user should know.
        teacher_metrics: the final teacher's on the same held-out data, where they were measured.
        student_parameters: number of the student's parameters.
        teacher_parameters: number of the teacher's.
    """

    metrics: Mapping[str, float]
    steps: int
    flops: float
    seconds: float
    bytes_kept: int
    teacher_bytes: int
    notes: tuple[str, ...] = ()
    teacher_metrics: Mapping[str, float] = field(default_factory=dict)
    student_parameters: int | None = None
    teacher_parameters: int | None = None


# --- the run folder -------------------------------------------------------------------------------------------------


class RunFolder:
    """A run on disk. `create` or `resume` one to write (exclusively), `open` one to read.

    As a context manager it closes itself, and marks the run as failed when the block raises.
    """

    def __init__(self, path: Path | str) -> None:
        """Use `create`, `resume` or `open`: this checks nothing."""
        self.path = Path(path)
        self._lock: IO[str] | None = None

    @classmethod
    def create(
        cls,
        path: Path | str,
        config: Mapping[str, Any],
        curriculum: Sequence[Mapping[str, Any]],
        *,
        name: str | None = None,
        device: str = "cpu",
        command: str | None = None,
    ) -> RunFolder:
        """Starts a new run in a folder that is new or empty, and locks it.

        Args:
            path: the folder; parents are made.
            config: what was asked, as plain values; its `seed` is the run's.
            curriculum: the stages, as plain values (`vigreux.plain.to_plain`).
            name: what the curriculum is called in tables; default from `config["curriculum"]`.
            device: where it runs, in words.
            command: the command line; default this process's.

        Raises:
            CheckpointError: the folder holds a run or anything else, cannot be written, or another process writes it.
            TrainingError: the disk is full.
        """
        run = cls(path)
        config = redact(config)
        check_vacant(run.path)
        with writing(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        run._take_lock()
        check_vacant(run.path)  # again under the lock: another process may have come first
        run._write_info(
            {
                "format": FORMAT,
                "name": name or _curriculum_name(config),
                "seed": config.get("seed", 0),
                "device": device,
                "processes": process_count(),
                "command": redact_text(command)
                if command
                else redact_command([Path(sys.argv[0]).name, *sys.argv[1:]]),
                "config_hash": config_hash(config),
                "versions": {package: _version(package) for package in ("vigreux", "torch", "transformers")},
                "status": "running",
                "started": _now(),
                "resumed": [],
                "finished": None,
                "failure": None,
            }
        )
        write_atomic(
            run.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        )
        stages = redact([dict(stage) for stage in curriculum])
        write_atomic(
            run.path / "curriculum.yaml", yaml.safe_dump(stages, sort_keys=False, allow_unicode=True)
        )
        return run

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """A run to read; it may still be written by another process.

        Raises:
            CheckpointError: no run folder there, a damaged one, or one of a later format.
        """
        run = cls(path)
        info = run.info()
        if info.get("format") != FORMAT:
            raise CheckpointError(
                f"{run.path / 'run.json'}: format {info.get('format')!r}; accepted: {FORMAT}"
            )
        return run

    @classmethod
    def resume(
        cls,
        path: Path | str,
        config: Mapping[str, Any],
        curriculum: Sequence[Mapping[str, Any]] | None = None,
        *,
        defaults: Mapping[str, Any] | None = None,
    ) -> RunFolder:
        """Goes on with a run of the same configuration (and the same stages, where given), and locks it.

        A run that began before Vigreux had some setting has its default, where `defaults` are given.
        On another number of processes the samples of a step must be as many: batch size of a device × accumulation × processes.
        A finished run is returned as it is (`run.status == "finished"`): there is nothing left to do.

        Raises:
            CheckpointError: no run there, the run of another configuration, other samples a step, or another process writes it.
        """
        run = cls.open(path)
        stored, given = relevant(filled(redact(run.config()), defaults or {})), relevant(redact(config))
        if run.status != "finished":  # of a finished run no step is left to take
            deal_alike(stored, run.info().get("processes", process_count()), given, run.path)
        difference = first_difference(stored, given)
        if difference is None and curriculum is not None:
            stages = yaml.safe_load(yaml.safe_dump(redact([dict(stage) for stage in curriculum])))
            difference = first_difference(redact(run.curriculum()), stages, "curriculum")
        if difference:
            raise CheckpointError(
                f"{run.path}: belongs to another configuration: {difference}; accepted: the same configuration, or another output"
            )
        run._take_lock()
        for name in ("metrics.jsonl", "stages.jsonl"):
            drop_torn_line(run.path / name)
        if run.status != "finished":
            info = run.info()
            run._write_info(
                {**info, "status": "running", "failure": None, "resumed": [*info["resumed"], _now()]}
            )
        return run

    # writing

    def log_metrics(self, record: Mapping[str, Any]) -> None:
        """Appends one record to metrics.jsonl.

        Args:
            record: `kind` ("train" or "eval"), `stage` (its name), `step` (within the stage), `global_step`, `samples`, `flops`
                (student and teacher, so far), `seconds` (so far), then what was measured under plain names: `loss`,
                `learning_rate`, `explained_variance`, `accuracy`, …
        """
        append_line(self.path / "metrics.jsonl", record)

    def truncate_metrics(self, global_step: int) -> None:
        """Drops the records after `global_step`, the step that a resumed run goes on from."""
        kept = [record for record in self.metrics() if record["global_step"] <= global_step]
        rewrite_lines(self.path / "metrics.jsonl", kept)

    def finish_stage(self, record: StageRecord) -> None:
        """Appends one finished stage to stages.jsonl; call it after the stage's last checkpoint has its manifest."""
        append_line(self.path / "stages.jsonl", redact(dataclasses.asdict(record)))

    def truncate_stages(self, count: int) -> None:
        """Keeps the first `count` finished stages: the last checkpoint of a later one turned out to be damaged."""
        rewrite_lines(
            self.path / "stages.jsonl", [dataclasses.asdict(stage) for stage in self.stages()[:count]]
        )

    def finish(self, summary: Summary) -> None:
        """Writes summary.json, marks the run as finished and lets go of the lock."""
        plain = redact(finite(dataclasses.asdict(summary)))
        write_atomic(self.path / "summary.json", json.dumps(plain, indent=1))
        self._write_info({**self.info(), "status": "finished", "finished": _now(), "failure": None})
        self.close()

    def fail(self, message: str) -> None:
        """Marks the run as failed, with one line that says why, and lets go of the lock."""
        with suppress(
            VigreuxError
        ):  # on a full disk the reason that is already on its way matters more than this one
            self._write_info(
                {
                    **self.info(),
                    "status": "failed",
                    "finished": _now(),
                    "failure": redact_text(" ".join(message.split())),
                }
            )
        self.close()

    def close(self) -> None:
        """Lets go of the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and self._lock is not None:  # without the lock it has finished already
            self.fail(str(error) or kind.__name__)
        self.close()

    # reading

    def info(self) -> dict[str, Any]:
        """run.json."""
        path = self.path / "run.json"
        if not path.exists():
            raise CheckpointError(
                f"{self.path}: not a run folder (run.json is missing){_runs_inside(self.path)}"
            )
        return _read_mapping(path, json.loads)

    @property
    def status(self) -> str:
        """running, finished or failed as the run says, or stopped: it says running, but its process is gone."""
        status = self.info()["status"]
        return "stopped" if status == "running" and not self._owner_lives() else status

    def config(self) -> dict[str, Any]:
        """What was asked."""
        return _read_mapping(self.path / "config.yaml", yaml.safe_load)

    def curriculum(self) -> list[dict[str, Any]]:
        """The stages as plain values (`vigreux.plain.from_plain` reads them)."""
        return _read_plain(self.path / "curriculum.yaml", yaml.safe_load, list)

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The records of metrics.jsonl in order, all or of one kind ("train", "eval")."""
        return [
            record for record in read_lines(self.path / "metrics.jsonl") if kind in (None, record.get("kind"))
        ]

    def stages(self) -> list[StageRecord]:
        """The finished stages in order."""
        path = self.path / "stages.jsonl"
        return [
            _read_fields(path, StageRecord, {**line, "notes": tuple(line.get("notes", ()))})
            for line in read_lines(path)
        ]

    def summary(self) -> Summary | None:
        """How the run ended; None while it has not."""
        path = self.path / "summary.json"
        if not path.exists():
            return None
        plain = _read_mapping(path, json.loads)
        return _read_fields(path, Summary, {**plain, "notes": tuple(plain.get("notes", ()))})

    def stage_dir(self, index: int, name: str) -> Path:
        """Where the checkpoints of stage `index` (from 0) go: stages/00-NAME."""
        return self.path / "stages" / f"{index:02d}-{name}"

    @property
    def student(self) -> Path:
        """Where the finished model goes."""
        return self.path / "student"

    # the lock

    def _take_lock(self) -> None:
        path = self.path / ".lock"
        with writing(path):
            lock = open(path, "a+", encoding="utf-8")  # noqa: SIM115  (held open as long as the run is written)
        try:
            # lockf, not flock: a fork (a data loader's worker) that outlives a killed run must not keep the lock
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            lock.close()
            raise CheckpointError(
                f"{self.path}: is being written by {owner}; wait for it, or choose another output"
            ) from error
        self._lock = lock
        with writing(path):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()

    def _owner_lives(self) -> bool:
        """Asks for the process that .lock names: to try the lock would drop it, were the owner this very process."""
        path = self.path / ".lock"
        owner = (
            re.fullmatch(r"process (\d+) on (.+)", path.read_text(encoding="utf-8"))
            if path.exists()
            else None
        )
        if owner is None:
            return False
        if owner[2] != socket.gethostname():
            return True  # cannot be seen from here
        try:
            os.kill(int(owner[1]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's: it lives
            return True
        return True

    def _write_info(self, info: Mapping[str, Any]) -> None:
        write_atomic(self.path / "run.json", json.dumps(info, indent=1, ensure_ascii=False))


def check_vacant(path: Path) -> None:
    """Raises unless `path` is new or empty (a lock and the leftovers of a killed `write_atomic` are nothing)."""
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path}: is a file; accepted: a new or empty folder")
    if (path / "run.json").exists():
        status = RunFolder.open(path).status
        hint = "--resume to go on with it, or " if status in ("failed", "stopped") else ""
        raise CheckpointError(f"{path}: holds a run already ({status}); accepted: {hint}another output")
    ours = re.compile(r"\.lock|\..*\.tmp")
    others = (
        []
        if not path.exists()
        else sorted(entry.name for entry in path.iterdir() if not ours.fullmatch(entry.name))
    )
    if others:
        raise CheckpointError(
            f"{path}: is not empty and not a run folder (found {others[0]}); accepted: a new or empty folder"
        )


def _runs_inside(path: Path) -> str:
    """A hint for a folder that is one too high."""
    inside = sorted(entry.parent.name for entry in path.glob("*/run.json"))
    return f"; run folders inside it: {', '.join(inside[:5])}" if inside else ""


def _curriculum_name(config: Mapping[str, Any]) -> str:
    asked = config.get("curriculum")
    return Path(asked).stem if isinstance(asked, str) else "custom"


def _read_mapping(path: Path, parse: Any) -> dict[str, Any]:
    return _read_plain(path, parse, dict)


def _read_plain(path: Path, parse: Any, kind: type) -> Any:
    try:
        plain = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); the run folder is damaged"
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: is damaged ({' '.join(str(error).split())})") from error
    if not isinstance(plain, kind):
        raise CheckpointError(
            f"{path}: is damaged (found {type(plain).__name__}, a {kind.__name__} is needed)"
        )
    return plain


def _read_fields(path: Path, cls: Any, plain: Mapping[str, Any]) -> Any:
    try:
        return cls(**plain)
    except TypeError as error:
        raise CheckpointError(f"{path}: is damaged ({str(error).replace('.__init__()', '')})") from error


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
