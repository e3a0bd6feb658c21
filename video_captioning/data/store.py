"""The feature store: what a frozen backbone said of a file, fp16, in one LMDB, written in transactions.

A key is the SHA-256 of the file's content and of everything that shapes its features, so a changed setting never
meets an old value. A writer that is killed leaves the store as its last finished transaction.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np

from video_captioning.errors import DataError
from video_captioning.frames import Resize, Sampling

FIRST_SIZE = 1 << 28
HEADER = struct.Struct("<3i")


class FeatureStore:
    """Features float16 `[frames, positions, width]` by key."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.environment = lmdb.open(str(folder), map_size=FIRST_SIZE, max_readers=512, readahead=False)
        except (OSError, lmdb.Error) as error:
            raise DataError(folder, f"no feature store ({error})", "give another folder or remove this one") from error

    def begin(self, write: bool = False) -> lmdb.Transaction:
        try:
            return self.environment.begin(write=write, buffers=True)
        except lmdb.MapResizedError:  # another process has made the store larger
            self.environment.set_mapsize(0)
            return self.environment.begin(write=write, buffers=True)

    def __contains__(self, key: bytes) -> bool:
        with self.begin() as transaction:
            return transaction.get(key) is not None

    def __len__(self) -> int:
        return int(self.environment.stat()["entries"])

    def get(self, key: bytes) -> np.ndarray:
        """A copy of the features of `key`. Raises KeyError."""
        with self.begin() as transaction:
            value = transaction.get(key)
            if value is None:
                raise KeyError(key.hex())
            shape = HEADER.unpack_from(value)
            return np.frombuffer(value, np.float16, offset=HEADER.size).reshape(shape).copy()

    def shape(self, key: bytes) -> tuple[int, int, int]:
        """Frames, positions and width of what is stored under `key`. Raises KeyError."""
        with self.begin() as transaction:
            value = transaction.get(key)
            if value is None:
                raise KeyError(key.hex())
            return HEADER.unpack_from(value)

    def put(self, features: Mapping[bytes, np.ndarray]) -> None:
        """Write all of `features`, or nothing."""
        while True:
            try:
                with self.begin(write=True) as transaction:
                    for key, value in features.items():
                        transaction.put(key, HEADER.pack(*value.shape) + value.astype(np.float16).tobytes())
                return
            except lmdb.MapFullError:
                self.environment.set_mapsize(2 * self.environment.info()["map_size"])
            except lmdb.Error as error:
                raise DataError(
                    self.folder,
                    f"the store cannot be written ({error})",
                    "make room and run again; what is stored already is kept",
                ) from error

    def close(self) -> None:
        self.environment.close()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def feature_keys(
    path: Path, backbone: Mapping[str, Any], sampling: Sampling, resize: Resize, views: Sequence[Any] = (None,)
) -> list[bytes]:
    """32 bytes for each view that name its features of a file's content under these settings. Raises OSError.

    Args:
        views: what makes each view another; None is the clip as it is.
    """
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").digest()

    def key(view: Any) -> bytes:
        settings = [backbone, asdict(sampling), asdict(resize), *([] if view is None else [view])]
        return hashlib.sha256(content + json.dumps(settings, sort_keys=True).encode()).digest()

    return [key(view) for view in views]
