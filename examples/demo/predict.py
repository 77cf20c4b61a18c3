"""Opens a student with transformers and asks it for the topic of a text.

Using a student does not need Vigreux.
"""

import sys

from transformers import pipeline
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

TEXT = "A prime number is a number greater than one that is not a product of two smaller natural numbers."

classify = pipeline("text-classification", model=sys.argv[1])
answer = classify(TEXT)[0]
print(f"{TEXT!r}\n  → {answer['label']} ({100 * answer['score']:.0f} %)")
