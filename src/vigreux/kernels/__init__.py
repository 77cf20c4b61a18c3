"""Exact online SGD of two-layer networks, in blocks, and the sentences of grammars.

Importing any module of this room without numba raises a `MissingPackageError` that says what to install.
"""

from vigreux.extras import require_lab

require_lab("two-layer networks and grammars")
