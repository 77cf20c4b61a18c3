"""Limits a folder to one writer, by a lock file that the operating system frees when its process ends.

The lock is `filelock`'s: `flock` on Unix, `LockFileEx` on Windows. The file's content has no meaning, so a
process number in it cannot mislead. On a file system without locks, the existence of a second file is the
lock, and a warning says so.
"""

from __future__ import annotations

import errno
import os
import warnings
import weakref
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from vigreux.files.atomic import writing

LOCK = ".lock"
SOFT_LOCK = ".lock.exists"  # the lock on file systems without locks
# `is_locked` takes a lock for a moment, so a process that wants the lock waits for these seconds.
PATIENCE = 0.5
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_locks: weakref.WeakSet[BaseFileLock] = weakref.WeakSet()


class FolderBusyError(Exception):
    """Another process is writing the folder."""


class FolderLock:
    """The right to write a folder, from `take` to `release` or to the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Does not take the lock; see `take`."""
        self.folder = folder
        self._lock: BaseFileLock | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock is not None

    def take(self) -> None:
        """Takes the lock of a folder that exists.

        Raises:
            FolderBusyError: another process holds it, or another object of this one.
            CheckpointError: the lock file cannot be written.
        """
        if self._lock is not None:
            return
        with writing(self.folder / LOCK):
            self._lock = _acquire(self.folder, PATIENCE)
        if isinstance(self._lock, SoftFileLock):
            warnings.warn(
                f"{self.folder}: its file system has no locks; {self.folder / SOFT_LOCK} replaces one;"
                " delete it if a process was killed on another machine, and never start two runs in the"
                " folder at once",
                UserWarning,
                stacklevel=2,
            )

    def release(self) -> None:
        """Releases the lock, if this object holds it."""
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None


def is_locked(folder: Path) -> bool:
    """Whether some process, or another object of this one, holds the folder's lock.

    Writes nothing if the folder never had a lock.
    """
    if not (folder / LOCK).exists() or (folder / LOCK).is_symlink():
        return False
    try:
        _acquire(folder, 0).release(force=True)
    except FolderBusyError:
        return True
    except OSError as error:
        return error.errno != errno.EROFS  # no permission: the lock of another user, who may be writing
    return False


def _acquire(folder: Path, timeout: float) -> BaseFileLock:
    try:
        return _acquired(FileLock(folder / LOCK, thread_local=False), timeout)
    except NotImplementedError:  # from versions of filelock before 3.21 on file systems without locks
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return _acquired(SoftFileLock(folder / SOFT_LOCK, thread_local=False), timeout)


def _acquired(lock: BaseFileLock, timeout: float) -> BaseFileLock:
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise FolderBusyError from error
    _locks.add(lock)
    return lock


def _close_descriptors() -> None:
    """Closes the locks in a forked child (a data loader's worker), so that it does not outlive its parent's.

    Newer versions of filelock have already closed the descriptor.
    """
    for lock in list(_locks):
        context = lock._context
        if isinstance(lock, FileLock) and context.lock_file_fd is not None:
            os.close(context.lock_file_fd)
            context.lock_file_fd = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_descriptors)
