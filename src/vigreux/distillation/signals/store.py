"""A cache of teacher signals on disk: shards of encoded rows, their checksums, and a manifest.

    cache.json                       the signals, their teachers, their data and their formats
    train/shard-00000.safetensors    the rows of `shard_samples` samples, the tensors of all signals
    train/shard-00000.json           its size and SHA-256, written last: without it the shard is missing

cache.json contains a checksum of itself. Shards are memory-mapped and read by sample, in any order. A process
compares each shard with its checksum when it first reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from vigreux.distillation.signals.formats import Format, Parts, from_plain, to_plain
from vigreux.errors import CacheError, ConfigError
from vigreux.files.atomic import check_no_links, is_whole, sealed, without_seal, write_atomic, writing
from vigreux.files.digest import file_sha256

MANIFEST = "cache.json"
VERSION = 1
Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")


@dataclass(frozen=True)
class Manifest:
    """The contents of a cache, and the fingerprints of the runs that it fits.

    Args:
        fits: name → fingerprint of everything that the signals depend on (data, tokenizer, teacher,
            projections).
        by: the key of a sample: its `index` in the data, or its number in the `stream` of one seed. Streams
            are for masks that are drawn anew in each pass over the data, and for endless samples.
        seed: the seed of the stream; `None` by index.
        samples: the number of samples of each split.
        shard_samples: the number of samples of a shard.
        signals: name → the format of its rows.
        spans: name → the training samples [first, end) that have rows, if not all do: in a stream, each stage
            has its own samples.
    """

    fits: dict[str, str]
    by: Literal["index", "stream"]
    seed: int | None
    samples: dict[Split, int]
    shard_samples: int
    signals: dict[str, Format]
    spans: dict[str, list[list[int]]] = field(default_factory=dict)

    def has(self, name: str, first: int, end: int) -> bool:
        """Whether the training samples [first, end) have rows of a signal."""
        if end > self.samples["train"]:
            return False
        return name not in self.spans or any(a <= first and end <= b for a, b in self.spans[name])

    def shards(self, split: Split) -> int:
        """The number of shards of a split."""
        return -(-self.samples[split] // self.shard_samples)

    def keys(self, split: Split, number: int) -> range:
        """The samples of a shard."""
        first = number * self.shard_samples
        return range(first, min(first + self.shard_samples, self.samples[split]))

    def check_fits(self, fits: Mapping[str, str], where: Path) -> None:
        """Raises `CacheError` that names what has changed since the cache was made."""
        changed = [name for name in fits if self.fits.get(name) != fits[name]]
        if changed:
            raise CacheError(
                f"{where}: was made with another {' and another '.join(changed)};"
                " accepted: a cache of this run's own"
            )


@dataclass
class CacheStore:
    """An open cache.

    `CacheStore.create` starts a cache or resumes one that fits. `CacheStore.open` opens one for reading.

    Args:
        root: its directory.
        manifest: see `Manifest`.
    """

    root: Path
    manifest: Manifest
    _open: dict[tuple[Split, int], Any] = field(default_factory=dict, repr=False)
    _ends: dict[tuple[Split, int, str], Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def create(cls, root: Path, manifest: Manifest) -> CacheStore:
        """The cache in `root`, created if there is none.

        Raises:
            CacheError: the cache in `root` was made for something else, or with other signals or sizes.
        """
        if (root / MANIFEST).exists():
            store = cls.open(root)
            store.manifest.check_fits(manifest.fits, root)
            if store.manifest != manifest:
                raise CacheError(
                    f"{root}: contains different signals or a different number of samples; use an empty"
                    " directory"
                )
            check_no_links(root)
            return store
        if root.exists():
            check_no_links(root)
        with writing(root):
            for split in SPLITS:
                (root / split).mkdir(parents=True, exist_ok=True)
        plain = {
            "version": VERSION,
            **asdict(manifest),
            "signals": {k: to_plain(v) for k, v in manifest.signals.items()},
        }
        write_atomic(root / MANIFEST, json.dumps(sealed(plain), indent=1) + "\n")
        return cls(root, manifest)

    @classmethod
    def open(cls, root: Path) -> CacheStore:
        """The cache in `root`. Raises `CacheError` if there is none that can be read."""
        try:
            plain = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
            is_intact = is_whole(plain)
            plain = without_seal(plain)
            if plain.pop("version") != VERSION and is_intact:
                raise CacheError(
                    f"{root}: was written by another version of Vigreux;"
                    f" accepted: version {VERSION} of caches"
                )
            signals = {name: from_plain(form) for name, form in plain.pop("signals").items()}
            manifest = TypeAdapter(Manifest).validate_python({**plain, "signals": signals})
        except OSError as error:
            raise CacheError(
                f"{root}: is no cache ({MANIFEST} cannot be read); accepted: a directory of vigreux cache"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
            raise CacheError(
                f"{root / MANIFEST}: is damaged; accepted: a directory of vigreux cache"
            ) from error
        if not is_intact or manifest.shard_samples < 1 or set(manifest.samples) != set(SPLITS):
            raise CacheError(
                f"{root / MANIFEST}: was changed since it was written (its checksum does not fit); accepted:"
                " a directory of vigreux cache as it was written"
            )
        return cls(root, manifest)

    # --- writing --------------------------------------------------------------------------------------------

    def write(self, split: Split, number: int, signals: Mapping[str, Sequence[Parts]]) -> None:
        """Writes a shard, and then its checksum.

        Args:
            split, number: identify the shard.
            signals: name → the encoded rows of each of the shard's samples, in order.
        """
        tensors: dict[str, Tensor] = {}
        for name, samples in signals.items():
            assert len(samples) == len(self.manifest.keys(split, number))
            counts = torch.tensor([len(next(iter(parts.values()))) for parts in samples])
            tensors[f"{name}:ends"] = counts.cumsum(0)
            for tensor_name in samples[0]:
                tensors[f"{name}:{tensor_name}"] = torch.cat(
                    [parts[tensor_name] for parts in samples]
                ).contiguous()
        _write(self._path(split, number), tensors)

    def missing(
        self, split: Split, *, contents: bool = False, process: int = 0, processes: int = 1
    ) -> list[int]:
        """The shards that are missing or damaged.

        With `contents`, every byte is read and compared with its checksum.

        With several processes, each gets only the shards assigned to it. Assignment is by shard number,
        because the list of missing shards changes as soon as one process writes.
        """
        shards = range(process, self.manifest.shards(split), processes)
        return [number for number in shards if _problem(self._path(split, number), contents=contents)]

    def write_beside(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Writes tensors that belong to no sample (projections, an output head), with their checksum."""
        _write(
            self.root / f"{name}.safetensors",
            {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
        )

    def read_beside(self, name: str) -> dict[str, Tensor]:
        """Reads what `write_beside` wrote. Raises `CacheError` if it is missing or damaged."""
        path = self.root / f"{name}.safetensors"
        _check(path)
        with readable(path):
            return load_file(path)

    def recorded(self, name: str) -> str | None:
        """The SHA-256 that `write_beside` recorded for a file, damaged or not; `None` if there is none."""
        try:
            return str(json.loads((self.root / f"{name}.json").read_text(encoding="utf-8"))["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def drop_shards(self) -> None:
        """Marks every shard as missing: they were made with projections that cannot be reproduced."""
        for split in SPLITS:
            for number in range(self.manifest.shards(split)):
                with writing(self.root):
                    self._path(split, number).with_suffix(".json").unlink(missing_ok=True)

    def _path(self, split: Split, number: int) -> Path:
        return self.root / split / f"shard-{number:05d}.safetensors"

    def form(self, name: str) -> Format:
        """The format of a signal. Raises `CacheError` if the cache does not have the signal."""
        if name not in self.manifest.signals:
            available = ", ".join(self.manifest.signals)
            raise CacheError(
                f"{self.root}: does not hold {name!r}; accepted: {available}, or vigreux cache for this"
                " curriculum"
            )
        return self.manifest.signals[name]

    # --- reading --------------------------------------------------------------------------------------------

    def read(self, split: Split, name: str, keys: Sequence[int]) -> Any:
        """The decoded rows of some samples in order, in the type that the signal's format returns.

        Raises:
            CacheError: the cache lacks a sample or the signal, or a shard is missing or damaged.
        """
        form = self.form(name)
        pieces: dict[str, list[Tensor]] = {}
        for key in keys:
            if not 0 <= key < self.manifest.samples[split]:
                raise CacheError(
                    f"{self.root}: holds {self.manifest.samples[split]:,} samples, and sample {key:,} is"
                    " asked for"
                )
            number, position = divmod(key, self.manifest.shard_samples)
            with readable(self._path(split, number)):
                shard = self._shard(split, number)
                ends = self._ends_of(split, number, name, shard)
                rows = slice(int(ends[position - 1]) if position else 0, int(ends[position]))
                for tensor_name in form.parts:
                    pieces.setdefault(tensor_name, []).append(shard.get_slice(f"{name}:{tensor_name}")[rows])
        return form.decode({tensor_name: torch.cat(slices) for tensor_name, slices in pieces.items()})

    def _ends_of(self, split: Split, number: int, name: str, shard: Any) -> Tensor:
        key = (split, number, name)
        if key not in self._ends:
            self._ends[key] = shard.get_tensor(f"{name}:ends")
        return self._ends[key]

    def _shard(self, split: Split, number: int) -> Any:
        key = (split, number)
        if key not in self._open:
            path = self._path(split, number)
            _check(path)
            self._open[key] = safe_open(path, framework="pt")
        return self._open[key]


# --- files with their checksums -----------------------------------------------------------------------------


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns errors from a file with unexpected contents into one line; its checksum may still match."""
    try:
        yield
    except (
        SafetensorError,
        KeyError,
        IndexError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise CacheError(
            f"{path}: does not hold what a cache of this kind should ({type(error).__name__}:"
            f" {' '.join(str(error).split())[:120]}); accepted: an empty directory and vigreux cache"
        ) from error


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Removes the checksum of a file that is replaced, then writes the file, and its checksum last."""
    data = save(dict(tensors))
    record = path.with_suffix(".json")
    with writing(path):
        record.unlink(missing_ok=True)
    write_atomic(path, data)
    write_atomic(record, json.dumps({"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}) + "\n")


def _check(path: Path) -> None:
    problem = _problem(path, contents=True)
    if problem is not None:
        raise CacheError(
            f"{path}: {problem}; accepted: vigreux cache with the same configuration makes it alone again"
        )


def _problem(path: Path, *, contents: bool) -> str | None:
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        size = path.stat().st_size
        expected = int(record["bytes"]), str(record["sha256"])
    except OSError:
        return "is missing"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "has a damaged checksum"
    if size != expected[0]:
        return f"has {size:,} bytes, {expected[0]:,} were written"
    if contents and file_sha256(path) != expected[1]:
        return "is damaged (its SHA-256 is not the one written)"
    return None
