"""The tiny models of the commands' tests."""

from tests.cli.conftest import tiny

__all__ = ["tiny"]
