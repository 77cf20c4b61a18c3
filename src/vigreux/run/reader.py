"""Reads a run folder: where the files are, and what they contain.

    RUN/
      run.json          format, name of the curriculum, seed, device, command, versions, status, times,
                        failure, fingerprints of data and teachers, the text of the four small files below,
                        and a checksum
      config.yaml       the configuration
      curriculum.yaml   the stages, resolved
      plan.json         steps and costs of the stages, fixed when the run begins
      summary.json      final metrics and cost (`Summary`)
      metrics.jsonl     one record a line (see `RunFolder.log_metrics`)
      stages.jsonl      one line for each finished stage (`StageRecord`), with a checksum
      stages/00-NAME/checkpoint-STEP/   resume points, with a manifest and with the metrics up to that step
      student/          the finished model
      initial/          the student's first weights; a first stage that is resumed starts from them

A folder with a run.json is a run; a folder without one is not. config.yaml, curriculum.yaml, plan.json and
summary.json are copies of texts in run.json, for people to read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vigreux.errors import CheckpointError
from vigreux.files.atomic import is_whole, read_lines, without_seal
from vigreux.files.lock import LOCK, SOFT_LOCK, is_locked
from vigreux.files.yaml_files import load_yaml
from vigreux.run.checkpoints import MANIFEST, checkpoints_in
from vigreux.run.file_types import MOST_STAGES, Asked, Info, PlainRecord, PlainStages, PlainSummary, checked
from vigreux.run.records import (
    CONFIG,
    CURRICULUM,
    FILES,
    FORMAT,
    INFO,
    METRICS,
    STAGES,
    STATUSES,
    SUMMARY,
    StageRecord,
    Summary,
    parsed,
    read_fields,
    text_of,
)

_STAGE_DIRECTORY = re.compile(r"([0-9]{2,})-.+")


@dataclass(frozen=True)
class RunCheckpoint:
    """One checkpoint of a run.

    Args:
        stage: index of its stage, from 0.
        step: optimiser steps of that stage.
        global_step: optimiser steps of the run, including those of earlier stages.
        path: the directory.
    """

    stage: int
    step: int
    global_step: int
    path: Path


class RunReader:
    """A run on disk, for reading. Another process may still be writing it."""

    def __init__(self, path: Path | str) -> None:
        """Checks nothing; `open` does. The paths are also valid for a run that does not exist yet."""
        self.path = Path(path)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """The run in the folder `path`.

        Raises:
            CheckpointError: `path` is no run folder, is damaged, or has a later format.
        """
        run = cls(path)
        info = run.info()
        info_path = run.path / INFO
        if info.get("format") != FORMAT:
            raise CheckpointError(f"{info_path}: format {info.get('format')!r}; accepted: {FORMAT}")
        if info.get("status") not in STATUSES:
            raise CheckpointError(
                f"{info_path}: status: {info.get('status')!r}; accepted: {', '.join(STATUSES)}"
            )
        return run

    # --- where everything lies ------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (self.path / INFO).exists()

    @property
    def student(self) -> Path:
        """The directory of the finished model."""
        return self.path / "student"

    @property
    def unfinished_student(self) -> Path:
        """The directory in which the finished model is written, before it is renamed to `student`."""
        return self.path / "student.tmp"

    @property
    def initial(self) -> Path:
        """The directory of the student's first weights."""
        return self.path / "initial"

    def stage_dir(self, index: int, name: str) -> Path:
        """The directory of the checkpoints of stage `index` (from 0): stages/00-NAME."""
        return self.path / "stages" / f"{index:02d}-{name}"

    def stage_dirs(self) -> dict[int, Path]:
        """Index of a stage → its directory, in order, for the stages that have one."""
        directories = {
            int(match[1]): path
            for path in self.path.glob("stages/*")
            if (match := _STAGE_DIRECTORY.fullmatch(path.name))
        }
        return dict(sorted(directories.items()))

    def checkpoints(self) -> list[RunCheckpoint]:
        """The complete checkpoints of all stages, in the order in which the run made them.

        Their files are not compared with their manifests; `verify_manifest` does that.
        """
        steps = [record.steps for record in self.stages()]
        return [
            RunCheckpoint(index, step, sum(steps[:index]) + step, path)
            for index, directory in self.stage_dirs().items()
            for step, path in checkpoints_in(directory).items()
            if (path / MANIFEST).exists()
        ]

    # --- what the files say ---------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            CheckpointError: run.json is missing, or its checksum shows that it is damaged.
        """
        path = self.path / INFO
        if not path.exists():
            raise CheckpointError(
                f"{self.path}: not a run folder ({INFO} is missing){_runs_inside(self.path)}"
            )
        info = parsed(path, text_of(path), json.loads, dict)
        files = info.get("files", {})
        are_texts = isinstance(files, dict) and all(isinstance(text, str) for text in files.values())
        if not is_whole(info) or not are_texts or not set(files) <= set(FILES):
            raise CheckpointError(
                f"{path}: is damaged (its checksum does not match); accepted: another output; the"
                " checkpoints under stages/ still load as models"
            )
        checked(path, Info, info)
        return info

    @property
    def status(self) -> str:
        """The status in run.json: "running", "finished" or "failed".

        A run is "stopped" if run.json says "running" and no process holds the run's lock.
        """
        status = self.info()["status"]
        if status == "running" and not is_locked(self.path):
            return "stopped"
        return status

    def text(self, name: str) -> str | None:
        """The text of one of the small files, from run.json; `None` if the run does not have it (yet).

        In runs of earlier versions of Vigreux, only the file has it.
        """
        text = self.info().get("files", {}).get(name)
        if text is not None:
            return str(text)
        path = self.path / name
        return text_of(path) if path.exists() else None

    def config(self) -> dict[str, Any]:
        """The configuration, as plain values."""
        return checked(self.path / CONFIG, Asked, self._parsed(CONFIG, load_yaml, dict))

    def curriculum(self) -> list[dict[str, Any]]:
        """The stages as plain values. `vigreux.curriculum.serialize.from_plain` reads them."""
        return checked(self.path / CURRICULUM, PlainStages, self._parsed(CURRICULUM, load_yaml, list))

    def _parsed(self, name: str, parse: Callable[[str], Any], kind: type) -> Any:
        text = self.text(name)
        if text is None:
            raise CheckpointError(f"{self.path / name}: is missing; the run folder is damaged")
        return parsed(self.path / name, text, parse, kind)

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The records of metrics.jsonl in order: all, or those of one kind ("train", "eval")."""
        return [record for record in read_lines(self.path / METRICS) if kind in (None, record.get("kind"))]

    def stages(self) -> list[StageRecord]:
        """The finished stages, in order."""
        path = self.path / STAGES
        lines = read_lines(path)
        if len(lines) > MOST_STAGES:
            raise CheckpointError(f"{path}: {len(lines):,} stages; accepted: at most {MOST_STAGES:,}")
        records = []
        for number, line in enumerate(lines, start=1):
            if not is_whole(line):
                raise CheckpointError(
                    f"{path}: line {number} is damaged (its checksum does not match); accepted: --resume,"
                    " which writes it again"
                )
            plain = checked(path, PlainRecord, without_seal(line))
            records.append(read_fields(path, StageRecord, {**plain, "notes": tuple(plain.get("notes", ()))}))
        return records

    def summary(self) -> Summary | None:
        """The result of the run; `None` while it has not ended."""
        path = self.path / SUMMARY
        text = self.text(SUMMARY)
        if text is None:
            return None
        plain = checked(path, PlainSummary, parsed(path, text, json.loads, dict))
        return read_fields(path, Summary, {**plain, "notes": tuple(plain.get("notes", ()))})


def check_vacant(path: Path) -> None:
    """Raises `CheckpointError` unless `path` is new or empty.

    A lock and the temporary files of a killed write do not count.
    """
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path}: is a file; accepted: a new or empty folder")
    if RunReader(path).exists:
        status = RunReader.open(path).status
        hint = "--resume to continue it, or " if status in ("failed", "stopped") else ""
        raise CheckpointError(f"{path}: already holds a run ({status}); accepted: {hint}another output")
    if not path.exists():
        return
    ignored = re.compile(rf"{re.escape(LOCK)}|{re.escape(SOFT_LOCK)}|\..*\.tmp")
    names = sorted(entry.name for entry in path.iterdir() if not ignored.fullmatch(entry.name))
    if names:
        raise CheckpointError(
            f"{path}: is not empty and not a run folder (it holds {names[0]}); accepted: a new or empty"
            " folder"
        )


def _runs_inside(path: Path) -> str:
    """A hint for a user who named the folder above the run folders."""
    names = sorted(entry.parent.name for entry in path.glob(f"*/{INFO}"))
    return f"; run folders inside it: {', '.join(names[:5])}" if names else ""
