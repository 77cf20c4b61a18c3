"""Hashes of the final weights of small runs, to be held by a refactor (see `runs.py`)."""
