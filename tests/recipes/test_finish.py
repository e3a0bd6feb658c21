"""The bundle states what it scores, and is put into the package with its float weights beside the recipe."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from recipes.default import finish
from tests import tiny
from video_captioning import bundle
from video_captioning.data.items import Item
from video_captioning.evaluation.evaluate import evaluate
from video_captioning.models import checkpoint
from video_captioning.models.backbone import Backbone


def test_the_sets_are_those_that_are_validated_on(data: Path) -> None:
    found = finish.held(data)
    assert {name: len(items) for name, items in found.items()} == {"dev": 4, "validation": 2, "more_validation": 1}
    assert found["validation"][1].captions == ("a cook slices an onion", "someone is slicing an onion")
    assert all(item.path.is_file() for items in found.values() for item in items)


def test_scores_of_every_set_are_written_into_the_bundle(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.sure_bundle(), tmp_path / "bundle"))
    items = []
    for number, picture in enumerate(tiny.pictures(3)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        items.append(Item(str(number), tmp_path / f"{number}.png", (tiny.CAPTIONS[number], "two dogs")))
    finish.state(folder, {"dev": items, "validation": items[:2]})
    after, before = bundle.read(folder), bundle.read(tiny.sure_bundle())
    assert set(after.scores) == {"dev", "validation"}
    measured = evaluate(tiny.sure_bundle(), items)
    assert after.scores["dev"] == {
        **{name: pytest.approx(score, abs=5e-5) for name, score in measured.scores.scores.items()},
        "content words supported": pytest.approx(measured.support.share, abs=5e-5),
    }
    assert (after.concepts, after.confidence, after.parity) == (before.concepts, before.confidence, before.parity)


def test_weights_are_kept_as_floats_of_16_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "BUNDLE", tmp_path / "video_captioning" / "bundles" / "default")
    monkeypatch.setattr(finish, "FLOAT", tmp_path / "recipes" / "default" / "float")
    path = tiny.checkpoint(concepts=True)
    finish.BUNDLE.mkdir(parents=True)
    (finish.BUNDLE / "old.onnx").touch()
    for _ in range(2):  # again: the old ones go
        finish.embed(tiny.bundle(concepts=True), path, tiny.backbone())
        assert bundle.read(finish.BUNDLE).sha256 == bundle.read(tiny.bundle(concepts=True)).sha256
        assert not (finish.BUNDLE / "old.onnx").exists()
    model, description = checkpoint.load(finish.FLOAT / "decoder.ckpt")
    original, _ = checkpoint.load(path)
    for name, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], value.half().float() if value.is_floating_point() else value)
    assert description.backbone["name"] == "recipes/default/float/encoder"
    assert (
        Backbone(str(tmp_path / description.backbone["name"]), grid=2).identity["sha256"]
        == (description.backbone["identity"]["sha256"])
    )
    saved = torch.load(finish.FLOAT / "decoder.ckpt", weights_only=True)["state_dict"]
    assert {value.dtype for value in saved.values()} == {torch.float16, torch.int64}
