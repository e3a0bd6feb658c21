"""A checkpoint is loaded from itself alone; one that is no checkpoint, or not whole, is named."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from video_captioning.errors import CheckpointError
from video_captioning.models import checkpoint
from video_captioning.models.advanced import Advanced
from video_captioning.tokenizer import Tokenizer


def saved() -> dict[str, Any]:
    content: dict[str, Any] = torch.load(tiny.checkpoint(), weights_only=True)
    return content


def refused(path: Path, match: str) -> None:
    with pytest.raises(CheckpointError, match=match) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_describes_itself() -> None:
    model, description = checkpoint.load(tiny.checkpoint())
    assert isinstance(model, Advanced)
    assert not model.training
    assert description.kind == "advanced"
    assert description.model["vocabulary"] == len(Tokenizer(description.tokenizer)) == len(tiny.tokenizer())
    assert description.backbone["identity"]["sha256"]
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    assert weights.keys() == saved()["state_dict"].keys()
    assert all(torch.equal(value, weights[name]) for name, value in saved()["state_dict"].items())


def test_it_loads_without_the_config_tree_and_what_trains() -> None:
    code = """
import sys
from video_captioning.models import checkpoint
model, description = checkpoint.load(sys.argv[1])
print(description.config["seed"], sorted({"hydra", "lightning", "transformers", "lmdb"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(tiny.checkpoint())]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert done.stdout == "1 []\n", done.stderr


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "last.ckpt", "no such checkpoint; give the .ckpt file of a run")
    refused(tmp_path, "cannot be read")


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 0.999))
def test_cut_short(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "last.ckpt"
    content = tiny.checkpoint().read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "cannot be read, perhaps cut short; use another checkpoint of the run")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "content", [b"text", bytes(range(256)) * 9, pickle.dumps({"a": 1}, 2), pickle.dumps(Evil(), 2)]
)
def test_other_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    refused(path, "cannot be read|is not a checkpoint of vidcap")
    assert not Path("evil").exists(), "loading ran what the file names"


@pytest.mark.parametrize(
    "content", [{}, [], 7, "text", torch.zeros(3), {"state_dict": {}}, {"vidcap": 7}, {"vidcap": {}}]
)
def test_other_torch_files(tmp_path: Path, content: object) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    refused(path, "is not a checkpoint of vidcap; give the .ckpt file of `vidcap train`")


def test_of_a_newer_version(tmp_path: Path) -> None:
    content = saved()
    content["vidcap"]["version"] += 1
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    refused(path, "was written by a newer vidcap; upgrade vidcap")


@pytest.mark.parametrize(
    "change", ["no weights", "a weight lacks", "other sizes", "impossible sizes", "no field", "tokenizer"]
)
def test_parts_that_lack_or_disagree(tmp_path: Path, change: str) -> None:
    content = saved()
    match change:
        case "no weights":
            del content["state_dict"]
        case "a weight lacks":
            del content["state_dict"]["model.bias"]
        case "other sizes":
            content["vidcap"]["model"]["vocabulary"] += 1
        case "impossible sizes":
            content["vidcap"]["model"]["heads"] = 3
        case "no field":
            del content["vidcap"]["sampling"]
        case "tokenizer":
            content["vidcap"]["tokenizer"] = 7
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    refused(path, "lacks or misstates a part of itself")
