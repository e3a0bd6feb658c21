"""Make the embedded model from the shared data and the teacher's weights: one command, resumable.

    python scripts/make_default_bundle.py [--data ../shared/data] [--teacher ../shared/weights/vit-tiny-patch16-224]

1. The teacher looks once at every picture but Flickr8k dev's and at frames of the training clips.
2. The compact encoder learns the teacher's features from scratch.
3. A decoder learns captions on the teacher's features, then goes on with the student's.
4. Encoder and decoder become a bundle with int8 weights, compared with torch on the validation clips.

Each step is left out when its result is there. Hours on two cores; a GPU is used where torch finds one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from video_captioning.export.onnx import export
from video_captioning.training import distillation, distillation_data
from video_captioning.training.run import train

WORK = Path(".cache")
BUNDLE = Path(__file__).resolve().parent.parent / "video_captioning" / "bundles" / "default"
COMMAND = "python scripts/make_default_bundle.py"

# How often an epoch draws an item. The web's alternative texts are noisy; clips are few and what the model is for.
WEIGHTS = {"flickr8k": 1.0, "coco": 1.0, "web": 0.5, "msrvtt": 5.0, "msvd": 5.0, "panda70m": 3.0}


def rows(listing: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in listing.read_text().splitlines()]


def item(row: dict[str, Any], folder: Path, source: str) -> dict[str, Any]:
    return {"id": row["id"], "file": str(folder.resolve() / row["file"]), "captions": row["captions"]} | {
        "weight": WEIGHTS[source]
    }


def training(data: Path) -> list[dict[str, Any]]:
    """Charades and ActivityNet are left out: six clips whose captions tell a story, not a scene."""
    pictures = [
        item(row, data / source, source)
        for source, listing in (("flickr8k", "train.jsonl"), ("coco", "captions.jsonl"), ("web", "captions.jsonl"))
        for row in rows(data / source / listing)
    ]
    clips = [
        item(row, data / "clips", row["dataset"])
        for row in rows(data / "clips" / "train.jsonl")
        if row["dataset"] in WEIGHTS
    ]
    return pictures + clips


def validation(data: Path) -> list[dict[str, Any]]:
    pictures = [item(row, data / "flickr8k", "flickr8k") for row in rows(data / "flickr8k" / "dev.jsonl")[:400]]
    return pictures + [item(row, data / "clips", row["dataset"]) for row in rows(data / "clips" / "validation.jsonl")]


def write_mixture(data: Path, out: Path) -> None:
    """`train.jsonl` and `validation.jsonl` in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for name, items in (("train", training(data)), ("validation", validation(data))):
        part = out / f"{name}.part"
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in items))
        part.replace(out / f"{name}.jsonl")
        click.echo(f"{out / name}.jsonl: {len(items)} items, {sum(len(row['captions']) for row in items)} captions")


def distil(data: Path, teacher: Path) -> Path:
    """Steps 1 and 2: the student as a Hugging Face model folder."""
    folder, student, out = WORK / "distill", WORK / "student", WORK / "compact"
    if not (folder / "teacher.bin").exists():
        distillation_data.prepare(data, teacher, folder)
    if not out.exists():
        config = distillation.Distillation()
        checkpoint = distillation.distil(folder, student, config)
        distillation.save_student(checkpoint, out, config.sizes[-1])
    return out


def fit(name: str, backbone: Path, *overrides: str) -> Path:
    """Step 3: a decoder on the features of `backbone`; its last checkpoint."""
    out = WORK / "runs" / name
    return train(
        "advanced",
        [
            f"dataset.train={WORK}/mixture/train.jsonl",
            f"dataset.validation={WORK}/mixture/validation.jsonl",
            f"model.backbone.name={backbone}",
            "model.vocabulary=4000",
            "training.batch_size=24",
            "training.captions_per_clip=4",
            f"out={out}",
            *overrides,
        ],
    )


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), default="../shared/data", show_default=True)
@click.option(
    "--teacher",
    type=click.Path(path_type=Path, exists=True),
    default="../shared/weights/vit-tiny-patch16-224",
    show_default=True,
)
def main(data: Path, teacher: Path) -> None:
    """Make video_captioning/bundles/default anew."""
    student = distil(data, teacher)
    write_mixture(data, WORK / "mixture")
    first = fit("teacher", teacher, "training.max_epochs=3")
    tokenizer = WORK / "runs" / "student" / "tokenizer.model"
    tokenizer.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(first.parent / "tokenizer.model", tokenizer)
    last = fit(
        "student",
        student,
        f"training.initial={first}",
        "training.max_epochs=3",
        "training.learning_rate=6e-4",
        "training.warmup=0.03",
    )
    clips = [data / "clips" / row["file"] for row in rows(data / "clips" / "validation.jsonl")]
    if BUNDLE.exists():
        shutil.rmtree(BUNDLE)
    parity = export(last, BUNDLE, name="default", command=COMMAND, int8=True, clips=clips)
    click.echo(json.dumps({kind: vars(found) for kind, found in parity.items()}, indent=2))


if __name__ == "__main__":
    main()
