"""Stands in for the text that experiments fetch: a cache in which the assets are there, with made-up
sentences.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from vigreux.downloads.assets import ASSETS

NOUNS = [
    "river",
    "house",
    "senate",
    "war",
    "garden",
    "treaty",
    "engine",
    "winter",
    "prince",
    "island",
    "bridge",
    "letter",
]
VERBS = ["holds", "follows", "builds", "leaves", "answers", "moves"]


def fill_cache(cache: Path) -> None:
    """Puts `asset:wikipedia`, `asset:state-of-the-union` and `asset:hamlet` into the cache folder."""
    draw = random.Random(0)
    articles = {f"Article {i}": {"extract": _paragraph(draw), "topic": "Life"} for i in range(60)}
    wikipedia = _place(cache, "wikipedia")
    wikipedia.parent.mkdir(parents=True)
    wikipedia.write_text(json.dumps(articles))
    speeches = _place(cache, "state-of-the-union")
    speeches.mkdir(parents=True)
    for year in range(1790, 1800):
        (speeches / f"{year}.txt").write_text("\n\n".join(_paragraph(draw) for _ in range(6)))
    hamlet = _place(cache, "hamlet")
    hamlet.parent.mkdir(parents=True)
    hamlet.write_text("\n\n".join(_paragraph(draw) for _ in range(20)))


def _place(cache: Path, name: str) -> Path:
    asset = ASSETS[name]
    return cache / "assets" / f"{asset.package}-{asset.version}-{asset.sha256[:12]}" / asset.path


def _paragraph(draw: random.Random) -> str:
    return " ".join(
        f"The {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)}." for _ in range(8)
    )
