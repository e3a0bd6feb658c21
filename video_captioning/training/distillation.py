"""Distil a frozen teacher's features into the compact encoder (feature regression, as in Romero et al. 2015).

What the teacher makes of some crops of every picture is known beforehand; the student sees these crops mirrored and in
other colours, which moves the teacher's features little. Towards the end a decoder that was trained on the teacher's
features and is frozen as well reads both: what changes its words counts most.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset

from video_captioning.data import views
from video_captioning.data.dataset import mirrored_places
from video_captioning.models import checkpoint
from video_captioning.models.backbone import CompactConfig, CompactModel, full_length
from video_captioning.models.compact import CompactEncoder
from video_captioning.models.interface import CaptioningModel
from video_captioning.tokenizer import BOS, EOS, Tokenizer
from video_captioning.training.distillation_data import HELD_OUT, crop, load, load_features, pooled
from video_captioning.training.muon import Muon

EDGES = "stem", "class_token", "positions", "class_head", "patch_head"
"""First and last layers of the student, which Muon is not for."""
SMALLEST_SHARE = 32
"""Pictures of a batch that are worth a process."""


@dataclass(frozen=True)
class Distillation:
    """How the student learns. Steps, not epochs: pictures are drawn at random."""

    steps: int = 3200
    batch_size: int = 128
    """Over all processes."""
    crops: int = 8
    """Of each picture, the first of them the whole."""
    learning_rate: float = 3e-3
    """Of hidden matrices."""
    others_learning_rate: float = 1.5e-3
    """Of all other parameters."""
    weight_decay: float = 0.05
    warmup: int = 100
    decay: float = 0.3
    """Share of the steps, at the end, over which the learning rate falls to zero."""
    sizes: tuple[int, int] = (128, 160)
    """Sides of the student's pictures, pixels: the first until the decay starts, the second from then on."""
    words: float = 2.0
    """Weight of the decoder's words in the loss; it reads along from the start of the decay."""
    ema: float = 0.998
    held_out: int = HELD_OUT
    interval: int = 200
    """Steps from one validation and checkpoint to the next."""
    seed: int = 0

    @property
    def decay_start(self) -> int:
        """The first step of the decay."""
        return round(self.steps * (1 - self.decay))


class Lesson(NamedTuple):
    """Views of pictures, what the teacher makes of them, and captions of some of them for the decoder to read."""

    pictures: Tensor
    """float32 `[N, 3, S, S]` in [-1, 1], as the student sees them"""
    features: Tensor
    """`[N, 1 + G², D]`: the teacher's"""
    tokens: Tensor
    """int64 `[N, L]`: `bos`, the caption, `eos`, then `pad`; a missing caption is all `pad`"""


class Lessons:
    """Pictures, what the teacher makes of their crops, and captions of the first of them as lists of tokens."""

    def __init__(self, pixels: np.ndarray, features: np.ndarray, captions: Sequence[Sequence[list[int]]]) -> None:
        """`pixels` uint8 `[N, T, T, 3]`, `features` `[N, crops, 1 + G², D]`."""
        self.pixels, self.features, self.captions = pixels, features, captions

    def whole(self, chosen: np.ndarray, size: int, rng: np.random.Generator) -> Lesson:
        """The chosen pictures as they are."""
        pictures = torch.cat([crop(self.pixels, picture, 0) for picture in chosen])
        features = torch.from_numpy(self.features[chosen, 0]).float()
        return Lesson(views.shrink(pictures, size) / 127.5 - 1, features, self.tokens(chosen, rng))

    def draw(self, chosen: np.ndarray, size: int, rng: np.random.Generator) -> Lesson:
        """Random views of the chosen pictures."""
        numbers = rng.integers(self.features.shape[1], size=len(chosen))
        crops = torch.cat([crop(self.pixels, *which) for which in zip(chosen, numbers, strict=True)])
        pictures = views.recolour(views.shrink(crops, size), rng)
        features = torch.from_numpy(self.features[chosen, numbers]).float()
        flipped = torch.from_numpy(rng.random(len(chosen)) < 0.5)
        pictures[flipped] = pictures[flipped].flip(3)
        features[flipped] = features[flipped][:, mirrored_places(math.isqrt(features.shape[1]))]
        return Lesson(pictures, features, self.tokens(chosen, rng))

    def tokens(self, chosen: np.ndarray, rng: np.random.Generator) -> Tensor:
        """A caption of each of the chosen pictures, at random."""
        captions = [self.captions[i] if i < len(self.captions) else [] for i in chosen]
        drawn = [texts[int(rng.integers(len(texts)))] if texts else [] for texts in captions]
        tokens = torch.full((len(chosen), max(2, *map(len, drawn))), Tokenizer.pad)
        for row, caption in enumerate(drawn):
            tokens[row, : len(caption)] = torch.tensor(caption)
        return tokens


