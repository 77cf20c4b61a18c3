"""What every test runs under: no network, one torch thread, hypothesis without deadlines and with the same cases each time."""

import os

# Before any test imports a Hugging Face library, which read these once.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch
from hypothesis import settings

torch.set_num_threads(1)

settings.register_profile("vigreux", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("vigreux")
