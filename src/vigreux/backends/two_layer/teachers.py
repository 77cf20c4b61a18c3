"""The signals of a two-layer teacher: logits, computed once for all students, or projected hidden units."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vigreux.curriculum import Hidden, TeacherRef
from vigreux.distillation.projection import projection_matrix, sparse_projection
from vigreux.downloads.assets import cache_folder
from vigreux.errors import CheckpointError, unknown
from vigreux.files.atomic import write_atomic, writing
from vigreux.files.digest import file_sha256
from vigreux.kernels.forward import ROWS, SignForward
from vigreux.models.two_layer import CONFIG, MODEL_TYPE, WEIGHTS, TwoLayer
from vigreux.run.checkpoints import checkpoints_in, verify_manifest
from vigreux.run.folder import RunFolder
from vigreux.tasks.synthetic.bits import BitStream

_CHUNK = 16_384  # samples of one file of the cache
_CALIBRATION = 4096  # samples on which the projected hidden layer's scale is measured
_SEAL = hashlib.sha256().digest_size  # a file of the cache ends with the SHA-256 of all bytes before it


@dataclass(frozen=True)
class TwoLayerTeachers:
    """The final teacher and the checkpoints of its run, as folders.

    Args:
        final: the trained network.
        checkpoints: step of the teacher's run → folder.
    """

    final: Path
    checkpoints: dict[int, Path]

    @classmethod
    def find(cls, model: str, checkpoints: str | None = None) -> TwoLayerTeachers:
        """Finds the networks in a run folder of `vigreux teach`, or in a folder with one network.

        Raises:
            CheckpointError: there is no network, or no checkpoint in `checkpoints`.
        """
        root = Path(model)
        run = RunFolder(root)
        final = run.student if (run.student / WEIGHTS).exists() else root
        if not (final / WEIGHTS).exists():
            state = "has not finished, it has" if run.exists else "has"
            raise CheckpointError(
                f"teacher.model: {model!r} {state} no {WEIGHTS}; accepted: a finished run of vigreux teach,"
                " or a folder with that file"
            )
        stages = list(run.stage_dirs().values())
        source = Path(checkpoints) if checkpoints else stages[0] if len(stages) == 1 else None
        series = checkpoints_in(source) if source is not None else {}
        if checkpoints and not series:
            raise CheckpointError(f"teacher.checkpoints: no checkpoint-STEP folder in {checkpoints!r}")
        return cls(final, series)

    @property
    def before_final(self) -> list[int]:
        """The steps of the checkpoints, without a last one that equals the final teacher."""
        steps = list(self.checkpoints)
        last = self.checkpoints[steps[-1]] / WEIGHTS if steps else None
        is_final = (
            last is not None and last.exists() and file_sha256(last) == file_sha256(self.final / WEIGHTS)
        )
        return steps[:-1] if is_final else steps

    def folder(self, teacher: TeacherRef) -> Path:
        """The folder of the network that a stage names.

        Raises:
            CheckpointError: a step is not in the series, or a checkpoint is damaged.
        """
        if teacher.kind == "model":
            return TwoLayerTeachers.find(str(teacher.model)).final
        if teacher.step is None:
            return self.final
        if teacher.step not in self.checkpoints:
            raise CheckpointError(unknown("teacher.checkpoints: step", teacher.step, self.checkpoints))
        path = self.checkpoints[teacher.step]
        if problems := verify_manifest(path):
            raise CheckpointError(f"{path}: {problems[0]}")
        return path


@dataclass(frozen=True)
class NetworkShape:
    """The shape of a two-layer network, as its files describe it.

    Args:
        n: inputs.
        width: hidden units.
        classes: logits, K.
        bytes_per: bytes of a parameter.
    """

    n: int
    width: int
    classes: int
    bytes_per: int = 4

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.width * (self.n + 1 + self.classes) + self.classes


def read_shape(folder: Path) -> NetworkShape:
    """The shape of the network in `folder`, without reading its weights.

    Raises:
        CheckpointError: the folder has no two-layer network, or its files are damaged or contradict each
            other.
    """
    try:
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = described.get("model_type")
        if kind != MODEL_TYPE:
            raise CheckpointError(
                f"{folder}: model type {kind!r}; accepted: {MODEL_TYPE!r}, a network of a parity task"
            )
        with safe_open(folder / WEIGHTS, "pt") as file:
            W = file.get_slice("hidden.weight")
            A = file.get_slice("output.weight")
            width, n = W.get_shape()
            classes = A.get_shape()[0]
            bytes_per = {"F32": 4, "F64": 8}[W.get_dtype()]
        if (n, width, classes) != (described["n"], described["width"], described["classes"]):
            raise ValueError(f"{CONFIG} and {WEIGHTS} describe different networks")
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: missing or damaged weights ({' '.join(str(error).split())})"
        ) from error
    return NetworkShape(n, width, classes, bytes_per)


def forward(network: TwoLayer, X: np.ndarray) -> Tensor:
    """(N, n) ±1 → logits (N, K)."""
    return SignForward(*network.parameters_in_order()).logits(X)


class LogitCache:
    """A teacher's logits on a stream of samples, on disk. They are computed once, for all students.

    The files are in the user's cache folder (`$VIGREUX_CACHE`), in folders named by the SHA-256 of the
    teacher's weights and by the stream. A file has 16,384 samples and ends with the SHA-256 of its contents.
    2 logits of 20M samples take 160 MB.
    """

    def __init__(self, folder: Path, stream: BitStream) -> None:
        self.source = folder
        self.stream = stream
        weights = file_sha256(folder / WEIGHTS)
        self.folder = cache_folder() / "logits" / f"{weights[:24]}-n{stream.n}-{stream.purpose}-{stream.seed}"
        self._held: tuple[int, Tensor] | None = None

    @cached_property
    def teacher(self) -> TwoLayer:
        """The teacher, loaded when the cache lacks samples."""
        return TwoLayer.load(self.source)

    def block(self, first: int, count: int) -> Tensor:
        """(count, K) logits of samples `first` to `first + count − 1`."""
        numbers = range(first // _CHUNK, (first + count - 1) // _CHUNK + 1)
        parts = [
            self._chunk(number)[max(first - number * _CHUNK, 0) : first + count - number * _CHUNK]
            for number in numbers
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _chunk(self, number: int) -> Tensor:
        if self._held is None or self._held[0] != number:
            self._held = (number, self._read(number))
        return self._held[1]

    def _read(self, number: int) -> Tensor:
        path = self.folder / f"{number:06d}.npy"
        try:
            sealed = path.read_bytes()
        except OSError:
            sealed = b""
        if hashlib.sha256(sealed[:-_SEAL]).digest() == sealed[-_SEAL:]:
            return torch.from_numpy(np.load(io.BytesIO(sealed)))
        logits = forward(self.teacher, self.stream.block(number * _CHUNK, _CHUNK))
        buffer = io.BytesIO()
        np.save(buffer, logits.numpy())
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
        return logits


LOGITS_LAYER = 2  # the second layer of a two-layer network, whose outputs are the logits


def layer_width(network: TwoLayer | NetworkShape, layer: int) -> int:
    """The number of outputs of a layer: hidden units m of the first, logits K of the second."""
    return network.classes if layer == LOGITS_LAYER else network.width


class HiddenTargets:
    """A teacher's layer, projected to the student's width and scaled: `s · h P`.

    `h` is `relu(W_T x + b_T)`, or the teacher's logits. `s` is 1 / the standard deviation of the projected
    units on 4,096 samples of a separate stream: one number for `unit`, one per unit for `per-dimension`, and
    1 for `none`.
    """

    def __init__(self, teacher: TwoLayer, target: Hidden, width: int, data_seed: int) -> None:
        self.layer = target.layer
        teacher_width = layer_width(teacher, target.layer)
        self.P: Tensor | None = None  # (m, m_T), or (m, K) for logits; `None` is the identity
        if target.projection.kind == "sparse":
            self.P = sparse_projection(target.projection, teacher_width, width).to(teacher.dtype)
        elif target.projection.kind != "identity" or teacher_width != width:
            matrix = projection_matrix(target.projection, teacher_width, width)
            self.P = matrix.T.to(teacher.dtype).contiguous()
        self.teacher = teacher
        self.units = SignForward(*teacher.parameters_in_order())
        self.scale = torch.ones(width, dtype=teacher.dtype)
        sample = self.block(BitStream(teacher.n, data_seed, "calibrate").block(0, _CALIBRATION))
        variance = sample.var(dim=0, correction=0)
        if target.scaling == "unit":
            self.scale /= variance.mean().sqrt().clamp(min=1e-12)
        elif target.scaling == "per-dimension":
            self.scale /= variance.sqrt().clamp(min=1e-12)
        self.variance = float((variance * self.scale.square()).sum())

    def block(self, X: np.ndarray) -> Tensor:
        """(N, n) ±1 → (N, m)."""
        if self.layer == LOGITS_LAYER:
            return self.project(forward(self.teacher, X).T)
        rows = ROWS * torch.get_num_threads()
        return torch.cat([self.project(self.units.hidden(X[i : i + rows])) for i in range(0, len(X), rows)])

    def project(self, h: Tensor) -> Tensor:
        """(m_T, N) the layer's own outputs, or (K, N) → (N, m)."""
        return (h if self.P is None else self.P @ h).T * self.scale
