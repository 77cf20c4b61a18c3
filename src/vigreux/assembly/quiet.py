"""Turns down what the libraries underneath print, so that what matters can be seen."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Errors only from transformers, accelerate and datasets, and no bars of theirs."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from datasets import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("accelerate", "huggingface_hub", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
