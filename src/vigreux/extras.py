"""Packages that a plain installation does not include.

numba (with llvmlite, 208 MB installed) compiles two-layer networks and the sentences of grammars; ruptures
finds the phase transitions of a training curve. Distilling a transformer needs neither.
"""

from __future__ import annotations

from importlib.util import find_spec

from vigreux.errors import MissingPackageError

LAB = ("numba", "ruptures")


def require_lab(purpose: str) -> None:
    """Checks that the extra `vigreux[lab]` is installed.

    Args:
        purpose: what needs it, as the start of a sentence: "two-layer networks".

    Raises:
        MissingPackageError: a package of the extra is missing; the message says what to install.
    """
    missing = [name for name in LAB if not _is_installed(name)]
    if missing:
        raise MissingPackageError(
            f'{purpose}: {" and ".join(missing)} missing; install with: pip install "vigreux[lab]"'
        )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
