"""Hashes of everything that a run depends on: a resume needs the same data, tokenizer and teachers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from vigreux.backends.transformer.setup import Setup
from vigreux.curriculum import TeacherRef
from vigreux.distillation.signals.cached import CachedTeachers
from vigreux.distillation.signals.live import Teachers
from vigreux.models.load import weights_fingerprint
from vigreux.models.weights import weights_in_memory
from vigreux.run.folder import STUDENT
from vigreux.tasks.fingerprint import data_fingerprint


def run_fingerprints(setup: Setup) -> dict[str, str]:
    """Name → hash of the tokenised data, the tokenizer, the teachers' and the student's first weights."""
    prints = {"data": data_fingerprint(setup.task), STUDENT: weights_in_memory(setup.student)}
    if setup.processing_class is not None and hasattr(setup.processing_class, "get_vocab"):
        prints["tokenizer"] = tokenizer_fingerprint(setup.processing_class)
    if isinstance(setup.teachers, CachedTeachers):
        return prints | {"cache": hash_of(setup.teachers.store.manifest.fits)}
    for ref in dict.fromkeys(stage.teacher for stage in setup.curriculum):
        if (fingerprint := _of_teacher(setup.teachers, ref)) is not None:
            prints[f"teacher ({ref})"] = fingerprint
    return prints


def _of_teacher(teachers: Teachers, ref: TeacherRef) -> str | None:
    if ref.kind == "labels":
        return None
    if ref.kind == "final":
        return None if teachers.final is None else weights_in_memory(teachers.final.model)
    source = teachers.checkpoints[ref.step] if ref.step is not None else ref.model
    assert source is not None
    return weights_fingerprint(source) if Path(source).is_dir() else source


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of the vocabulary."""
    return hash_of(sorted(tokenizer.get_vocab().items()))


def hash_of(value: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
