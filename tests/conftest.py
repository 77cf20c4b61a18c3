"""What every test runs under: no network, one torch thread, hypothesis without deadlines and with the same cases each time."""

import os
from pathlib import Path

# Before any test imports a Hugging Face library, which read these once. Processes that a test starts have one thread, too.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
)

import torch
from hypothesis import settings

torch.set_num_threads(1)

# numba looks only at a function's own file when it asks whether its compiled form is still good, not at the files it calls into
_kernels = Path(__file__).parents[1] / "src" / "vigreux" / "kernels"
_newest = max(path.stat().st_mtime for path in _kernels.glob("*.py"))
for _compiled in (_kernels / "__pycache__").glob("*.nb?"):
    if _compiled.stat().st_mtime < _newest:
        _compiled.unlink(missing_ok=True)

settings.register_profile("vigreux", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("vigreux")
