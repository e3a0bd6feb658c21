"""A bundle to the Hugging Face hub and back, every file held to the SHA-256 that `bundle.json` states.

HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and, for uploads, HF_HUB_DISABLE_XET mean what they mean to huggingface_hub.
"""

from __future__ import annotations

import errno
import json
import operator
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented, not all re-exported
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from video_captioning.bundle import MANIFEST, Bundle, read, verify
from video_captioning.download import resume
from video_captioning.errors import BundleError, FileError, OutputError, VidcapError
from video_captioning.export.card import model_card

CARD = "README.md"
PATIENCE = 60.0
"""Seconds without an answer after which an upload gives up; the hub's client would wait for ever."""
SHA256 = re.compile(r"[0-9a-f]{64}")
DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY),
}
DISTRUST = "do not use it; tell who published it"

Files = dict[str, dict[str, Any]]
"""`files` of `bundle.json`: `bytes` and `sha256` by name."""


def push(bundle: str | Path, repo: str, private: bool = False) -> CommitInfo:
    """Upload a bundle and its model card in one commit; what the hub has already is not sent again.

    Args:
        bundle: a folder, or the name of a bundle that ships with the package.
        repo: OWNER/NAME on the hub, made where it is not there; NAME alone is one's own.
        private: make it so that only its owner sees it.

    Returns:
        `commit_url` and `oid` of the commit, the last one where nothing has changed.

    Raises:
        BundleError: no bundle, or a damaged one; nothing is sent.
        OutputError: no token or not the right one, no way to the hub, a public repository that should be private, or a
            hub that keeps something else than was sent.
    """
    found = read(bundle)
    manifest = found.folder / MANIFEST
    files = stated_files(manifest.read_bytes(), str(manifest))
    with explained(repo, OutputError, "cannot be uploaded"), patience():
        api = HfApi(token=True)
        repo = api.create_repo(repo, private=private or None, exist_ok=True).repo_id
        if private and not api.model_info(repo).private:
            raise OutputError(repo, "is there already, and public", "make it private on the hub, or push to another")
        contents: dict[str, Path | bytes] = {CARD: model_card(found, repo).encode()}
        contents |= {name: found.folder / name for name in (MANIFEST, *files)}
        adding = [CommitOperationAdd(name, content) for name, content in contents.items()]
        commit = api.create_commit(repo, adding, commit_message=f"{found.name} {found.version}")
        check_kept(api, repo, commit.oid, adding)
        return commit


def check_kept(api: HfApi, repo: str, commit: str, added: list[CommitOperationAdd]) -> None:
    """Raise OutputError unless the commit holds what was added: a `.gitignore` there makes the hub leave files out."""
    found = api.get_paths_info(repo, [add.path_in_repo for add in added], revision=commit)
    kept = {file.path: file for file in found if isinstance(file, RepoFile)}
    for add in added:
        file, sent = kept.get(add.path_in_repo), add.upload_info
        if file is None or file.size != sent.size or (file.lfs and file.lfs.sha256 != sent.sha256.hex()):
            problem = f"the commit {commit} lacks {add.path_in_repo} as it was sent"
            raise OutputError(repo, problem, "look for a .gitignore there, or push to another repository")


def partial_folder(out: str | Path) -> Path:
    """Where a pull to `out` gathers its files until all are there. Raises OutputError where `out` exists."""
    target = Path(out)
    if target.exists():
        raise OutputError(target, "exists already", "give another name or remove it first")
    return target.with_name(f".{target.name}.part")


def pull(repo: str, out: str | Path, revision: str = "main") -> Bundle:
    """Download a bundle to the folder `out`; one that was stopped goes on where it was. One at a time for an `out`.

    Only what `bundle.json` lists is fetched, so that nothing lies there unverified.

    Args:
        repo: OWNER/NAME on the hub.
        revision: a branch, a tag, or a commit to be exact.

    Raises:
        BundleError: no such repository or revision, no way to the hub, no bundle, or a file that is not what
            `bundle.json` says. There is nothing at `out`; what came well is kept beside it for the next try.
        OutputError: `out` exists, no room, or no permission.
    """
    target, partial = Path(out), partial_folder(out)
    try:
        with explained(f"{repo}/{MANIFEST}", BundleError, "cannot be downloaded"):
            text, commit = fetch_manifest(repo, revision)
        files = stated_files(text, f"{repo}/{MANIFEST}")
        for name, stated in files.items():
            with explained(f"{repo}/{name}", BundleError, "cannot be downloaded"):
                partial.mkdir(parents=True, exist_ok=True)
                fetch(repo, commit, name, stated, partial)
        with explained(f"{repo}/{MANIFEST}", BundleError, "cannot be downloaded"):
            return finish(repo, text, files, partial, target)
    finally:
        with suppress(OSError):  # holds something to go on with
            partial.rmdir()


