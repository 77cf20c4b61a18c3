"""Rows come back by sample in any order; what is missing, damaged or for something else is named."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vigreux.distillation.signals import store as cache_store
from vigreux.distillation.signals.formats import Dense, TopClasses
from vigreux.distillation.signals.store import MANIFEST, CacheStore, Manifest
from vigreux.errors import CacheError, CheckpointError

WIDTH, SAMPLES, EACH = 4, 11, 3
MADE = Manifest(
    fits={"data": "a", "teacher": "b"},
    by="index",
    seed=None,
    samples={"train": SAMPLES, "held_out": 2},
    shard_samples=EACH,
    signals={"hidden": Dense(WIDTH, "float32"), "logits": TopClasses(6, 2)},
)


def rows_of(key: int, name: str) -> torch.Tensor:
    draw = torch.Generator().manual_seed(key)
    return torch.randn(key % 4, WIDTH if name == "hidden" else 6, generator=draw)


def filled(root, manifest: Manifest = MADE, *, but: tuple[int, ...] = ()) -> CacheStore:
    store = CacheStore.create(root, manifest)
    for split in ("train", "held_out"):
        for number in range(manifest.shards(split)):
            if number not in but:
                keys = manifest.keys(split, number)
                store.write(
                    split,
                    number,
                    {
                        name: [form.encode(rows_of(key, name)) for key in keys]
                        for name, form in manifest.signals.items()
                    },
                )
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return CacheStore.open(filled(tmp_path_factory.mktemp("cache")).root)


def test_opened_again_it_is_the_same(store):
    assert store.manifest == MADE
    assert store.missing("train", contents=True) == []
    assert MADE.shards("train") == 4
    assert list(MADE.keys("train", 3)) == [9, 10]


@settings(max_examples=30)
@given(keys=st.lists(st.integers(0, SAMPLES - 1), min_size=1, max_size=8))
def test_rows_by_sample_in_any_order(store, keys):
    found = store.read("train", "hidden", keys)
    assert torch.equal(found, torch.cat([rows_of(key, "hidden") for key in keys]))
    top = store.read("train", "logits", keys)
    expected = TopClasses(6, 2)
    expected = expected.decode(expected.encode(torch.cat([rows_of(key, "logits") for key in keys])))
    assert torch.equal(top.logits(), expected.logits())


def test_what_it_does_not_hold(store):
    with pytest.raises(CacheError, match="does not hold 'other'; accepted: hidden, logits"):
        store.read("train", "other", [0])
    with pytest.raises(CacheError, match="holds 11 samples, and sample 11 is asked for"):
        store.read("train", "hidden", [11])


def test_what_was_made_for_something_else(store):
    with pytest.raises(CacheError, match="was made with another teacher; accepted"):
        CacheStore.create(store.root, replace(MADE, fits={"data": "a", "teacher": "c"}))
    with pytest.raises(CacheError, match="was made with another data and another teacher"):
        MADE.check_fits({"data": "x", "teacher": "y"}, store.root)
    with pytest.raises(CacheError, match="contains different signals"):
        CacheStore.create(store.root, replace(MADE, shard_samples=5))
    assert CacheStore.create(store.root, MADE).manifest == MADE


@settings(max_examples=20, deadline=None)
@given(place=st.floats(0, 0.999), number=st.integers(0, 3))
def test_a_flipped_byte_anywhere_is_found_before_it_is_read(tmp_path_factory, place, number):
    store = filled(tmp_path_factory.mktemp("flipped"))
    path = store.root / "train" / f"shard-{number:05d}.safetensors"
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0x10
    path.write_bytes(data)
    opened = CacheStore.open(store.root)
    with pytest.raises(
        CacheError, match=rf"shard-{number:05d}.safetensors: is damaged .*; accepted: vigreux cache"
    ):
        opened.read("train", "hidden", [EACH * number])
    assert opened.missing("train") == []
    assert opened.missing("train", contents=True) == [number]


def test_shards_that_are_not_there(tmp_path):
    store = filled(tmp_path, but=(1,))
    (tmp_path / "train" / "shard-00002.json").unlink()
    whole = tmp_path / "train" / "shard-00003.safetensors"
    whole.write_bytes(whole.read_bytes()[:-1])
    assert store.missing("train") == [1, 2, 3]
    with pytest.raises(CacheError, match=r"shard-00001.safetensors: is missing"):
        store.read("train", "hidden", [0, 3])
    with pytest.raises(CacheError, match=r"shard-00003.safetensors: has [\d,]+ bytes, [\d,]+ were written"):
        store.read("train", "hidden", [9])


def test_directories_that_are_no_cache(tmp_path):
    with pytest.raises(CacheError, match="is no cache"):
        CacheStore.open(tmp_path)
    for content, message in (
        ("{", "is damaged"),
        ('{"version": 1}', "is damaged"),
        ('{"version": 2}', "another version"),
    ):
        (tmp_path / MANIFEST).write_text(content)
        with pytest.raises(CacheError, match=message):
            CacheStore.open(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps([1]))
    with pytest.raises(CacheError, match="is damaged"):
        CacheStore.open(tmp_path)


def test_a_manifest_that_was_edited_is_refused(tmp_path):
    """Another precision or another key of the samples would give another student without a word."""
    store = filled(tmp_path / "cache")
    text = (store.root / MANIFEST).read_text()
    for before, after in (
        ('"index"', '"stream"'),
        ('"float32"', '"bfloat16"'),
        ('"train": 11', '"train": 10'),
    ):
        assert before in text
        (store.root / MANIFEST).write_text(text.replace(before, after))
        with pytest.raises(CacheError, match="its checksum does not fit") as error:
            CacheStore.open(store.root)
        assert "\n" not in str(error.value)
    plain = json.loads(text)
    del plain["sha256"]  # of an earlier version
    (store.root / MANIFEST).write_text(json.dumps(plain))
    assert CacheStore.open(store.root).manifest == MADE


@pytest.mark.parametrize(
    "changes",
    [
        {"signals": 5},
        {"signals": {"a": {"kind": "evil"}}},
        {"signals": {"a": {"kind": "dense", "width": "x"}}},
        {"signals": {"a": {"kind": "dense", "width": 4, "precision": "evil"}}},
        {"signals": {"a": {"kind": "top", "classes": 4, "k": 9}}},
        {"samples": {}},
        {"samples": {"train": "many", "held_out": 2}},
        {"samples": {"train": 5}},
        {"shard_samples": 0},
        {"shard_samples": None},
        {"fits": [1]},
        {"by": "name"},
        {"spans": {"hidden": 5}},
        {"seed": "x"},
    ],
)
def test_a_manifest_of_the_wrong_kind_is_one_line(changes, tmp_path):
    store = filled(tmp_path / "cache")
    plain = json.loads((store.root / MANIFEST).read_text()) | changes
    del plain["sha256"]
    (store.root / MANIFEST).write_text(json.dumps(plain))
    with pytest.raises(CacheError) as error:
        CacheStore.open(store.root)
    assert "\n" not in str(error.value)


def test_a_shard_that_holds_something_else_is_one_line(tmp_path):
    """Its checksum fits, but the tensors are not those of the manifest."""
    store = filled(tmp_path / "cache")
    path = store.root / "train" / "shard-00000.safetensors"
    cache_store._write(path, {"other": torch.zeros(2)})
    with pytest.raises(CacheError, match="does not hold what a cache of this kind should") as error:
        CacheStore.open(store.root).read("train", "hidden", [1])
    assert "\n" not in str(error.value)


def test_nothing_is_written_through_a_link(tmp_path):
    store = filled(tmp_path / "cache")
    (tmp_path / "outside").mkdir()
    (store.root / "held_out" / "shard-00000.safetensors").unlink()
    (store.root / "held_out" / "shard-00000.safetensors").symlink_to(tmp_path / "outside")
    with pytest.raises(CheckpointError, match="is a symbolic link"):
        CacheStore.create(store.root, MADE)
