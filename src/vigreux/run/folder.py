"""Writes a run folder, under a lock. A kill between any two instructions loses nothing.

Files are replaced as a whole, and lines are appended as a whole. A checkpoint counts once its manifest agrees
with its files. run.json is the first file of a run. `vigreux.run.reader` describes the files.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
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
    read_lines,
    read_whole_lines,
    rewrite_lines,
    sealed,
    write_atomic,
    writing,
)
from vigreux.files.lock import FolderBusyError, FolderLock
from vigreux.run.checkpoints import LOADED, file_entries, file_problems
from vigreux.run.identity import (
    check_fingerprints,
    check_samples_per_step,
    config_hash,
    first_difference,
    process_count,
    relevant,
    with_defaults,
)
from vigreux.run.reader import RunReader, check_vacant
from vigreux.run.records import (
    CONFIG,
    CURRICULUM,
    FORMAT,
    INFO,
    METRICS,
    PLAN,
    STAGES,
    STUDENT,
    SUMMARY,
    StageRecord,
    Summary,
)
from vigreux.secrets import redact, redact_command, redact_text

__all__ = ["PLAN", "STUDENT", "RunFolder", "StageRecord", "Summary", "check_vacant"]


class RunFolder(RunReader):
    """A run on disk. `create` and `resume` open it for writing, by this process only; `open`, for reading.

    As a context manager, it closes itself, and marks the run as failed if the block raises.
    """

    def __init__(self, path: Path | str) -> None:
        """Checks nothing: use `create`, `resume` or `open`."""
        super().__init__(path)
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
        """Starts a run in a folder that is new or empty, and locks the folder.

        run.json, the first file, holds everything that defines the run. A kill leaves either a folder that
        counts as empty or a run that can be resumed.

        Args:
            path: the folder. Missing parents are created.
            config: the configuration as plain values. Its `seed` is the run's.
            curriculum: the stages as plain values (`vigreux.curriculum.serialize.to_plain`).
            name: the name of the curriculum in tables. Default: that of `config["curriculum"]`.
            device: the device in words.
            command: the command line. Default: that of this process.
            plan: the text of plan.json. Default: `keep` adds it later.
            fingerprints: name → hash of an input of the run (data, tokenizer, teachers). A resume compares
                them.

        Raises:
            CheckpointError: the folder holds a run or anything else, cannot be written, or is written by
                another process.
            TrainingError: the disk is full.
        """
        run = cls(path)
        config = redact(config)
        check_vacant(run.path)
        with writing(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        run._take_lock()
        try:
            check_vacant(run.path)  # again, under the lock, because another process may have been faster
            check_no_links(run.path)
            stages = redact([dict(stage) for stage in curriculum])
            files = {CONFIG: _yaml(dict(config)), CURRICULUM: _yaml(stages)}
            if plan is not None:
                files[PLAN] = plan
            arguments = [Path(sys.argv[0]).name, *sys.argv[1:]]
            info = {
                "format": FORMAT,
                "name": name or _curriculum_name(config),
                "seed": config.get("seed", 0),
                "device": device,
                "processes": process_count(),
                "command": redact_text(command) if command else redact_command(arguments),
                "config_hash": config_hash(config),
                "versions": {package: _version(package) for package in ("vigreux", "torch", "transformers")},
                "status": "running",
                "writer": _this_process(),
                "started": _now(),
                "resumed": [],
                "finished": None,
                "failure": None,
                "fingerprints": dict(fingerprints or {}),
                "files": files,
            }
            run._write_info(info)
            run._write_copies()
        except BaseException:
            run.close()
            raise
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
        """Resumes a run of the same configuration and the same stages, and locks its folder.

        A finished run is returned unchanged (`run.status == "finished"`): nothing remains to be done.

        Args:
            path: the run folder.
            config: the configuration as plain values. It may differ in settings that cannot change the
                student, and in how the samples of a step are split. The product of batch size of a device,
                accumulation and processes must be equal.
            curriculum: the stages as plain values. Default: not compared.
            defaults: values of settings that did not exist when the run began.
            fingerprints: name → hash of an input of this process. Default: not compared.

        Raises:
            CheckpointError: `path` is no run folder or is damaged; configuration, stages, data, a teacher or
                the samples of a step differ; the folder holds a link; another process writes it.
        """
        run = cls.open(path)
        stored = relevant(with_defaults(redact(run.config()), defaults or {}))
        current = relevant(redact(config))
        if run.status != "finished":  # a finished run takes no more steps
            check_samples_per_step(stored, run.info().get("processes", process_count()), current, run.path)
        difference = first_difference(stored, current)
        if difference is None and curriculum is not None:
            stages = yaml.safe_load(yaml.safe_dump(redact([dict(stage) for stage in curriculum])))
            difference = first_difference(redact(run.curriculum()), stages, "curriculum")
        if difference:
            raise CheckpointError(
                f"{run.path}: belongs to another configuration: {difference}; accepted: the same"
                " configuration, or another output"
            )
        if fingerprints is not None:
            check_fingerprints(run.info().get("fingerprints") or {}, fingerprints, run.path)
        check_no_links(run.path)
        run._take_lock()
        try:
            run._repair_and_mark_running()
        except BaseException:
            run.close()
            raise
        return run

    def _repair_and_mark_running(self) -> None:
        """Repairs the small files after a kill or damage. Call it under the lock."""
        self._write_copies()
        drop_torn_line(self.path / METRICS)
        path = self.path / STAGES
        drop_torn_line(path)
        records = read_whole_lines(path)
        if path.exists() and path.read_bytes().count(b"\n") != len(records):
            warnings.warn(
                f"{path}: record {len(records) + 1} is damaged; that stage and the ones after it are"
                " recorded again",
                UserWarning,
                stacklevel=3,
            )
            rewrite_lines(path, records)
        info = (
            self.info()
        )  # read again: another process may have continued the run before this one got the lock
        if info["status"] != "finished" or not self.has_student():
            change = {
                "status": "running",
                "failure": None,
                "writer": _this_process(),
                "resumed": [*(info.get("resumed") or []), _now()],
            }
            self._write_info({**info, **change})

    def _write_copies(self) -> None:
        """Writes the small files that are missing or differ from run.json. Warns of those that differ."""
        for name, text in self.info().get("files", {}).items():
            path = self.path / name
            if path.exists() and path.read_bytes() == text.encode():
                continue
            if path.exists():
                warnings.warn(
                    f"{path}: was damaged or changed since the run began; it is written again from {INFO}",
                    UserWarning,
                    stacklevel=4,
                )
            write_atomic(path, text)

    def has_student(self) -> bool:
        """Whether the finished model exists. If it was deleted, a resume saves it again.

        Raises:
            CheckpointError: the model's files are damaged.
        """
        entries = self.info().get("student") or {}
        if not self.student.exists():
            return not entries
        loaded = {name: entry for name, entry in entries.items() if Path(name).suffix in LOADED}
        if problems := file_problems(self.student, loaded):
            raise CheckpointError(
                f"{self.student}: {problems[0]}; accepted: delete {self.student}, then --resume saves it"
                " again"
            )
        return True

    # --- writing --------------------------------------------------------------------------------------------

    def log_metrics(self, record: Mapping[str, Any]) -> None:
        """Appends one record to metrics.jsonl.

        Args:
            record: `kind` ("train" or "eval"); `stage` (its name); `step` (of the stage); the run's totals up
                to this step, `global_step`, `samples`, `flops` (student and teacher) and `seconds`; and the
                measured values under plain names: `loss`, `learning_rate`, `explained_variance`, `accuracy`,
                …
        """
        append_line(self.path / METRICS, record)

    def copy_metrics(self, checkpoint: Path) -> None:
        """Copies metrics.jsonl into a checkpoint for `restore_metrics`. Call it before the manifest."""
        path = self.path / METRICS
        with writing(checkpoint):
            (checkpoint / METRICS).write_bytes(path.read_bytes() if path.exists() else b"")

    def restore_metrics(self, checkpoint: Path | None, global_step: int, *, say: bool = True) -> None:
        """Restores metrics.jsonl to its content when `checkpoint` was written.

        Lost or damaged records are restored. Records of later steps are removed: the run writes them again.

        Args:
            checkpoint: the checkpoint that the run continues from; `None` for a run that starts anew.
            global_step: the last step to keep, for checkpoints of earlier versions, which have no copy of the
                metrics.
            say: whether to warn of damage.
        """
        path = self.path / METRICS
        if checkpoint is not None and not (checkpoint / METRICS).exists():
            rewrite_lines(
                path, [record for record in read_lines(path) if record["global_step"] <= global_step]
            )
            return
        copy = b"" if checkpoint is None else (checkpoint / METRICS).read_bytes()
        current = path.read_bytes() if path.exists() else b""
        if current == copy:
            return
        if say and not current.startswith(copy):
            warnings.warn(
                f"{path}: was damaged; its records are restored from {checkpoint}", UserWarning, stacklevel=2
            )
        write_atomic(path, copy)

    def finish_stage(self, record: StageRecord) -> None:
        """Appends a finished stage to stages.jsonl.

        Call it after the stage's last checkpoint has its manifest.
        """
        append_line(self.path / STAGES, sealed(redact(dataclasses.asdict(record))))

    def keep(self, name: str, text: str) -> None:
        """Writes one of the small files, and stores its text in run.json."""
        info = self.info()
        self._write_info({**info, "files": {**info.get("files", {}), name: text}})
        write_atomic(self.path / name, text)

    def truncate_stages(self, count: int) -> None:
        """Keeps only the first `count` stage records, if the last checkpoint of a later stage is damaged."""
        records = [sealed(dataclasses.asdict(stage)) for stage in self.stages()[:count]]
        rewrite_lines(self.path / STAGES, records)

    def finish(self, summary: Summary) -> None:
        """Writes summary.json, marks the run as finished and releases the lock."""
        text = json.dumps(redact(finite(dataclasses.asdict(summary))), indent=1)
        write_atomic(self.path / SUMMARY, text)
        info = self.info()
        change = {
            "status": "finished",
            "finished": _now(),
            "failure": None,
            "files": {**info.get("files", {}), SUMMARY: text},
            "student": file_entries(self.student),
        }
        self._write_info({**info, **change})
        self.close()

    def fail(self, message: str) -> None:
        """Marks the run as failed, with the reason in one line, and releases the lock."""
        change = {"status": "failed", "finished": _now(), "failure": redact_text(" ".join(message.split()))}
        with suppress(VigreuxError):  # on a full disk, the error that is being raised says more
            self._write_info({**self.info(), **change})
        self.close()

    def close(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and self._lock.held:  # a run without the lock has finished
            self.fail(str(error) or kind.__name__)
        self.close()

    def _write_info(self, info: Mapping[str, Any]) -> None:
        write_atomic(self.path / INFO, json.dumps(sealed(info), indent=1, ensure_ascii=False))

    def _take_lock(self) -> None:
        try:
            self._lock.take()
        except FolderBusyError as busy:
            raise CheckpointError(
                f"{self.path}: is being written by {self._writer()}; wait for it, or choose another output"
            ) from busy

    def _writer(self) -> str:
        """The process that writes the run, from run.json. The lock file names no process."""
        try:
            return str(self.info().get("writer") or "another process")
        except CheckpointError:  # run.json is not written yet
            return "another process"


def _curriculum_name(config: Mapping[str, Any]) -> str:
    name = config.get("curriculum")
    return Path(name).stem if isinstance(name, str) else "custom"


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
