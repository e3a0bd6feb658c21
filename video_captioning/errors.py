"""What can go wrong for a person. Every message names the file or field and the way out."""

from __future__ import annotations

from pathlib import Path


class VidcapError(Exception):
    """Base of all errors that a person can mend; the CLI prints it in one line and exits 1."""


class FileError(VidcapError):
    """Something about one file: `PATH: what is wrong; what to do`."""

    def __init__(self, path: str | Path, problem: str, way_out: str) -> None:
        self.path = Path(path)
        self.problem = problem
        self.way_out = way_out
        super().__init__(f"{printable(path)}: {problem}; {way_out}")


class MediaError(FileError):
    """A media file that gives no usable picture."""


class MissingFileError(MediaError):
    """Nothing is there, or it may not be read."""


class NotMediaError(MediaError):
    """FFmpeg does not know the content, whatever the name says."""


class NoPictureError(MediaError):
    """The file opens but holds no picture: audio only, no samples, encrypted, or damaged beyond use."""


class TooLargeError(MediaError):
    """The picture is larger, or the clip longer, than the stated limit."""


class PlaylistError(MediaError):
    """A playlist or concat file that names other files or addresses."""


class BundleError(FileError):
    """A model bundle that is missing, truncated, tampered with, or of a newer schema."""


class OutputError(FileError):
    """A result that cannot be written: no room, no permission, a name that is taken."""


class DataError(FileError):
    """A caption file, data set or feature store that cannot be used as it is."""


class CheckpointError(FileError):
    """A checkpoint that is truncated, of another model or of another version."""


class ConfigError(VidcapError):
    """An option or override that names nothing, or holds a value out of range."""


class MissingExtraError(VidcapError):
    """A command that needs an optional part of the installation."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the optional part '{extra}'; install it with: pip install 'vidcap[{extra}]'")


def printable(path: str | Path) -> str:
    """A path on one line: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(path))
