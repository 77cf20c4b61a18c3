"""Many short runs, each of which the Trainer starts with a full garbage collection."""

import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def _imports_are_not_garbage() -> None:
    """What the imports made stays alive: without it a collection takes as long as a tiny stage."""
    gc.collect()
    gc.freeze()
