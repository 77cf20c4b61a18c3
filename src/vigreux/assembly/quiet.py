"""Reduces the output of other libraries, so that Vigreux's messages stand out."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Limits transformers, accelerate and datasets to errors, and disables their progress bars."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from datasets import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("accelerate", "huggingface_hub", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