class Batches(IterableDataset[Lesson]):
    """Random batches; the draw of step n depends on the seed and n alone, so a resumed run sees the same.

    Of several processes each takes its share of every batch.
    """

    def __init__(self, lessons: Lessons, weights: np.ndarray, config: Distillation, start: int = 0) -> None:
        """`weights [N]`: how often each picture is drawn, in proportion."""
        self.lessons, self.config, self.start = lessons, config, start
        self.weights = np.where(np.arange(len(weights)) % config.held_out != 0, weights, 0.0)
        self.weights /= self.weights.sum()

    def __iter__(self) -> Iterator[Lesson]:
        config = self.config
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        for step in range(self.start, config.steps):
            rng = np.random.default_rng((config.seed, step))
            chosen = rng.choice(len(self.weights), config.batch_size, replace=False, p=self.weights)
            size = config.sizes[step >= config.decay_start]
            yield self.lessons.draw(chosen[rank::world], size, np.random.default_rng((config.seed, step, rank)))


def held_out(lessons: Lessons, config: Distillation) -> list[Lesson]:
    """Batches of the captioned pictures kept for validation, as they are."""
    kept = np.arange(0, len(lessons.captions), config.held_out)
    rng = np.random.default_rng(config.seed)
    parts = np.array_split(kept, max(1, len(kept) // 64))
    return [lessons.whole(part, config.sizes[-1], rng) for part in parts]


class Distiller(lightning.LightningModule):
    """Regression onto the standardised features of the teacher: smooth L1 plus cosine, for class token and patches.

    To that comes the Kullback-Leibler divergence of what the decoder says on the student's features from what it says
    on the teacher's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: Distillation, decoder: CaptioningModel, features: Tensor) -> None:
        """`features` of the teacher, `[N, 1 + G², D]`, give the scale that is regressed on."""
        super().__init__()
        self.config = config
        self.student = CompactEncoder(features=features.shape[2])
        self.student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._decoder = [decoder.eval().requires_grad_(False)]  # in a list: not part of the checkpoints
        kinds = features[:, 0].float(), features[:, 1:].flatten(0, 1).float()
        self.register_buffer("mean", torch.stack([values.mean(0) for values in kinds]))
        self.register_buffer("std", torch.stack([values.std(0) for values in kinds]))

    def on_fit_start(self) -> None:
        self._decoder[0].to(self.device)

    def compare(self, batch: Lesson, read: bool) -> dict[str, Tensor]:
        """The loss and its parts; the decoder's part only where it reads."""
        predicted = self.student(batch.pictures.contiguous(memory_format=torch.channels_last)).float()
        known = batch.features.float()
        kind = torch.ones(predicted.shape[1], dtype=torch.int64)
        kind[0] = 0
        mean, std = self.mean[kind], self.std[kind]
        targets = (pooled(known, math.isqrt(predicted.shape[1])) - mean) / std
        cosine = functional.cosine_similarity(predicted, targets, dim=2)
        distance = functional.smooth_l1_loss(predicted, targets, reduction="none").mean(2)
        each = distance + 0.5 * (1 - cosine)
        found = {"class": cosine[:, 0].mean(), "patch": cosine[:, 1:].mean()}
        loss = each[:, 0].mean() + each[:, 1:].mean()
        if read:
            found["words"] = self.read(full_length(predicted) * std + mean, known, batch.tokens)
            loss = loss + self.config.words * found["words"]
        return {"loss": loss} | found

    def read(self, predicted: Tensor, known: Tensor, tokens: Tensor) -> Tensor:
        """How far the decoder's next words on the predicted features are from those on the known ones, a token."""
        decoder = self._decoder[0]
        captioned = (tokens != Tokenizer.pad).any(1)
        if not captioned.any():
            return predicted.new_zeros(())
        tokens = tokens[captioned][:, None]
        real = tokens[:, :, 1:] != Tokenizer.pad
        grid = math.isqrt(decoder.config.positions)

        def say(features: Tensor) -> Tensor:
            frames = pooled(features[captioned], grid)[:, None]
            outputs = decoder(frames, frames.new_ones(frames.shape[:2], dtype=torch.bool), tokens[:, :, :-1])
            return decoder.logits(outputs[real]).float().log_softmax(1)

        with torch.no_grad():
            wanted = say(known)
        return functional.kl_div(say(predicted), wanted, reduction="batchmean", log_target=True)

    def training_step(self, batch: Lesson, index: int) -> Tensor:
        found = self.compare(batch, self.global_step >= self.config.decay_start)
        self.log_dict(found, batch_size=len(batch.tokens))
        return found["loss"]

    def validation_step(self, batch: Lesson, index: int) -> None:
        found = {f"val_{name}": value for name, value in self.compare(batch, True).items()}
        self.log_dict(found, batch_size=len(batch.tokens))

    def configure_optimizers(self) -> Any:
        config = self.config
        hidden: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.student.named_parameters():
            (hidden if parameter.ndim > 1 and not name.startswith(EDGES) else others).append(parameter)
        optimizer = Muon(hidden, others, config.learning_rate, config.others_learning_rate, config.weight_decay)

        def rate(step: int) -> float:
            falling = config.steps * config.decay
            return min((step + 1) / config.warmup, 1.0, max(0.0, (config.steps - step) / falling))

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, rate), "interval": "step"}}


