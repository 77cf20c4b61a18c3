"""Asks once whether the model hub can be reached. If it cannot, its clients read only their cache."""

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
    """Sets the hub's clients offline inside the block if the hub cannot be reached.

    Otherwise they would try to reach it for a minute.
    """
    from huggingface_hub import constants

    datasets_config = sys.modules.get("datasets.config")
    modules = [module for module in (constants, datasets_config) if module is not None]
    if constants.HF_HUB_OFFLINE or _reachable(constants.ENDPOINT):
        yield
        return
    settings = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules:
            module.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        yield
    finally:
        for module, value in zip(modules, settings):
            module.HF_HUB_OFFLINE = value  # type: ignore[attr-defined]


@cache
def _reachable(endpoint: str) -> bool:
    """Whether the endpoint accepts connections; assumed behind a proxy, which would accept them itself."""
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

    # In a thread, because the look-up of a host name has no time limit.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * _SECONDS)
    return bool(answers) and answers[0]
