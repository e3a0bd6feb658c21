"""A bundle to the hub and back: whole, verified, resumed; and every way in which a hub can fail."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from tests.export import model_hub
from tests.export.model_hub import TOKEN, Fault, ModelHub, half, silence, stall, status
from video_captioning import bundle as bundles
from video_captioning.errors import BundleError, OutputError
from video_captioning.export import hub as client

REPO = "me/tiny"
GRAPHS = ("encoder.onnx", "memory.onnx", "step.onnx")
FILES = {"bundle.json", "tokenizer.model", *GRAPHS}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    """A hub that huggingface_hub, in this process, takes for the real one."""
    with model_hub.serving() as server:
        point_to(server.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        yield server


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which address huggingface_hub asks; it reads HF_ENDPOINT when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )


def make(folder: Path, seed: bytes = b"1", **changes: Any) -> Path:
    """A bundle that verifies; its graphs are noise."""
    folder.mkdir()
    for name in (*GRAPHS, "tokenizer.model"):
        (folder / name).write_bytes(hashlib.sha256(seed + name.encode()).digest() * 1000)
    manifest = json.loads((bundles.locate("default") / "bundle.json").read_text())
    for name in ("schema_version", "files", "concepts", "confidence"):
        manifest.pop(name)
    bundles.write_manifest(folder, manifest | {"name": "tiny"} | changes)
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make(tmp_path / "tiny")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def oid(folder: Path, name: str) -> str:
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


# Push


def test_push_makes_a_repository_and_one_commit_of_all_files_and_a_card(hub: ModelHub, tiny: Path) -> None:
    commit = client.push(tiny, REPO)
    (first, nothing), (last, kept) = hub.repos[REPO].commits
    assert nothing == {} and commit.oid == last != first
    assert commit.commit_url == f"{hub.url}/{REPO}/commit/{last}"
    card = kept.pop("README.md")
    assert kept == contents(tiny)
    assert ModelCard(card.decode()).data.license == "apache-2.0"
    assert f"vidcap bundle pull {REPO} models/tiny" in card.decode()
    assert not hub.repos[REPO].private


def test_a_name_alone_is_ones_own(hub: ModelHub, tiny: Path) -> None:
    client.push(tiny, "tiny")
    assert b"vidcap bundle pull me/tiny models/tiny" in hub.repos[REPO].commits[-1][1]["README.md"]


def test_what_the_hub_has_is_not_sent_again(hub: ModelHub, tiny: Path, tmp_path: Path) -> None:
    first = client.push(tiny, REPO)
    assert len(hub.asked("^PUT")) == 4
    hub.requests.clear()
    assert client.push(tiny, REPO).oid == first.oid
    assert not hub.asked("^PUT|/commit/") and len(hub.repos[REPO].commits) == 2
    other = shutil.copytree(tiny, tmp_path / "other")
    (other / "step.onnx").write_bytes(b"learned further")
    manifest = json.loads((other / "bundle.json").read_text())
    bundles.write_manifest(other, {key: manifest[key] for key in manifest if key not in ("schema_version", "files")})
    second = client.push(other, REPO)
    assert [path for method, path, _ in hub.requests if method == "PUT"] == [f"/large/{oid(other, 'step.onnx')}"]
    assert second.oid != first.oid


def test_a_push_whose_commit_fails_goes_on_from_there(hub: ModelHub, tiny: Path) -> None:
    hub.faults["/commit/main"] = status(500)
    with pytest.raises(OutputError, match=r"^me/tiny: cannot be uploaded \(the hub answers 500\); try again later$"):
        client.push(tiny, REPO)
    assert len(hub.repos[REPO].commits) == 1, "all or nothing"
    hub.faults.clear()
    hub.requests.clear()
    client.push(tiny, REPO)
    assert not hub.asked("^PUT") and hub.repos[REPO].commits[-1][1].keys() == FILES | {"README.md"}


def test_private_means_private(hub: ModelHub, tiny: Path) -> None:
    client.push(tiny, REPO, private=True)
    assert hub.repos[REPO].private
    client.push(tiny, REPO, private=True)
    client.push(tiny, "me/public")
    hub.requests.clear()
    with pytest.raises(OutputError, match="me/public: is there already, and public; make it private on the hub"):
        client.push(tiny, "me/public", private=True)
    assert not hub.asked("^PUT|/commit/")


def test_a_commit_that_lacks_a_file_is_no_success(hub: ModelHub, tiny: Path) -> None:
    hub.ignored.add("step.onnx")
    with pytest.raises(
        OutputError, match=r"me/tiny: the commit \w+ lacks step.onnx as it was sent; look for a .gitignore"
    ):
        client.push(tiny, REPO)


def test_a_damaged_bundle_is_not_sent(hub: ModelHub, tiny: Path, tmp_path: Path) -> None:
    (tiny / "step.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"step\.onnx: is 7 bytes instead of 32000"):
        client.push(tiny, REPO)
    with pytest.raises(BundleError, match="nothing: no such bundle"):
        client.push(tmp_path / "nothing", REPO)
    assert not hub.requests


@pytest.mark.parametrize(
    ("request_", "fault", "message"),
    [
        ("repos/create", status(401), r"\(the hub answers 401: no such repository, or not for you\); .*HF_TOKEN"),
        ("repos/create|GET", status(403), r"\(the hub answers 403: your token may not do this\); set HF_TOKEN to one"),
        ("repos/create", status(404, b"<html>"), r"\(the hub answers 404: no such repository\); check .*HF_ENDPOINT"),
        ("repos/create", status(200, b"<html>not a hub"), r"\(that is no answer of a hub\); check HF_ENDPOINT"),
        ("repos/create", status(200, b"{}"), r"\(that is no answer of a hub\); check HF_ENDPOINT"),
        ("repos/create", silence, r"\(.*timed out\); check the network and HF_ENDPOINT, and run again"),
        ("validate-yaml", status(400, b'{"errors": [{"message": "x"}]}'), r"\(Invalid metadata in README.md\); "),
        ("preupload", status(403), r"\(the hub answers 403: your token may not do this\)"),
        ("preupload", status(200, b"{}"), r"\(preupload_info is improperly formatted\)"),
        ("lfs/objects/batch", status(200, b"[]"), r"\(that is no answer of a hub\)"),
        ("^PUT", status(403), r"\(the hub answers 403: your token may not do this\)"),
        ("^POST /verify", status(404), r"\(the hub answers 404"),
    ],
)
def test_a_hub_that_does_not_take_a_bundle(
    hub: ModelHub, tiny: Path, monkeypatch: pytest.MonkeyPatch, request_: str, fault: Fault, message: str
) -> None:
    monkeypatch.setattr(client, "PATIENCE", 0.3)
    hub.faults[request_] = fault
    with pytest.raises(OutputError, match=f"^me/tiny: cannot be uploaded {message}") as found:
        client.push(tiny, REPO)
    assert "\n" not in str(found.value)
    assert all(len(repo.commits) == 1 for repo in hub.repos.values())


def test_a_push_without_the_right_to(hub: ModelHub, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"^others/tiny: .*403"):
        client.push(tiny, "others/tiny")
    with pytest.raises(OutputError, match=r"^a/b/c: .*no name on the hub\); write it as OWNER/NAME"):
        client.push(tiny, "a/b/c")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(OutputError, match=r"^me/tiny: .*401"):
        client.push(tiny, REPO)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    hub.requests.clear()
    with pytest.raises(OutputError, match=r"\(there is no token\); set HF_TOKEN, or run: hf auth login"):
        client.push(tiny, REPO)
    assert not hub.requests and not hub.repos


# Pull


@pytest.fixture
def pushed(hub: ModelHub, tiny: Path) -> str:
    """The commit of `tiny` on the hub."""
    return hub.hold(REPO, tiny)


def test_what_is_pulled_is_what_was_pushed(hub: ModelHub, pushed: str, tiny: Path, tmp_path: Path) -> None:
    found = client.pull(REPO, tmp_path / "new" / "out")
    assert contents(tmp_path / "new" / "out") == contents(tiny)
    assert found == bundles.read(tmp_path / "new" / "out") and found.name == "tiny"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_a_revision_is_pinned(hub: ModelHub, pushed: str, tiny: Path, tmp_path: Path) -> None:
    newer = make(tmp_path / "newer", b"2", version="2")
    hub.hold(REPO, newer)
    assert client.pull(REPO, tmp_path / "old", pushed).version != client.pull(REPO, tmp_path / "new").version == "2"
    assert contents(tmp_path / "old") == contents(tiny)
    assert contents(tmp_path / "new") == contents(newer)


def test_a_private_bundle_needs_the_token(
    hub: ModelHub, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.hold(REPO, tiny, private=True)
    assert client.pull(REPO, tmp_path / "out").name == "tiny"
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(
        BundleError, match=r"^me/tiny/bundle.json: .*\(the hub answers 401.*\); check its name and HF_TOKEN"
    ):
        client.pull(REPO, tmp_path / "again")


def test_nothing_is_overwritten(hub: ModelHub, pushed: str, tiny: Path) -> None:
    before = contents(tiny)
    with pytest.raises(OutputError, match="tiny: exists already; give another name or remove it first"):
        client.pull(REPO, tiny)
    assert contents(tiny) == before and not hub.requests


def nothing_at(out: Path) -> bool:
    return not out.exists() and not client.partial_folder(out).exists()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (status(404), "the hub answers 404: no such repository"),
        (status(401), "the hub answers 401: no such repository, or not for you"),
        (status(403), "the hub answers 403: your token may not do this"),
        (status(403, X_Error_Code="GatedRepo"), "the hub lets in only whom its owner accepted"),
        (status(503), "the hub answers 503"),
        (status(404, X_Error_Code="EntryNotFound"), "the hub has no such file"),
        (half(b"{" * 100), "peer closed connection.*"),
        (silence, ".*timed out"),
        (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), "Server disconnected.*"),
    ],
)
def test_a_hub_that_does_not_give_a_bundle(
    hub: ModelHub, pushed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, message: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    hub.faults["bundle.json"] = fault
    with pytest.raises(BundleError, match=rf"^me/tiny/bundle.json: cannot be downloaded \({message}\); ") as found:
        client.pull(REPO, tmp_path / "out")
    assert "\n" not in str(found.value) and nothing_at(tmp_path / "out")


def test_a_hub_that_is_not_there(hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    with pytest.raises(BundleError, match=r"no such repository"):
        client.pull("me/nothing", tmp_path / "out")
    hub.hold(REPO, tiny)
    with pytest.raises(BundleError, match=r"the hub has no such revision\); check --revision"):
        client.pull(REPO, tmp_path / "out", "gone")
    with pytest.raises(BundleError, match=r"no name on the hub\); write it as OWNER/NAME"):
        client.pull("a/b/c", tmp_path / "out")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BundleError, match=r"HF_HUB_OFFLINE is set\); unset it"):
        client.pull(REPO, tmp_path / "out")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    point_to(f"http://127.0.0.1:{port}", monkeypatch)
    with pytest.raises(BundleError, match=r"\(.*[Rr]efused\); check the network and HF_ENDPOINT, and run again"):
        client.pull(REPO, tmp_path / "out")
    assert nothing_at(tmp_path / "out")
    with pytest.raises(OutputError, match=r"^me/tiny: cannot be uploaded \(.*[Rr]efused\); check the network"):
        client.push(tiny, REPO)


def changed(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest.update(changes)


def renamed(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["files"].update({name: manifest["files"]["step.onnx"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("../outside"), "is not the bundle.json of a bundle; do not use it"),
        (renamed(".."), "is not the bundle.json of a bundle"),
        (renamed("/tmp/outside"), "is not the bundle.json of a bundle"),
        (
            lambda manifest: manifest["files"]["step.onnx"].update(sha256="../outside"),
            "is not the bundle.json of a bundle",
        ),
        (lambda manifest: manifest["files"]["step.onnx"].update(bytes=-1), "is not the bundle.json of a bundle"),
        (lambda manifest: manifest["files"]["step.onnx"].update(bytes="1"), "is not the bundle.json of a bundle"),
        (changed(files=["step.onnx"]), "is not the bundle.json of a bundle"),
        (lambda manifest: manifest.pop("files"), "is not the bundle.json of a bundle"),
        (lambda manifest: manifest["files"].pop("step.onnx"), "uses a file that it does not list: step.onnx"),
        (changed(schema_version=2), "has schema 2, newer than 1, which this vidcap reads; upgrade vidcap"),
        (changed(sampling={"fps": 0}), r"lacks or misstates a field \("),
    ],
)
def test_a_bundle_json_that_is_wrong(
    hub: ModelHub, pushed: str, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    files = hub.repos[REPO].commits[-1][1]
    manifest = json.loads(files["bundle.json"])
    change(manifest)
    files["bundle.json"] = json.dumps(manifest).encode()
    with pytest.raises(BundleError, match=f"^me/tiny/bundle.json: {message}"):
        client.pull(REPO, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "outside").exists()


@pytest.mark.parametrize("text", [b"", b"<html>a page</html>", b"[]", b"[" * 100_000, b"\xff\0", b"null"])
def test_a_bundle_json_that_is_none(hub: ModelHub, pushed: str, tmp_path: Path, text: bytes) -> None:
    hub.repos[REPO].commits[-1][1]["bundle.json"] = text
    with pytest.raises(BundleError, match=r"^me/tiny/bundle.json: is not the bundle.json of a bundle"):
        client.pull(REPO, tmp_path / "out")
    assert nothing_at(tmp_path / "out")


def test_a_file_of_other_content_is_thrown_away(hub: ModelHub, pushed: str, tiny: Path, tmp_path: Path) -> None:
    sha256 = oid(tiny, "memory.onnx")
    right = hub.large[sha256]
    hub.large[sha256] = right[::-1]
    message = "^me/tiny/memory.onnx: does not have the stated SHA-256: changed or damaged; pull again to fetch it anew"
    with pytest.raises(BundleError, match=message):
        client.pull(REPO, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in client.partial_folder(tmp_path / "out").iterdir()] == ["encoder.onnx"]
    hub.large[sha256] = right
    client.pull(REPO, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tiny)


def test_a_file_that_is_missing(hub: ModelHub, pushed: str, tmp_path: Path) -> None:
    del hub.repos[REPO].commits[-1][1]["step.onnx"]
    with pytest.raises(BundleError, match=r"^me/tiny/step.onnx: cannot be downloaded \(the hub has no such file\)"):
        client.pull(REPO, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pull_goes_on_within_a_file(
    hub: ModelHub, pushed: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    cdn = f"cdn/{oid(tiny, 'memory.onnx')}"
    answers = iter([stall((tiny / "memory.onnx").read_bytes(), 20_000)])
    hub.faults[cdn] = lambda handler: next(answers, status(404))(handler)
    with pytest.raises(BundleError, match=r"^me/tiny/memory.onnx: cannot be downloaded \("):
        client.pull(REPO, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    hub.faults.clear()
    hub.requests.clear()
    client.pull(REPO, tmp_path / "out")
    assert hub.asked(cdn) == ["bytes=20000-"]
    assert not hub.asked(f"cdn/{oid(tiny, 'encoder.onnx')}"), "it was there already"
    assert contents(tmp_path / "out") == contents(tiny)
    assert not client.partial_folder(tmp_path / "other").exists()


def test_a_line_that_breaks_is_mended_at_once(hub: ModelHub, pushed: str, tiny: Path, tmp_path: Path) -> None:
    cdn = f"cdn/{oid(tiny, 'memory.onnx')}"
    answers = iter([half((tiny / "memory.onnx").read_bytes())])
    hub.faults[cdn] = lambda handler: next(answers, lambda h: h.send_part(h.hub.large[cdn[4:]]))(handler)
    client.pull(REPO, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tiny)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (half, "the hub sends too much, or begins anew instead of going on"),
        (lambda content: status(200, content[:100]), "Consistency check failed.*"),
        (lambda content: status(200, content * 3), "the hub sends too much, or begins anew instead of going on"),
    ],
)
def test_a_hub_that_never_gives_the_whole_of_a_file(
    hub: ModelHub,
    pushed: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: Callable[[bytes], Fault],
    message: str,
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.faults["cdn"] = wrong((tiny / "encoder.onnx").read_bytes())
    with pytest.raises(BundleError, match=rf"^me/tiny/encoder.onnx: cannot be downloaded \({message}\); ") as found:
        client.pull(REPO, tmp_path / "out")
    assert "\n" not in str(found.value) and not (tmp_path / "out").exists()
    hub.faults.clear()
    client.pull(REPO, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tiny)


def test_what_was_begun_of_another_revision_is_no_hindrance(
    hub: ModelHub, pushed: str, tiny: Path, tmp_path: Path
) -> None:
    partial = client.partial_folder(tmp_path / "out")
    partial.mkdir()
    shutil.copyfile(tiny / "step.onnx", partial / "step.onnx")
    (partial / "older.model").write_bytes(b"of another revision")
    (partial / f"{'0' * 64}.part").write_bytes(b"of another revision")
    (partial / f"{oid(tiny, 'memory.onnx')}.part").write_bytes(b"more than there can be" * 10_000)
    newer = make(tmp_path / "newer", b"2")
    hub.hold(REPO, newer)
    client.pull(REPO, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(newer)


def test_no_place_to_write(hub: ModelHub, pushed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written \(Not a directory\); make room or name another place"):
        client.pull(REPO, tmp_path / "file" / "out")
    usual = client.os.fsync

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(client.os, "fsync", full)
    with pytest.raises(OutputError, match=r"^me/tiny/encoder.onnx: cannot be written \(No space left on device\)"):
        client.pull(REPO, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(client.os, "fsync", usual)
    assert client.pull(REPO, tmp_path / "out").name == "tiny"
