"""Files of a data set on the Hugging Face hub: resumed where they stopped, checked, kept by content."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url

from video_captioning.data.unpack import check_room
from video_captioning.download import left_by_earlier_try, resume
from video_captioning.errors import DataError, OutputError

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Download:
    """A file that is here, whole."""

    path: Path
    commit: str
    """The revision, resolved where the hub tells its commit."""
    sha256: str | None
    """What its content was held to; None where the hub gives none, and nothing but the length was checked."""


def download(repo: str, file: str, revision: str, folder: Path) -> Download:
    """Fetch `file` of the data set `repo` into `folder`; what is there already is not fetched again.

    HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to huggingface_hub.

    Raises:
        DataError: no such file, no way to the hub, or content that is not what the hub says it is.
        OutputError: no room, known before anything is written where the hub tells the size, or no permission.
    """
    with explained(f"{repo}/{file}"):
        facts = get_hf_file_metadata(hf_hub_url(repo, file, repo_type="dataset", revision=revision))
        commit, etag = facts.commit_hash or revision, facts.etag or ""
        sha256 = etag if SHA256.fullmatch(etag) else None
        target = folder / (re.sub(r"\W", "", etag) or commit)[:16] / file  # other content is another file
        if not target.is_file():
            url = hf_hub_url(repo, file, repo_type="dataset", revision=commit)
            fetch(url, target, facts.size, sha256)
    return Download(target, commit, sha256)


def fetch(url: str, target: Path, size: int | None, sha256: str | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    check_room(part.parent, (size or 0) - left_by_earlier_try(part, size), target.name)
    resume(url, part, size)
    with part.open("rb") as whole:
        if sha256 and hashlib.file_digest(whole, "sha256").hexdigest() != sha256:
            part.unlink()
            raise DataError(target, "its SHA-256 is not what the hub states", "run again to fetch it anew")
    part.replace(target)


@contextmanager
def explained(what: str) -> Iterator[None]:
    try:
        yield
    except (DataError, OutputError):
        raise
    except Exception as error:  # its class depends on the HTTP library that huggingface_hub stands on
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            place = error.filename or what
            raise OutputError(place, f"cannot be written ({error.strerror})", "make room, run again") from error
        reason = " ".join((str(error) or type(error).__name__).split("\n")[0].split()).rstrip(".")
        way_out = "check the network, HF_ENDPOINT and the revision, or give a local copy; what has come so far is kept"
        raise DataError(what, f"cannot be downloaded ({reason})", way_out) from error
