"""API keys: who may use the service."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from video_captioning.errors import ConfigError, MissingFileError

VARIABLE = "VIDCAP_API_KEYS"
_SHORTEST = 16  # characters


class Keys:
    """Keys, held as their hashes only. Without any, everybody may."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        """Raises ConfigError for one that could be guessed."""
        given = set(keys)
        if any(len(key) < _SHORTEST for key in given):
            raise ConfigError(f"an API key has fewer than {_SHORTEST} characters; make one with: openssl rand -hex 32")
        self._digests = [_digest(key) for key in sorted(given)]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admit(self, header: str) -> bool:
        """Is this Authorization header `Bearer` and one of the keys? Takes equally long whichever it is."""
        scheme, _, key = header.partition(" ")
        digest = _digest(key.strip())
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == "bearer" and any(matches)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def read(path: Path | None) -> Keys:
    """Keys from a file, one per line, or else from VIDCAP_API_KEYS, separated by commas.

    Raises:
        MissingFileError: the file cannot be read.
        ConfigError: a key that could be guessed, or a file without any.
    """
    if path is None:
        return Keys(filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))))
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise MissingFileError(path, f"cannot be read ({reason})", "name a text file with one key per line") from error
    keys = Keys(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ConfigError(f"{path} holds no API key; write one per line")
    return keys
