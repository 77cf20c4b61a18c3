"""The run folder: the only thing engines write, and the only thing that comes after (report, select, compare) reads.

    RUN/
      run.json          format, name of the curriculum, seed, device, command, versions, status, times, failure;
                        the text of the small files below; fingerprints of data and teachers; a checksum of it all
      config.yaml       what was asked
      curriculum.yaml   the stages, resolved
      plan.json         steps and costs of the stages, fixed when the run began
      summary.json      final metrics and cost (`Summary`)
      metrics.jsonl     one line a record (see `RunFolder.log_metrics`)
      stages.jsonl      one line a finished stage (`StageRecord`), each with a checksum
      stages/00-NAME/checkpoint-N/   resume points, each with a manifest, and with the metrics until then
      student/          the finished model
      initial/          the student's first weights, from which a resumed first stage starts

A process may be killed between any two instructions: files are replaced whole, lines are appended whole, and a checkpoint
counts only once its manifest, written last, agrees with its files. run.json is the first file: with it there is a run, without it
there is none. config.yaml, curriculum.yaml, plan.json and summary.json are copies of what it holds, for people to read.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import re
import socket
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from vigreux.errors import CheckpointError, VigreuxError
from vigreux.files.atomic import (
    append_line,
    check_no_links,
    drop_torn_line,
    finite,
    is_whole,
    read_lines,
    read_whole_lines,
    rewrite_lines,
    sealed,
    without_seal,
    write_atomic,
    writing,
)
from vigreux.files.lock import LOCK, SOFT_LOCK, FolderBusyError, FolderLock, is_locked
from vigreux.files.yaml_files import load_yaml
from vigreux.run.checkpoints import LOADED, entries_of, problems_of
from vigreux.run.file_types import MOST_STAGES, Asked, Info, PlainRecord, PlainStages, PlainSummary, checked
from vigreux.run.identity import config_hash, deal_alike, filled, first_difference, process_count, relevant
from vigreux.run.records import (
    CONFIG,
    CURRICULUM,
    FILES,
    FORMAT,
    INFO,
    METRICS,
    PLAN,
    STAGES,
    STATUSES,
    STUDENT,
    SUMMARY,
    StageRecord,
    Summary,
    parsed,
    read_fields,
    text_of,
)
from vigreux.secrets import redact, redact_command, redact_text

__all__ = ["PLAN", "STUDENT", "RunFolder", "StageRecord", "Summary", "check_vacant"]

# --- the run folder -------------------------------------------------------------------------------------------------


class RunFolder:
    """A run on disk. `create` or `resume` one to write (exclusively), `open` one to read.

    As a context manager it closes itself, and marks the run as failed when the block raises.
    """

    def __init__(self, path: Path | str) -> None:
        """Use `create`, `resume` or `open`: this checks nothing."""
        self.path = Path(path)
        self._lock = FolderLock(self.path)

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
        plan: str | None = None,
        fingerprints: Mapping[str, str] | None = None,
    ) -> RunFolder:
        """Starts a new run in a folder that is new or empty, and locks it.

        All that the run is goes into run.json at once: a kill leaves a vacant folder or a run that can be resumed.

        Args:
            path: the folder; parents are made.
            config: what was asked, as plain values; its `seed` is the run's.
            curriculum: the stages, as plain values (`vigreux.curriculum.serialize.to_plain`).
            name: what the curriculum is called in tables; default from `config["curriculum"]`.
            device: where it runs, in words.
            command: the command line; default this process's.
            plan: the text of plan.json; default it follows (`keep`).
            fingerprints: name → hash of what the run is made from (data, tokenizer, teachers); a resume compares them.

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
        try:
            check_vacant(run.path)  # again under the lock: another process may have come first
            check_no_links(run.path)
            stages = redact([dict(stage) for stage in curriculum])
            files = {CONFIG: _yaml(dict(config)), CURRICULUM: _yaml(stages)}
            if plan is not None:
                files[PLAN] = plan
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
                    "versions": {
                        package: _version(package) for package in ("vigreux", "torch", "transformers")
                    },
                    "status": "running",
                    "writer": _this_process(),
                    "started": _now(),
                    "resumed": [],
                    "finished": None,
                    "failure": None,
                    "fingerprints": dict(fingerprints or {}),
                    "files": files,
                }
            )
            run._write_copies()
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """A run to read; it may still be written by another process.

        Raises:
            CheckpointError: no run folder there, a damaged one, or one of a later format.
        """
        run = cls(path)
        info, path = run.info(), run.path / INFO
        if info.get("format") != FORMAT:
            raise CheckpointError(f"{path}: format {info.get('format')!r}; accepted: {FORMAT}")
        if info.get("status") not in STATUSES:
            raise CheckpointError(f"{path}: status: {info.get('status')!r}; accepted: {', '.join(STATUSES)}")
        return run

    @classmethod
    def resume(
        cls,
        path: Path | str,
        config: Mapping[str, Any],
        curriculum: Sequence[Mapping[str, Any]] | None = None,
        *,
        defaults: Mapping[str, Any] | None = None,
        fingerprints: Mapping[str, str] | None = None,
    ) -> RunFolder:
        """Goes on with a run of the same configuration (and the same stages, where given), and locks it.

        A run that began before Vigreux had some setting has its default, where `defaults` are given.
        On another number of processes the samples of a step must be as many: batch size of a device × accumulation × processes.
        A finished run is returned as it is (`run.status == "finished"`): there is nothing left to do.

        Raises:
            CheckpointError: no run there, a damaged one, the run of another configuration, of other data or another teacher
                (`fingerprints`), other samples a step, a link inside, or another process writes it.
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
        if fingerprints is not None:
            run._check_fingerprints(fingerprints)
        check_no_links(run.path)
        run._take_lock()
        try:
            run._take_up()
        except BaseException:
            run.close()
            raise
        return run

    def _check_fingerprints(self, given: Mapping[str, str]) -> None:
        stored = self.info().get("fingerprints") or {}
        if not stored:
            warnings.warn(
                f"{self.path}: an earlier version of Vigreux began this run and kept no fingerprints; whether data and"
                " teachers are the same is not checked",
                UserWarning,
                stacklevel=3,
            )
            return
        other = [
            name for name in {**stored, **given} if name != STUDENT and stored.get(name) != given.get(name)
        ]
        if other:
            raise CheckpointError(
                f"{self.path}: was begun with another {' and another '.join(other)}; accepted: the same as then, or"
                " another output"
            )

    def _take_up(self) -> None:
        """Under the lock: makes whole what a kill or damage left, and marks the run as running."""
        self._write_copies()
        drop_torn_line(self.path / METRICS)
        path = self.path / STAGES
        drop_torn_line(path)
        whole = read_whole_lines(path)
        if path.exists() and path.read_bytes().count(b"\n") != len(whole):
            warnings.warn(
                f"{path}: record {len(whole) + 1} is damaged: that stage and those after it are recorded again",
                UserWarning,
                stacklevel=3,
            )
            rewrite_lines(path, whole)
        info = self.info()  # read again: before the lock was taken another process may have gone on
        if info["status"] != "finished" or not self.has_student():
            resumed = [*(info.get("resumed") or []), _now()]
            self._write_info(
                {**info, "status": "running", "failure": None, "writer": _this_process(), "resumed": resumed}
            )

    def _write_copies(self) -> None:
        """Writes the files that run.json holds where they are missing or others; says so where a resume finds them damaged."""
        for name, text in self.info().get("files", {}).items():
            path = self.path / name
            if path.exists() and path.read_bytes() == text.encode():
                continue
            if path.exists():
                warnings.warn(
                    f"{path}: was damaged or changed since the run began: written again from {INFO}",
                    UserWarning,
                    stacklevel=4,
                )
            write_atomic(path, text)

    def has_student(self) -> bool:
        """Whether a finished run's student is there; where it was deleted, a resume saves it again from the last checkpoint.

        Raises:
            CheckpointError: it is there, and is not as the run wrote it.
        """
        written = self.info().get("student") or {}
        if not self.student.exists():
            return not written
        loaded = {name: entry for name, entry in written.items() if Path(name).suffix in LOADED}
        if problems := problems_of(self.student, loaded):
            raise CheckpointError(
                f"{self.student}: {problems[0]}; accepted: to delete {self.student}, then --resume saves it again"
            )
        return True

    # writing

    def log_metrics(self, record: Mapping[str, Any]) -> None:
        """Appends one record to metrics.jsonl.

        Args:
            record: `kind` ("train" or "eval"), `stage` (its name), `step` (within the stage), `global_step`, `samples`, `flops`
                (student and teacher, so far), `seconds` (so far), then what was measured under plain names: `loss`,
                `learning_rate`, `explained_variance`, `accuracy`, …
        """
        append_line(self.path / METRICS, record)

    def copy_metrics(self, checkpoint: Path) -> None:
        """Puts the records until now beside a checkpoint, before its manifest is written: `restore_metrics` goes back to them."""
        path = self.path / METRICS
        with writing(checkpoint):
            (checkpoint / METRICS).write_bytes(path.read_bytes() if path.exists() else b"")

    def restore_metrics(self, checkpoint: Path | None, global_step: int, *, say: bool = True) -> None:
        """Makes metrics.jsonl what it was when `checkpoint` was written, or empty where a run starts anew (`None`).

        Records that were damaged since, or lost, come back; those of later steps go, and are written again.
        In a checkpoint of an earlier version, which has no copy, those after `global_step` go. `say`: warn of damage.
        """
        path = self.path / METRICS
        if checkpoint is not None and not (checkpoint / METRICS).exists():
            records = [record for record in read_lines(path) if record["global_step"] <= global_step]
            rewrite_lines(path, records)
            return
        copy = b"" if checkpoint is None else (checkpoint / METRICS).read_bytes()
        found = path.read_bytes() if path.exists() else b""
        if found == copy:
            return
        if say and not found.startswith(copy):
            warnings.warn(
                f"{path}: was damaged: its records are taken from {checkpoint}", UserWarning, stacklevel=2
            )
        write_atomic(path, copy)

    def finish_stage(self, record: StageRecord) -> None:
        """Appends one finished stage to stages.jsonl; call it after the stage's last checkpoint has its manifest."""
        append_line(self.path / STAGES, sealed(redact(dataclasses.asdict(record))))

    def keep(self, name: str, text: str) -> None:
        """Writes one of the small files, and into run.json what it holds."""
        info = self.info()
        self._write_info({**info, "files": {**info.get("files", {}), name: text}})
        write_atomic(self.path / name, text)

    def truncate_stages(self, count: int) -> None:
        """Keeps the first `count` finished stages: the last checkpoint of a later one turned out to be damaged."""
        records = [sealed(dataclasses.asdict(stage)) for stage in self.stages()[:count]]
        rewrite_lines(self.path / STAGES, records)

    def finish(self, summary: Summary) -> None:
        """Writes summary.json, marks the run as finished and lets go of the lock."""
        text = json.dumps(redact(finite(dataclasses.asdict(summary))), indent=1)
        write_atomic(self.path / SUMMARY, text)
        info = self.info()
        end = {
            "status": "finished",
            "finished": _now(),
            "failure": None,
            "files": {**info.get("files", {}), SUMMARY: text},
            "student": entries_of(self.student),
        }
        self._write_info({**info, **end})
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
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and self._lock.held:  # without the lock it has finished already
            self.fail(str(error) or kind.__name__)
        self.close()

    # reading

    def info(self) -> dict[str, Any]:
        """run.json.

        Raises:
            CheckpointError: it is missing, or its checksum shows that it is damaged.
        """
        path = self.path / INFO
        if not path.exists():
            raise CheckpointError(
                f"{self.path}: not a run folder ({INFO} is missing){_runs_inside(self.path)}"
            )
        info = parsed(path, text_of(path), json.loads, dict)
        files = info.get("files", {})
        texts = isinstance(files, dict) and all(isinstance(text, str) for text in files.values())
        if not is_whole(info) or not texts or not set(files) <= set(FILES):
            raise CheckpointError(
                f"{path}: is damaged (its checksum is not the one written); accepted: another output; its checkpoints"
                " under stages/ can still be loaded as models"
            )
        checked(path, Info, info)
        return info

    @property
    def status(self) -> str:
        """running, finished or failed as the run says, or stopped: it says running, but no process holds its lock."""
        status = self.info()["status"]
        locked = self._lock.held or is_locked(self.path)
        return "stopped" if status == "running" and not locked else status

    def text(self, name: str) -> str | None:
        """What one of the small files holds, as run.json has it; that of an earlier version's run is read from its file.

        Returns:
            `None` where the run does not have the file (yet).
        """
        if (text := self.info().get("files", {}).get(name)) is not None:
            return str(text)
        path = self.path / name
        return text_of(path) if path.exists() else None

    def config(self) -> dict[str, Any]:
        """What was asked."""
        return checked(self.path / CONFIG, Asked, self._parsed(CONFIG, load_yaml, dict))

    def curriculum(self) -> list[dict[str, Any]]:
        """The stages as plain values (`vigreux.curriculum.serialize.from_plain` reads them)."""
        return checked(self.path / CURRICULUM, PlainStages, self._parsed(CURRICULUM, load_yaml, list))

    def _parsed(self, name: str, parse: Any, kind: type) -> Any:
        text = self.text(name)
        if text is None:
            raise CheckpointError(f"{self.path / name}: is missing; the run folder is damaged")
        return parsed(self.path / name, text, parse, kind)

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The records of metrics.jsonl in order, all or of one kind ("train", "eval")."""
        return [record for record in read_lines(self.path / METRICS) if kind in (None, record.get("kind"))]

    def stages(self) -> list[StageRecord]:
        """The finished stages in order."""
        path = self.path / STAGES
        records = read_lines(path)
        for number, record in enumerate(records, start=1):
            if not is_whole(record):
                raise CheckpointError(
                    f"{path}: line {number} is damaged (its checksum is not the one written); accepted: --resume, which"
                    " writes it again"
                )
        if len(records) > MOST_STAGES:
            raise CheckpointError(f"{path}: {len(records):,} stages; accepted: at most {MOST_STAGES:,}")
        plain = (checked(path, PlainRecord, without_seal(record)) for record in records)
        return [
            read_fields(path, StageRecord, {**each, "notes": tuple(each.get("notes", ()))}) for each in plain
        ]

    def summary(self) -> Summary | None:
        """How the run ended; None while it has not."""
        text = self.text(SUMMARY)
        if text is None:
            return None
        plain = checked(
            self.path / SUMMARY, PlainSummary, parsed(self.path / SUMMARY, text, json.loads, dict)
        )
        return read_fields(self.path / SUMMARY, Summary, {**plain, "notes": tuple(plain.get("notes", ()))})

    def stage_dir(self, index: int, name: str) -> Path:
        """Where the checkpoints of stage `index` (from 0) go: stages/00-NAME."""
        return self.path / "stages" / f"{index:02d}-{name}"

    @property
    def student(self) -> Path:
        """Where the finished model goes."""
        return self.path / "student"

    # the lock

    def _take_lock(self) -> None:
        try:
            self._lock.take()
        except FolderBusyError as busy:
            raise CheckpointError(
                f"{self.path}: is being written by {self._writer()}; wait for it, or choose another output"
            ) from busy

    def _writer(self) -> str:
        """The process that run.json names: the lock's, which itself names none."""
        try:
            return str(self.info().get("writer") or "another process")
        except CheckpointError:  # not there yet
            return "another process"

    def _write_info(self, info: Mapping[str, Any]) -> None:
        write_atomic(self.path / INFO, json.dumps(sealed(info), indent=1, ensure_ascii=False))


def check_vacant(path: Path) -> None:
    """Raises unless `path` is new or empty (a lock and the leftovers of a killed `write_atomic` are nothing)."""
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path}: is a file; accepted: a new or empty folder")
    if (path / INFO).exists():
        status = RunFolder.open(path).status
        hint = "--resume to go on with it, or " if status in ("failed", "stopped") else ""
        raise CheckpointError(f"{path}: holds a run already ({status}); accepted: {hint}another output")
    ours = re.compile(rf"{re.escape(LOCK)}|{re.escape(SOFT_LOCK)}|\..*\.tmp")
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


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _yaml(plain: Any) -> str:
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