class Report(Callback):
    """A line on stdout for each validation, since a log of hours is read as it grows."""

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if not trainer.is_global_zero:
            return
        measured = ", ".join(f"{name} {value.item():.4f}" for name, value in trainer.callback_metrics.items())
        print(f"step {trainer.global_step}/{trainer.max_steps}: {measured}", flush=True)


def distil(
    pictures: Path,
    features: Path,
    captions: Sequence[Sequence[str]],
    weights: np.ndarray,
    decoder: Path,
    out: Path,
    config: Distillation = Distillation(),
    initial: Path | None = None,
) -> Path:
    """Train, or resume what `out/last.ckpt` holds; returns the last checkpoint. Without a GPU, a process a core.

    Args:
        pictures: what `distillation_data.prepare` wrote.
        features: what `distillation_data.teach` wrote about them, for `config.crops` crops.
        captions: of the first of the pictures.
        weights: how often each picture is drawn, in proportion.
        decoder: checkpoint of a captioner that was trained on the teacher's features, class token and patches.
        initial: folder of a student to go on from, as `save_student` writes it; else the weights are random.
    """
    lightning.seed_everything(config.seed)
    reader, description = checkpoint.load(decoder)
    tokenizer = Tokenizer(description.tokenizer)
    most = reader.config.max_tokens - 2
    tokens = [[[BOS, *tokenizer.encode(text)[:most], EOS] for text in texts] for texts in captions]
    pixels = load(pictures)
    lessons = Lessons(pixels, load_features(features, len(pixels), config.crops), tokens)
    kept = held_out(lessons, config)
    module = Distiller(config, reader, torch.cat([lesson.features for lesson in kept]))
    if initial is not None:
        module.student.load_state_dict(CompactModel.from_pretrained(initial).encoder.state_dict())
    last = out / "last.ckpt"
    start = torch.load(last, weights_only=False)["global_step"] if last.exists() else 0
    processes = 1 if torch.cuda.is_available() else min(os.cpu_count() or 1, -(-config.batch_size // SMALLEST_SHARE))
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=processes,
        strategy=DDPStrategy(start_method="fork", gradient_as_bucket_view=True) if processes > 1 else "auto",
        use_distributed_sampler=False,
        precision="bf16-mixed",
        max_steps=config.steps,
        val_check_interval=config.interval,
        check_val_every_n_epoch=None,
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            EMAWeightAveraging(decay=config.ema, update_starting_at_step=config.warmup),
            ModelCheckpoint(out, "last", every_n_train_steps=config.interval, enable_version_counter=False),
            Report(),
        ],
    )
    trainer.fit(
        module,
        DataLoader(Batches(lessons, weights, config, start), batch_size=None),
        DataLoader(kept, batch_size=None),  # type: ignore[arg-type]
        ckpt_path=last if last.exists() else None,
        weights_only=False,
    )
    return last


def save_student(path: Path, out: Path, size: int) -> None:
    """Write the averaged weights of a checkpoint of `distil` as a Hugging Face model folder that `Backbone` loads."""
    saved = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    model = CompactModel(CompactConfig(hidden_size=saved["mean"].shape[1]))
    weights = {name.replace("student.", "encoder.", 1): value for name, value in saved.items()}
    model.load_state_dict(weights)
    save_model(model, out, size)


def save_model(model: CompactModel, out: Path, size: int) -> None:
    """Write a compact encoder for pictures of `size` pixels as a Hugging Face model folder."""
    part = out.with_name(f"{out.name}.part")
    model.save_pretrained(part)
    settings = {
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 2,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (part / "preprocessor_config.json").write_text(json.dumps(settings, indent=2))
    shutil.rmtree(out, ignore_errors=True)
    part.replace(out)
