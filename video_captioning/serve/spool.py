"""The private folder of uploads: names of its own, nothing left when the service ends, even killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_PREFIX = "vidcap-serve-"
_NEW = 60  # seconds; a younger folder may not be locked yet


class Spool:
    """A folder that only this user can look into, locked while the service lives."""

    def __init__(self) -> None:
        """Make the folder, and remove those of services that were killed: nobody holds their lock."""
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            _remove_if_left(folder)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def new(self) -> Path:
        """An empty file with a random name."""
        handle, name = tempfile.mkstemp(dir=self.folder)
        os.close(handle)
        return Path(name)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _remove_if_left(folder: Path) -> None:
    with suppress(OSError):  # another user's, a link, or locked: not ours to remove
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(handle)
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > _NEW:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)
