"""Make the embedded model from the shared data and the teacher's weights: one command, resumable.

    python -m scripts.make_default_bundle [--data ../shared/data] [--teacher ../shared/weights/vit-tiny-patch16-224]
                                          [--further | --decoder]

1. A decoder learns how people speak from text alone, then captions on the teacher's features.
2. The compact encoder learns the teacher's features from scratch, of every picture but Flickr8k dev's and of frames of
   the training clips; the decoder tells what in them matters to words.
3. The decoder goes on with the student's features.
4. It is rewarded for saying what people agree on and for no word that nobody used; in two more epochs, of which the
   mean is taken, clips count more and each has another's features mixed in, since the student knows its training
   pictures better than others.
5. Encoder and decoder become a bundle in int8, where it pays, compared with torch on the validation clips.

With --further the encoder that is embedded now goes on learning (step 2) and its decoder stays as it is.

Each step is left out when its result is there. Hours on two cores; a GPU is used where torch finds one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from scripts.default_mixture import write_mixture
from scripts.warm_start import mean, read_back, with_backbone
from video_captioning import bundle
from video_captioning.data import views
from video_captioning.data.items import read_folder
from video_captioning.decoding import Decoding
from video_captioning.export.onnx import export
from video_captioning.training import distillation, distillation_data
from video_captioning.training.distillation import Distillation, save_student
from video_captioning.training.run import train

WORK = Path(".cache")
BUNDLE = Path(__file__).resolve().parent.parent / "video_captioning" / "bundles" / "default"
PICTURES, FEATURES = WORK / "distillation" / "pictures.bin", WORK / "distillation" / "features.bin"
FURTHER = 1500
"""Steps of further distillation."""
COMMAND = "python -m scripts.make_default_bundle"
SEARCH = Decoding(beam=3, no_repeat_ngram=3, consensus=0.5)
"""Chosen on Flickr8k dev and the validation clips."""


def prepare(data: Path, teacher: Path, config: Distillation) -> None:
    """What step 2 learns from."""
    if not PICTURES.exists():
        distillation_data.prepare(data, PICTURES)
    if not FEATURES.exists():
        distillation_data.teach(PICTURES, teacher, config.crops, FEATURES)


def distil(data: Path, decoder: Path, config: Distillation, run: Path, initial: Path | None = None) -> Path:
    """Step 2: the student as a Hugging Face model folder; its checkpoints lie in the folder `run`."""
    out = run / "compact"
    if not out.exists():
        captions = [item.captions for item in distillation_data.captioned(data)]
        weights = distillation_data.weights(data, len(distillation_data.load(PICTURES)))
        last = distillation.distil(PICTURES, FEATURES, captions, weights, decoder, run, config, initial)
        save_student(last, out, config.sizes[-1])
    return out


def from_scratch(data: Path, teacher: Path) -> Path:
    """Steps 1 to 4; the checkpoint of encoder and decoder."""
    write_mixture(data, WORK / "mixture")
    speaker = fit("text", teacher, f"dataset.train={WORK}/mixture/text.jsonl", "training.max_epochs=2")
    first = fit("teacher", teacher, f"training.initial={speaker}", "training.max_epochs=8")
    config = Distillation()
    prepare(data, teacher, config)
    return speak(distil(data, first, config, PICTURES.parent), first)


def speak(encoder: Path, decoder: Path) -> Path:
    """Steps 3 and 4: the decoder goes on with the features of `encoder`; the checkpoint of both."""
    learned = fit(
        "student",
        encoder,
        f"training.initial={decoder}",
        "training.max_epochs=4",
        "training.learning_rate=4e-4",
        "training.warmup=0.03",
        "training.consensus=0.5",
        "training.views=2",
    )
    rewarded = reward("rewarded", encoder, "references", learned, 3, "unfounded_penalty=0.5", "cross_entropy=0.2")
    sure = ("unfounded_penalty=1", "cross_entropy=0.3", "feature_mixing=0.7")
    first = reward("sure", encoder, "clips", rewarded, 1, *sure)
    second = reward("surer", encoder, "clips", first, 1, *sure)
    return mean([first, second], WORK / "runs" / "spoken.ckpt")


def reward(name: str, encoder: Path, listing: str, initial: Path, epochs: int, *options: str) -> Path:
    """Step 4: self-critical training on what several people described; the last checkpoint."""
    return fit(
        name,
        encoder,
        "training=scst",
        f"dataset.train={WORK}/mixture/{listing}.jsonl",
        f"training.initial={initial}",
        f"training.max_epochs={epochs}",
        "training.learning_rate=1e-4",
        "training.temperature=0.6",
        "training.captions_per_clip=1",
        "training.precision=32-true",
        *(f"training.{option}" for option in options),
    )


def further(data: Path, teacher: Path) -> Path:
    """Step 2 from the embedded encoder on; the checkpoint of encoder and decoder."""
    config = Distillation(steps=FURTHER)
    prepare(data, teacher, config)
    run, encoder, decoder = embedded(config)
    return with_backbone(decoder, distil(data, decoder, config, run, encoder), run / "both.ckpt")


def embedded(config: Distillation) -> tuple[Path, Path, Path]:
    """A folder for what is made of the embedded model, with its encoder and its decoder's checkpoint in it."""
    run = WORK / "further" / bundle.read(BUNDLE).sha256[:12]
    encoder, decoder = run / "encoder", run / "decoder.ckpt"
    if not decoder.exists():
        read_back(BUNDLE, some_views(config), run)
    return run, encoder, decoder


def decoder_further(data: Path, _: Path) -> Path:
    """Steps 3 and 4 from the embedded decoder on; the checkpoint of encoder and decoder."""
    config = Distillation()
    if not PICTURES.exists():
        distillation_data.prepare(data, PICTURES)
    write_mixture(data, WORK / "mixture")
    _, encoder, decoder = embedded(config)
    return speak(encoder, decoder)


def some_views(config: Distillation) -> Iterator[Tensor]:
    """Batches of crops in other colours, from which batch normalisation can take its statistics."""
    pixels, rng = distillation_data.load(PICTURES), np.random.default_rng(config.seed)
    for _ in range(8):
        chosen = zip(rng.integers(len(pixels), size=64), rng.integers(config.crops, size=64), strict=True)
        crops = torch.cat([distillation_data.crop(pixels, int(picture), int(number)) for picture, number in chosen])
        yield views.recolour(views.shrink(crops, config.sizes[-1]), rng)


def fit(name: str, backbone: Path, *overrides: str) -> Path:
    """Steps 1, 3 and 4: a decoder on the features of `backbone`; its last checkpoint."""
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
@click.option("part", "--further", flag_value="further", help="Go on from the embedded encoder.")
@click.option("part", "--decoder", flag_value="decoder", help="Go on from the embedded decoder.")
def main(data: Path, teacher: Path, part: str | None) -> None:
    """Make video_captioning/bundles/default anew."""
    last = {None: from_scratch, "further": further, "decoder": decoder_further}[part](data, teacher)
    references = {item.path: item.captions for item in read_folder(data / "clips" / "validation.jsonl")}
    made = WORK / "bundle"
    shutil.rmtree(made, ignore_errors=True)
    parity = export(
        last,
        made,
        name="default",
        command=f"{COMMAND} --{part}" if part else COMMAND,
        int8=True,
        clips=list(references),
        references=references,
        decoding=SEARCH,
    )
    shutil.rmtree(BUNDLE, ignore_errors=True)
    made.replace(BUNDLE)
    click.echo(json.dumps({kind: vars(found) for kind, found in parity.items()}, indent=2))


if __name__ == "__main__":
    main()
