"""Archives: nothing outside the folder, no half files, nothing twice, and the room is there beforehand."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from video_captioning.data.unpack import unpack
from video_captioning.errors import DataError, OutputError


def archive(path: Path, members: dict[str, bytes], **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            for attribute, value in attributes.items():
                setattr(member, attribute, value)
            file.writestr(member, content)
    return path


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_missing_is_written(tmp_path: Path) -> None:
    members = {"video/a.mp4": b"a" * 1000, "video/b.mp4": b"b", "video/": b""}
    source, folder = archive(tmp_path / "a.zip", members), tmp_path / "videos"
    assert unpack(source, folder) == 2
    del members["video/"]
    assert everything(folder) == members
    (folder / "video" / "a.mp4").write_bytes(b"a" * 999)  # what a copy that was stopped leaves
    assert unpack(source, folder) == 1
    assert everything(folder) == members
    assert unpack(source, folder) == 0


@pytest.mark.parametrize(
    "name", ["../evil", "video/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "video/..\\..\\evil"]
)
def test_no_member_leaves_the_folder(tmp_path: Path, name: str) -> None:
    source = archive(tmp_path / "a.zip", {"video/good.mp4": b"good", name: b"evil"})
    with pytest.raises(
        DataError, match="would lie outside the folder; do not trust this archive; nothing was unpacked"
    ):
        unpack(source, tmp_path / "deep" / "videos")
    assert list(everything(tmp_path)) == ["a.zip"]


def test_no_links(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", {"video": b"/etc"}, create_system=3, external_attr=0o120777 << 16)
    with pytest.raises(DataError, match="outside the folder"):
        unpack(source, tmp_path / "videos")


def test_a_password_is_asked_for_by_nobody(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", {"video/good.mp4": b"good", "video/locked.mp4": b"locked"})
    content = bytearray(source.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # the last entry of the directory
    source.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: its member video/locked\.mp4 needs a password; unpack it yourself"):
        unpack(source, tmp_path / "videos")
    assert list(everything(tmp_path)) == ["a.zip"]


def test_a_full_disk_is_known_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = archive(tmp_path / "a.zip", {"video/a.mp4": bytes(30_000_000)})
    free = shutil.disk_usage(tmp_path)._replace(free=20_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(OutputError, match=r"videos: a\.zip needs 0\.03 GB, and 0\.02 GB are free; make room"):
        unpack(source, tmp_path / "videos")
    assert list(everything(tmp_path)) == ["a.zip"]


def test_damage_is_found_and_what_was_whole_stays(tmp_path: Path) -> None:
    source = tmp_path / "a.zip"
    with zipfile.ZipFile(source, "w") as file:
        file.writestr("video/a.mp4", b"first" * 100)
        file.writestr("video/b.mp4", b"second" * 100)
    source.write_bytes(source.read_bytes().replace(b"secondsecond", b"secondsecomd", 1))
    with pytest.raises(DataError, match=r"a\.zip: cannot be unpacked \(Bad CRC-32 for file 'video/b\.mp4'\)"):
        unpack(source, tmp_path / "videos")
    assert list(everything(tmp_path / "videos")) == ["video/a.mp4"]
    source.write_bytes(source.read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(source, tmp_path / "videos")
