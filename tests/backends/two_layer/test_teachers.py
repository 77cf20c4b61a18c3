"""Two-layer teachers: logits from the cache, the projected hidden layer, and the folders of the networks."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import vigreux.backends.two_layer.teachers as teachers
import vigreux.distillation.projection as projection
from vigreux.backends.two_layer.teachers import (
    HiddenTargets,
    LogitCache,
    TwoLayerTeachers,
    forward,
    layer_width,
    read_shape,
)
from vigreux.curriculum import Hidden, Projection, TeacherRef
from vigreux.distillation.projection import projection_entries, projection_matrix, sparse_projection
from vigreux.errors import CheckpointError
from vigreux.models.two_layer import TwoLayer
from vigreux.run.checkpoints import write_manifest
from vigreux.tasks.synthetic.bits import BitStream

CHUNK = 64
STREAM = BitStream(7, 5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder: `$VIGREUX_CACHE`, with small files."""
    monkeypatch.setenv("VIGREUX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(teachers, "_CHUNK", CHUNK)
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    TwoLayer(7, 12, 3, seed=1).save(tmp_path / "teacher")
    return tmp_path / "teacher"


def direct(folder: Path, first: int, count: int) -> torch.Tensor:
    return TwoLayer.load(folder)(torch.from_numpy(STREAM.block(first, count)).float())


# --- logits -------------------------------------------------------------------------------------------------


def test_any_block_of_the_cache_is_the_direct_forward(folder: Path) -> None:
    for first, count in (
        (0, 1),
        (0, CHUNK),
        (CHUNK - 1, 2),
        (10, 3 * CHUNK),
        (5 * CHUNK, 7),
        (2, CHUNK),
        (CHUNK, 1),
    ):
        for _ in range(2):  # computed, then read
            torch.testing.assert_close(
                LogitCache(folder, STREAM).block(first, count), direct(folder, first, count)
            )
    kept = LogitCache(folder, STREAM)
    torch.testing.assert_close(kept.block(3, 200), direct(folder, 3, 200))
    torch.testing.assert_close(kept.block(1, 5), direct(folder, 1, 5))  # back again


def test_a_second_student_loads_no_teacher(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    monkeypatch.setattr(teachers, "forward", lambda network, X: passes.append(len(X)) or forward(network, X))
    first = LogitCache(folder, STREAM).block(0, 3 * CHUNK)
    assert passes == [CHUNK] * 3
    monkeypatch.setattr(TwoLayer, "load", lambda *_: pytest.fail("was loaded"))
    assert torch.equal(LogitCache(folder, STREAM).block(0, 3 * CHUNK), first)
    assert passes == [CHUNK] * 3


def test_files_are_in_the_users_cache_and_of_one_teacher_and_stream(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    TwoLayer(7, 12, 3, seed=2).save(tmp_path / "other")
    for source, stream in (
        (folder, STREAM),
        (folder, BitStream(7, 6)),
        (folder, BitStream(7, 5, "eval")),
        (tmp_path / "other", STREAM),
    ):
        found = LogitCache(source, stream).block(0, 9)
        torch.testing.assert_close(found, TwoLayer.load(source)(torch.from_numpy(stream.block(0, 9)).float()))
    assert len(list(cache.glob("logits/*/000000.npy"))) == 4
    shutil.copytree(folder, tmp_path / "moved")
    LogitCache(tmp_path / "moved", STREAM).block(0, 9)  # the same weights elsewhere
    assert len(list(cache.glob("logits/*"))) == 4
    assert np.load(next(cache.glob("logits/*/000000.npy"))).shape == (CHUNK, 3)  # numpy opens them


@pytest.mark.parametrize("damage", ["empty", "truncated", "a byte", "the seal", "another file"])
def test_a_damaged_file_is_computed_again(damage: str, folder: Path, cache: Path) -> None:
    whole = LogitCache(folder, STREAM).block(0, CHUNK)
    (path,) = cache.glob("logits/*/000000.npy")
    sound = bytearray(path.read_bytes())
    bad = {
        "empty": b"",
        "truncated": sound[:-40],
        "a byte": sound[:200] + bytes([sound[200] ^ 1]) + sound[201:],
        "the seal": sound[:-1] + bytes([sound[-1] ^ 1]),
        "another file": b"not numpy's" * 40,
    }
    path.write_bytes(bad[damage])
    assert torch.equal(LogitCache(folder, STREAM).block(0, CHUNK), whole)
    assert path.read_bytes() == sound


def test_a_cache_that_cannot_be_written(folder: Path, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(CheckpointError, match=r"cache/logits/.*cannot be written"):
        LogitCache(folder, STREAM).block(0, 1)


# --- the hidden layer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["unit", "per-dimension", "none"])
@pytest.mark.parametrize("kind", ["sparse", "gaussian", "orthogonal", "identity"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hidden_targets(kind: str, scaling: str, dtype: torch.dtype) -> None:
    width = 12 if kind == "identity" else 5
    network = TwoLayer(7, 12, 2, seed=3, dtype=dtype)
    target = Hidden(1, Projection(kind, 4), scaling)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's word on sparse tensors among them
        found = HiddenTargets(network, target, width, data_seed=8)
        X = STREAM.block(0, 700)
        rows = found.block(X)
    P = projection_matrix(target.projection, 12, width).to(dtype)

    def projected(X: np.ndarray) -> torch.Tensor:
        return torch.relu(torch.from_numpy(X).to(dtype) @ network.hidden.weight.T + network.hidden.bias) @ P

    spread = projected(BitStream(7, 8, "calibrate").block(0, 4096)).var(dim=0, correction=0)
    divisor = {"none": torch.ones(()), "unit": spread.mean().sqrt(), "per-dimension": spread.sqrt()}[scaling]
    torch.testing.assert_close(rows, projected(X) / divisor.to(dtype))
    assert found.variance == pytest.approx(float((spread / divisor**2).sum()), rel=1e-4)
    assert rows.shape == (700, width)
    assert rows.dtype == dtype


@pytest.mark.parametrize("kind", ["sparse", "gaussian", "orthogonal", "identity"])
def test_projected_logits(kind: str) -> None:
    """Layer 2: K logits to the student's width, from the network or from logits that are at hand."""
    width, double = 3 if kind == "identity" else 5, torch.float64
    network, target = (
        TwoLayer(7, 12, 3, seed=3, dtype=double),
        Hidden(2, Projection(kind, 4), "per-dimension"),
    )  # type: ignore[arg-type]
    assert (layer_width(network, 1), layer_width(network, 2)) == (12, 3)
    found = HiddenTargets(network, target, width, data_seed=8)
    X, P = STREAM.block(0, 700), projection_matrix(target.projection, 3, width).to(double)
    spread = (network(torch.from_numpy(BitStream(7, 8, "calibrate").block(0, 4096)).to(double)) @ P).var(
        dim=0, correction=0
    )
    logits = network(torch.from_numpy(X).to(double))
    torch.testing.assert_close(found.block(X), logits @ P / spread.sqrt().clamp(min=1e-12))
    torch.testing.assert_close(found.project(logits.T), found.block(X))


def test_a_dead_teacher_gives_zeros() -> None:
    network = TwoLayer(7, 12, 2)
    network.hidden.bias.fill_(-100)
    assert not HiddenTargets(network, Hidden(1), 5, 0).block(STREAM.block(0, 9)).any()


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 5), st.integers(1, 70))
def test_a_sparse_projection_is_the_matrix_of_that_name(
    d_teacher: int, d_student: int, seed: int, drawn: int
) -> None:
    """However many rows of random numbers are held at a time."""
    spec = Projection("sparse", seed)
    dense = projection_matrix(spec, d_teacher, d_student)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(projection, "_DRAWN", drawn)
        sparse = sparse_projection(spec, d_teacher, d_student)
    assert torch.equal(sparse.to_dense(), dense.T)
    assert (
        sparse.values().numel()
        == int(dense.count_nonzero())
        == projection_entries(spec, d_teacher, d_student)
    )


def test_the_matrix_stays_what_it_was() -> None:
    """Drawn with the whole matrix of random numbers at once: the values of this seed."""
    generator = torch.Generator().manual_seed(3)
    places = torch.rand(40, 9, generator=generator, dtype=torch.float64).topk(2, dim=1).indices
    signs = 2.0 * torch.randint(2, (40, 2), generator=generator) - 1
    expected = torch.zeros(40, 9, dtype=torch.float64).scatter_(
        1, places, (9 / 80) ** 0.5 * signs.to(torch.float64)
    )
    torch.testing.assert_close(projection_matrix(Projection("sparse", 3), 40, 9), expected.float())


# --- where the networks are ---------------------------------------------------------------------------------


def make_run(root: Path, *, stages: int = 1, finished: bool = True) -> Path:
    """A run folder with checkpoints 5 and 10 of each stage, of which the last is the final network."""
    for stage in range(stages):
        for step in (5, 10):
            path = root / "stages" / f"{stage:02d}-labels" / f"checkpoint-{step}"
            TwoLayer(7, 12, 2, seed=10 * stage + step).save(path)
            write_manifest(path)
    (root / "run.json").write_text("{}")
    if finished:
        TwoLayer(7, 12, 2, seed=10 * (stages - 1) + 10).save(root / "student")
    return root


def test_a_run_folder_is_a_teacher_with_its_checkpoints(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run")
    found = TwoLayerTeachers.find(str(root))
    series = root / "stages" / "00-labels"
    assert found.final == root / "student"
    assert found.checkpoints == {step: series / f"checkpoint-{step}" for step in (5, 10)}
    assert found.before_final == [5]  # the tenth is the final one
    assert found.folder(TeacherRef.checkpoint(10)) == series / "checkpoint-10"
    assert found.folder(TeacherRef.final()) == found.folder(TeacherRef.other(str(root))) == root / "student"
    alone = TwoLayerTeachers.find(str(root / "student"))
    assert (alone.final, alone.checkpoints, alone.before_final) == (root / "student", {}, [])
    assert TwoLayerTeachers.find(str(root / "student"), str(series)) == found


def test_other_folders_beside_the_checkpoints(tmp_path: Path) -> None:
    series = make_run(tmp_path / "run") / "stages" / "00-labels"
    for name in ("checkpoint-", "checkpoint-last", "checkpoint-5-copy", "notes"):
        (series / name).mkdir()
    assert list(TwoLayerTeachers.find(str(tmp_path / "run")).checkpoints) == [5, 10]


def test_a_run_of_several_stages_gives_no_series_of_its_own(tmp_path: Path) -> None:
    """Its steps would not be unique."""
    root = make_run(tmp_path / "run", stages=2)
    assert TwoLayerTeachers.find(str(root)).checkpoints == {}
    assert list(TwoLayerTeachers.find(str(root), str(root / "stages" / "01-labels")).checkpoints) == [5, 10]


def test_what_is_no_teacher(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"teacher\.model: '.*nowhere' has no model\.safetensors; accepted: a finished run",
    ):
        TwoLayerTeachers.find(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"has not finished, it has no model\.safetensors"):
        TwoLayerTeachers.find(str(make_run(tmp_path / "run", finished=False)))
    with pytest.raises(CheckpointError, match=r"teacher\.checkpoints: no checkpoint-STEP folder in"):
        TwoLayerTeachers.find(str(folder), str(tmp_path))


def test_the_shape_is_read_without_the_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TwoLayer(5, 3, 8, dtype=torch.float64).save(tmp_path / "double")
    monkeypatch.setattr("vigreux.models.two_layer.load_file", lambda *_: pytest.fail("weights were read"))
    for path, found in ((folder, (7, 12, 3, 4)), (tmp_path / "double", (5, 3, 8, 8))):
        shape = read_shape(path)
        assert (shape.n, shape.width, shape.classes, shape.bytes_per) == found
    assert read_shape(folder).parameters == sum(p.numel() for p in TwoLayer(7, 12, 3).parameters())


def test_weights_that_cannot_be_used(folder: Path) -> None:
    described = json.loads((folder / "config.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(CheckpointError, match=match):
            read_shape(folder)

    (folder / "config.json").write_text(json.dumps(described | {"model_type": "llama"}))
    refused(r"model type 'llama'; accepted: 'two-layer'")
    (folder / "config.json").write_text(json.dumps(described | {"width": 13}))
    refused("describe different networks")
    for text in ("[1]", "{", '{"model_type": "two-layer"}'):
        (folder / "config.json").write_text(text)
        refused("missing or damaged weights")
    (folder / "config.json").write_text(json.dumps(described))
    read_shape(folder)
    (folder / "model.safetensors").write_bytes(weights[:-8])
    refused("missing or damaged weights")
    save_file({"hidden.weight": torch.zeros(12, 7)}, folder / "model.safetensors")
    refused("missing or damaged weights")
