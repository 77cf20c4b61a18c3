"""What every test runs under: no network, one torch thread, fixed hypothesis cases and no deadlines."""

import gc
import os
from pathlib import Path

# Hugging Face libraries read these when they are imported. The processes that a test starts inherit them.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
)

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# numba compares a compiled function with its own file only, not with the files that the function calls into
_kernels = Path(__file__).parents[1] / "src" / "vigreux" / "kernels"
_newest = max(path.stat().st_mtime for path in _kernels.glob("*.py"))
for _compiled in (_kernels / "__pycache__").glob("*.nb?"):
    if _compiled.stat().st_mtime < _newest:
        _compiled.unlink(missing_ok=True)

settings.register_profile("vigreux", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("vigreux")


LONG = (
    "claims/test_smoke.py",
    "backends/transformer/test_distributed.py",
    "cli/test_processes.py",
    "cli/test_walk.py",
    "cli/test_docs.py",
    "cli/test_compare.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files run first, so that no worker ends with one while the other waits."""
    folder = Path(__file__).parent
    order = {folder / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def _imports_are_not_garbage() -> None:
    """Takes what the imports made out of garbage collection.

    The Trainer begins each training with a full collection, which would take longer than a tiny stage.
    """
    gc.collect()
    gc.freeze()
