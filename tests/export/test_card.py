"""The model card: front matter that the hub takes, and nothing of a bundle that breaks its text."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from video_captioning.bundle import Bundle, read
from video_captioning.export.card import model_card


@pytest.fixture(scope="module")
def default() -> Bundle:
    return read("default")


def test_the_front_matter_is_what_the_hub_files_a_model_under(default: Bundle) -> None:
    card = ModelCard(model_card(default, "me/default"))
    expected = {
        "language": "en",
        "license": "apache-2.0",
        "library_name": "vidcap",
        "pipeline_tag": "video-text-to-text",
        "tags": ["video-captioning", "onnx"],
    }
    assert card.data.to_dict() == expected
    assert yaml.safe_load(model_card(default, "me/default").split("---\n")[1]) == expected


@pytest.mark.parametrize(
    ("licence", "front"),
    [
        ("MIT", {"license": "mit"}),
        ("Our own: no. 1", {"license": "other", "license_name": "our-own-no.-1"}),
        ("---\nlicense: mit", {"license": "other", "license_name": "license-mit"}),
        ("", {"license": "other", "license_name": "not-stated"}),
    ],
)
def test_a_licence_that_the_hub_does_not_know_is_another(default: Bundle, licence: str, front: dict[str, str]) -> None:
    data = ModelCard(model_card(replace(default, licence=licence), "me/default")).data.to_dict()
    assert {key: value for key, value in data.items() if key.startswith("license")} == front


def test_it_says_how_to_run_it_and_how_it_was_made(default: Bundle) -> None:
    text = model_card(default, "me/fine")
    assert "vidcap bundle pull me/fine models/fine\nvidcap caption --model models/fine clip.mp4\n" in text
    assert 'video_captioning.load("models/fine")' in text
    settings, made_by = (json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", text, re.DOTALL))
    assert settings["preprocess"] == default.preprocess
    assert (settings["sampling"]["fps"], settings["decoding"]["beam"]) == (default.sampling.fps, default.decoding.beam)
    assert made_by == {key: value for key, value in default.made_by.items() if key != "config"}
    assert f"{default.bytes / 1e6:.1f} MB" in text


def test_parity_and_scores_are_tables(default: Bundle) -> None:
    parity = {"float32": {"clips": 3, "logits": 0.00012345}, "int8": {"clips": 3, "same_captions": 2}}
    scores = {"Flickr8k dev": {"CIDEr-D": 0.46, "items": 1000}, "loss": 1.5}
    text = model_card(replace(default, parity=parity, scores=scores), "me/default")
    assert "| float32 | 3 | 0.0001234 |  |\n| int8 | 3 |  | 2 |\n" in text
    assert "|  | CIDEr-D | items |  |\n" in text
    assert "| Flickr8k dev | 0.46 | 1000 |  |\n| loss |  |  | 1.5 |\n" in text
    bare = model_card(replace(default, parity={}, scores={}, quantization={}), "me/default")
    assert "## Scores\nNone are stated.\n" in bare and "None is stated.\n\n## Made by" in bare


def test_what_a_bundle_says_stays_in_its_place(default: Bundle) -> None:
    name, wild = "a\n# b <script> | [c](d)", {"x\n|y|": {"```\n# z": "<b>"}}
    text = model_card(replace(default, name=name, scores=wild, made_by={"command": "```\n# not a title"}), "me/default")
    titles = re.findall(r"^# .*", text, re.MULTILINE)
    assert titles == [r"# a\\n\# b \<script\> \| \[c\](d)"]
    assert not re.search(r"(?<!\\)<(script|b)>", text)
    assert text.count("\n```") % 2 == 0
