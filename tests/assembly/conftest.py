"""The tiny models of the commands' tests, and the commands themselves."""

from tests.cli.conftest import tiny, vigreux

__all__ = ["tiny", "vigreux"]
