"""Make the embedded model from the shared data and the teacher's weights: one command, resumable.

    python -m scripts.make_default_bundle [--data ../shared/data] [--teacher ../shared/weights/vit-tiny-patch16-224]

1. A decoder learns captions on the teacher's features.
2. The compact encoder learns the teacher's features from scratch, of every picture but Flickr8k dev's and of frames of
   the training clips; the decoder tells what in them matters to words.
3. The decoder goes on with the student's features.
4. Encoder and decoder become a bundle with int8 weights, compared with torch on the validation clips.

Each step is left out when its result is there. Hours on two cores; a GPU is used where torch finds one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from scripts.default_mixture import write_mixture
from video_captioning.data.items import read_folder
from video_captioning.export.onnx import export
from video_captioning.training import distillation, distillation_data
from video_captioning.training.distillation import Distillation, save_student
from video_captioning.training.run import train

WORK = Path(".cache")
BUNDLE = Path(__file__).resolve().parent.parent / "video_captioning" / "bundles" / "default"
COMMAND = "python -m scripts.make_default_bundle"


def distil(data: Path, teacher: Path, decoder: Path) -> Path:
    """Step 2: the student as a Hugging Face model folder."""
    folder, out = WORK / "distillation", WORK / "compact"
    pictures, features = folder / "pictures.bin", folder / "features.bin"
    config = Distillation()
    if not pictures.exists():
        distillation_data.prepare(data, pictures)
    if not features.exists():
        distillation_data.teach(pictures, teacher, config.crops, features)
    if not out.exists():
        captions = [item.captions for item in distillation_data.captioned(data)]
        weights = distillation_data.weights(data, len(distillation_data.load(pictures)))
        last = distillation.distil(pictures, features, captions, weights, decoder, folder, config)
        save_student(last, out, config.sizes[-1])
    return out


def fit(name: str, backbone: Path, *overrides: str) -> Path:
    """Steps 1 and 3: a decoder on the features of `backbone`; its last checkpoint."""
    return train(
        "advanced",
        [
            f"dataset.train={WORK}/mixture/train.jsonl",
            f"dataset.validation={WORK}/mixture/validation.jsonl",
            f"model.backbone.name={backbone}",
            "model.backbone.grid=5",
            "model.vocabulary=4000",
            "training.batch_size=24",
            "training.captions_per_clip=4",
            "training.precision=bf16-mixed",
            f"out={WORK / 'runs' / name}",
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
    write_mixture(data, WORK / "mixture")
    first = fit("teacher", teacher, "training.max_epochs=8")
    student = distil(data, teacher, first)
    last = fit(
        "student",
        student,
        f"training.initial={first}",
        "training.max_epochs=3",
        "training.learning_rate=4e-4",
        "training.warmup=0.03",
    )
    clips = [item.path for item in read_folder(data / "clips" / "validation.jsonl")]
    made = WORK / "bundle"
    shutil.rmtree(made, ignore_errors=True)
    parity = export(last, made, name="default", command=COMMAND, int8=True, clips=clips)
    shutil.rmtree(BUNDLE, ignore_errors=True)
    made.replace(BUNDLE)
    click.echo(json.dumps({kind: vars(found) for kind, found in parity.items()}, indent=2))


if __name__ == "__main__":
    main()
