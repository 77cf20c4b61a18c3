"""What a two-layer teacher says of the coming samples: its logits, computed once for all students, or its projected units."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vigreux.assets import cache_folder
from vigreux.checkpoints import verify_manifest
from vigreux.curriculum import Hidden, TeacherRef
from vigreux.distillation.projection import projection_matrix
from vigreux.errors import CheckpointError, unknown
from vigreux.files import write_atomic, writing
from vigreux.models.two_layer import WEIGHTS, TwoLayer
from vigreux.tasks.bits import BitStream

_ROWS = 256  # samples that go through a wide teacher together: their hidden units stay small beside its weights
_CHUNK = 16_384  # samples of one file of the cache
_CALIBRATION = 4096  # samples on which the projected hidden layer's scale is measured


@dataclass(frozen=True)
class OnlineTeachers:
    """The final teacher and the checkpoints of its run, as folders.

    Args:
        final: the trained network.
        checkpoints: step of the teacher's run → folder.
    """

    final: Path
    checkpoints: dict[int, Path]

    @classmethod
    def find(cls, model: str, checkpoints: str | None = None) -> OnlineTeachers:
        """Looks into the run folder of `vigreux teach`, or a folder that holds a network.

        Raises:
            CheckpointError: nothing there.
        """
        root = Path(model)
        final = root / "student" if (root / "student" / WEIGHTS).exists() else root
        if not (final / WEIGHTS).exists():
            raise CheckpointError(
                f"teacher.model: no {WEIGHTS} in {model!r}; accepted: a finished run of vigreux teach, or such a folder"
            )
        found = (Path(checkpoints) if checkpoints else root).glob("checkpoint-*" if checkpoints else "stages/*/checkpoint-*")
        series = {int(path.name.rsplit("-", 1)[1]): path for path in found if path.name.rsplit("-", 1)[1].isdecimal()}
        if checkpoints and not series:
            raise CheckpointError(f"teacher.checkpoints: no checkpoint-STEP folder in {checkpoints!r}")
        return cls(final, dict(sorted(series.items())))

    def folder(self, teacher: TeacherRef) -> Path:
        """Where the network is that a stage names.

        Raises:
            CheckpointError: a step that is not in the series, or a damaged checkpoint.
        """
        if teacher.kind == "model":
            return OnlineTeachers.find(str(teacher.model)).final
        if teacher.step is None:
            return self.final
        if teacher.step not in self.checkpoints:
            raise CheckpointError(unknown("teacher.checkpoints: step", teacher.step, self.checkpoints))
        path = self.checkpoints[teacher.step]
        if problems := verify_manifest(path):
            raise CheckpointError(f"{path}: {problems[0]}")
        return path


def forward(network: TwoLayer, X: np.ndarray) -> Tensor:
    """(N, n) ±1 → logits (N, K), in blocks, so that wide networks need little memory."""
    return torch.cat([network(rows) for rows in _blocks(network, X)])


def _blocks(network: TwoLayer, X: np.ndarray) -> Iterator[Tensor]:
    for start in range(0, len(X), _ROWS):
        yield torch.from_numpy(X[start : start + _ROWS]).to(network.dtype)


class LogitCache:
    """A teacher's logits on a stream of samples, on disk: computed once, whichever students ask and in which order.

    Files of 16,384 samples each, named by the SHA-256 of the teacher's weights and by the stream, in the user's cache folder
    (`$VIGREUX_CACHE`); 2 logits of 20M samples take 160 MB.
    """

    def __init__(self, folder: Path, stream: BitStream) -> None:
        self.source, self.stream = folder, stream
        weights = _sha256(folder / WEIGHTS)
        self.folder = cache_folder() / "logits" / f"{weights[:24]}-n{stream.n}-{stream.purpose}-{stream.seed}"
        self._held: tuple[int, Tensor] | None = None

    @cached_property
    def teacher(self) -> TwoLayer:
        """Loaded when a part of the stream is not in the cache."""
        return TwoLayer.load(self.source)

    def block(self, first: int, count: int) -> Tensor:
        """(count, K) logits of samples `first` to `first + count − 1`."""
        numbers = range(first // _CHUNK, (first + count - 1) // _CHUNK + 1)
        parts = [self._chunk(number)[max(first - number * _CHUNK, 0) : first + count - number * _CHUNK] for number in numbers]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _chunk(self, number: int) -> Tensor:
        if self._held is None or self._held[0] != number:
            self._held = (number, self._read(number))
        return self._held[1]

    def _read(self, number: int) -> Tensor:
        path = self.folder / f"{number:06d}.npy"
        try:
            return torch.from_numpy(np.load(path))
        except (OSError, ValueError, EOFError):  # not there yet, or not whole
            logits = forward(self.teacher, self.stream.block(number * _CHUNK, _CHUNK))
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            np.save(buffer, logits.numpy())
            write_atomic(path, buffer.getvalue())
            return logits


class HiddenTargets:
    """A teacher's hidden layer, projected to the student's width and scaled: `s · relu(W_T x + b_T) P`.

    `s` is 1 / the standard deviation of the projected units on 4,096 samples of their own stream: one number for `unit`, one a
    unit for `per-dimension`, 1 for `none`.
    """

    def __init__(self, teacher: TwoLayer, target: Hidden, width: int, data_seed: int) -> None:
        P = projection_matrix(target.projection, teacher.width, width).T.to(teacher.dtype)  # (m, m_T)
        # a sparse product costs less than a dense one only when few entries are left
        self.P = P.to_sparse_csr() if target.projection.kind == "sparse" else P.contiguous()
        self.teacher = teacher
        self.scale = torch.ones(width, dtype=teacher.dtype)
        sample = self.block(BitStream(teacher.n, data_seed, "calibrate").block(0, _CALIBRATION))
        variance = sample.var(dim=0, correction=0)
        if target.scaling == "unit":
            self.scale /= variance.mean().sqrt()
        elif target.scaling == "per-dimension":
            self.scale /= variance.sqrt().clamp(min=1e-12)
        self.variance = float((variance * self.scale.square()).sum())

    def block(self, X: np.ndarray) -> Tensor:
        """(N, n) ±1 → (N, m)."""
        W, b = self.teacher.hidden.weight, self.teacher.hidden.bias
        parts = [(self.P @ torch.addmm(b[:, None], W, rows.T).relu_()).T * self.scale for rows in _blocks(self.teacher, X)]
        return torch.cat(parts)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
