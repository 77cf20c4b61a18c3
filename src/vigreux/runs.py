"""Reads run folders from Python: `RunFolder.open(path)` gives the records of a run.

    from vigreux.runs import RunFolder

    run = RunFolder.open("runs/own")
    print(run.summary().metrics, run.student)

This module is the public door to `vigreux.run`, whose other modules may change.
"""

from vigreux.run.folder import RunFolder
from vigreux.run.records import StageRecord, Summary

__all__ = ["RunFolder", "StageRecord", "Summary"]