def fetch_manifest(repo: str, revision: str) -> tuple[bytes, str]:
    """`bundle.json`, and the commit that it is of, as far as the hub tells."""
    url = hf_hub_url(repo, MANIFEST, revision=revision)
    answer = get_session().get(url, headers=build_hf_headers(), timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
    hf_raise_for_status(answer)
    told = [each.headers.get(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT) for each in (*answer.history, answer)]
    return answer.content, next(filter(None, told), revision)


def stated_files(text: bytes, what: str) -> Files:
    """`files` of `bundle.json`. Raises BundleError where it is none, or names something outside its folder."""
    try:
        files: Files = json.loads(text)["files"]
        for name, stated in files.items():
            outside = Path(name).name != name or name in ("..", MANIFEST)
            if outside or not SHA256.fullmatch(stated["sha256"]) or operator.index(stated["bytes"]) < 0:
                raise ValueError(name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(what, "is not the bundle.json of a bundle", DISTRUST) from error
    return files


def fetch(repo: str, commit: str, name: str, stated: dict[str, Any], folder: Path) -> None:
    """Bring one file to `folder`, unless it is there. Raises BundleError where it is not what `bundle.json` states."""
    with suppress(BundleError):
        return verify(folder, {name: stated})
    part = folder / f"{stated['sha256']}.part"  # other content is another file
    resume(hf_hub_url(repo, name, revision=commit), part, stated["bytes"])
    part.replace(folder / name)
    try:
        verify(folder, {name: stated})
    except BundleError as error:
        (folder / name).unlink()
        raise BundleError(f"{repo}/{name}", error.problem, "pull again to fetch it anew") from error


def finish(repo: str, text: bytes, files: Files, partial: Path, target: Path) -> Bundle:
    """Verify the whole and give it its name."""
    partial.mkdir(parents=True, exist_ok=True)
    for stray in partial.iterdir():  # of another revision
        if stray.name not in files:
            stray.unlink()
    manifest = partial / MANIFEST
    with manifest.open("wb") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    try:
        read(partial)
    except BundleError as error:
        manifest.unlink()
        raise BundleError(f"{repo}/{MANIFEST}", error.problem, error.way_out) from error
    partial.rename(target)
    return read(target)


@contextmanager
def patience() -> Iterator[None]:
    """A hub that says nothing is given up after `PATIENCE`."""
    session = get_session()
    before = session.timeout
    session.timeout = PATIENCE
    try:
        yield
    finally:
        session.timeout = before


@contextmanager
def explained(what: str, kind: type[FileError], failed: str) -> Iterator[None]:
    """What huggingface_hub raises as an error of `kind` about `what`, which `failed`."""
    try:
        yield
    except VidcapError:
        raise
    except Exception as error:  # its class depends on the HTTP library that huggingface_hub stands on
        if isinstance(error, OSError) and error.errno in DISK:
            problem = f"cannot be written ({error.strerror})"
            raise OutputError(error.filename or what, problem, "make room or name another place, run again") from error
        problem, way_out = trouble(error)
        raise kind(what, f"{failed} ({problem})", way_out) from error


def trouble(error: Exception) -> tuple[str, str]:  # noqa: C901 (one case a line)
    """What is wrong, and the way out."""
    match error:
        case LocalTokenNotFoundError():
            return "there is no token", "set HF_TOKEN, or run: hf auth login"
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set", "unset it"
        case HFValidationError():
            return "that is no name on the hub", "write it as OWNER/NAME"
        case GatedRepoError():
            return "the hub lets in only whom its owner accepted", "ask on its page, and set HF_TOKEN"
        case RevisionNotFoundError():
            return "the hub has no such revision", "check --revision"
        case EntryNotFoundError():
            return "the hub has no such file", "check that the repository holds a bundle"
        case HfHubHTTPError() if error.response.status_code == 404:
            return "the hub answers 404: no such repository", "check its name, HF_ENDPOINT and HF_TOKEN"
        case HfHubHTTPError() if error.response.status_code == 401:
            return "the hub answers 401: no such repository, or not for you", "check its name and HF_TOKEN"
        case HfHubHTTPError() if error.response.status_code == 403:
            return "the hub answers 403: your token may not do this", "set HF_TOKEN to one that may"
        case HfHubHTTPError():
            return f"the hub answers {error.response.status_code}", "try again later"
        case json.JSONDecodeError() | KeyError() | TypeError() | AttributeError():
            return "that is no answer of a hub", "check HF_ENDPOINT"
        case RuntimeError(__cause__=Exception() as cause):  # of the threads that upload
            return trouble(cause)
    reason = " ".join((str(error) or type(error).__name__).split("\n")[0].split()).rstrip(".")
    return reason, "check the network and HF_ENDPOINT, and run again: it goes on where it stopped"
