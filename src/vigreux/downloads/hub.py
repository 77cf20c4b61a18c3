"""The model hub, asked once: where it cannot be reached its clients read their cache alone, at once."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Thread
from urllib.parse import urlsplit

_SECONDS = 5.0


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Inside, the hub's clients are offline where the hub cannot be reached.

    On their own they would try for a minute.
    """
    from huggingface_hub import constants

    datasets_config = sys.modules.get("datasets.config")
    places = [module for module in (constants, datasets_config) if module is not None]
    if constants.HF_HUB_OFFLINE or _reachable(constants.ENDPOINT):
        yield
        return
    before = [module.HF_HUB_OFFLINE for module in places]
    try:
        for module in places:
            module.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        yield
    finally:
        for module, value in zip(places, before):
            module.HF_HUB_OFFLINE = value  # type: ignore[attr-defined]


@cache
def _reachable(endpoint: str) -> bool:
    """Whether the endpoint takes connections; taken for granted behind a proxy, which answers for it."""
    if any(
        os.environ.get(name)
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY")
    ):
        return True
    url = urlsplit(endpoint)
    answers: list[bool] = []

    def connect() -> None:
        try:
            with socket.create_connection((url.hostname, url.port or 443), timeout=_SECONDS):
                answers.append(True)
        except OSError:
            answers.append(False)

    # In a thread: the look-up of a name has no time limit of its own.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * _SECONDS)
    return bool(answers) and answers[0]
