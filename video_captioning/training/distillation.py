"""Distil a frozen teacher's features into the compact encoder (feature regression, as in Romero et al. 2015).

The teacher, in processes of its own, sees the very view that the student sees, crop, mirror, colours and mixture
included, and the views never repeat (function matching, Beyer et al. 2022, "Knowledge distillation: A good teacher is
patient and consistent"). From some step on, a decoder that was trained on the teacher's features and is frozen as well
reads both: what changes its words counts most.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import AutoModel, PreTrainedModel

from video_captioning.models import checkpoint
from video_captioning.models.advanced import Advanced
from video_captioning.models.backbone import CompactConfig, CompactModel
from video_captioning.models.compact import CompactEncoder
from video_captioning.tokenizer import BOS, EOS, Tokenizer
from video_captioning.training import views
from video_captioning.training.distillation_data import load
from video_captioning.training.optimizer import scheduled_adamw
from video_captioning.training.views import Views

TEACHER_BATCH = 32  # what stays in the caches of a processor


@dataclass(frozen=True)
class Distillation:
    """How the student learns. Steps, not epochs: pictures are drawn at random."""

    steps: int = 5500
    batch_size: int = 64
    learning_rate: float = 1.2e-3
    weight_decay: float = 0.05
    warmup: int = 300
    decay: float = 0.35
    """Share of the steps, at the end, over which the learning rate falls to zero."""
    sizes: tuple[int, int] = (128, 160)
    """Sides of the student's pictures, pixels: the first until the decay starts, the second from then on."""
    smallest_crop: float = 0.4
    """Smallest area of a crop, as a share of the picture's."""
    words: float = 2.0
    """Weight of the decoder's words in the loss."""
    words_from: float = 0.5
    """Share of the steps after which the decoder reads along."""
    captions: int = 1
    """Captions a picture that it reads, a step."""
    mixed: float = 0.3
    """Share of the pictures that another one shines through (mixup, Zhang et al. 2018)."""
    ema: float = 0.999
    held_out: int = 50
    """Every n-th picture is kept for validation."""
    interval: int = 500
    """Steps from one validation and checkpoint to the next."""
    seed: int = 0


class Lesson(NamedTuple):
    """Views of pictures, what the teacher makes of them, and captions of some of them for the decoder to read."""

    pictures: Tensor
    """float32 `[N, 3, S, S]` in [-1, 1], as the student sees them"""
    features: Tensor
    """`[N, 1 + G², D]`: the teacher's"""
    tokens: Tensor
    """int64 `[N, C, L]`: `bos`, the caption, `eos`, then `pad`; a missing caption is all `pad`"""


class Lessons:
    """Pictures, the captions of the first of them as lists of tokens, and a teacher, a vision model."""

    def __init__(self, pixels: np.ndarray, captions: Sequence[Sequence[list[int]]], teacher: PreTrainedModel) -> None:
        self.pixels, self.captions, self.teacher = pixels, captions, teacher.eval()

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """The teacher's features of pictures `[N, 3, T, T]`: `[N, 1 + G², D]`."""
        parts = pictures.to(self.teacher.dtype).split(TEACHER_BATCH)
        return torch.cat([self.teacher(pixel_values=part).last_hidden_state for part in parts])

    def whole(self, chosen: np.ndarray, config: Distillation, rng: np.random.Generator) -> Lesson:
        """The chosen pictures as they are."""
        return self.lesson(views.whole(self.pixels[chosen], config.sizes[-1]), chosen, config.captions, rng)

    def draw(self, chosen: np.ndarray, size: int, config: Distillation, rng: np.random.Generator) -> Lesson:
        """Random views of the chosen pictures."""
        shown = views.draw(self.pixels[chosen], size, config.smallest_crop, config.mixed, rng)
        return self.lesson(shown, chosen, config.captions, rng)

    def lesson(self, shown: Views, chosen: np.ndarray, count: int, rng: np.random.Generator) -> Lesson:
        return Lesson(shown.student, self.features(shown.teacher), self.tokens(chosen, count, rng))

    def tokens(self, chosen: np.ndarray, count: int, rng: np.random.Generator) -> Tensor:
        """Up to `count` captions of each of the chosen pictures, at random."""
        drawn = [list(rng.permutation(len(self.captions[i]))[:count]) if i < len(self.captions) else [] for i in chosen]
        lists = [[self.captions[i][n] for n in numbers] for i, numbers in zip(chosen, drawn, strict=True)]
        longest = max((len(caption) for captions in lists for caption in captions), default=2)
        tokens = torch.full((len(chosen), count, longest), Tokenizer.pad)
        for row, captions in enumerate(lists):
            for column, caption in enumerate(captions):
                tokens[row, column, : len(caption)] = torch.tensor(caption)
        return tokens


class Batches(IterableDataset[Lesson]):
    """Random batches; the draw of step n depends on the seed and n alone, so a resumed run sees the same.

    A worker process makes every W-th batch, of W workers; the loader asks them in turn.
    """

    def __init__(self, lessons: Lessons, config: Distillation, start: int = 0) -> None:
        self.lessons, self.config, self.start = lessons, config, start
        kept = np.arange(len(lessons.pixels))
        self.indices = kept[kept % config.held_out != 0]

    def __iter__(self) -> Iterator[Lesson]:
        config = self.config
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self.start + first, config.steps, stride):
            rng = np.random.default_rng((config.seed, step))
            chosen = rng.choice(self.indices, config.batch_size, replace=False)
            size = config.sizes[step >= config.steps * (1 - config.decay)]
            yield self.lessons.draw(chosen, size, config, rng)


def held_out(lessons: Lessons, config: Distillation) -> list[Lesson]:
    """Batches of the pictures kept for validation, as they are."""
    kept = np.arange(0, len(lessons.pixels), config.held_out)
    rng = np.random.default_rng(config.seed)
    parts = np.array_split(kept, max(1, len(kept) // 64))
    return [lessons.whole(part, config, rng) for part in parts]


class Distiller(lightning.LightningModule):
    """Regression onto the standardised features of the teacher: smooth L1 plus cosine, for class token and patches.

    To that comes the Kullback-Leibler divergence of what the decoder says on the student's features from what it says
    on the teacher's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: Distillation, decoder: Advanced, features: Tensor) -> None:
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
            found["words"] = self.read(predicted * std + mean, known, batch.tokens)
            loss = loss + self.config.words * found["words"]
        return {"loss": loss} | found

    def read(self, predicted: Tensor, known: Tensor, tokens: Tensor) -> Tensor:
        """How far the decoder's next words on the predicted features are from those on the known ones, a token."""
        decoder = self._decoder[0]
        captioned = (tokens != Tokenizer.pad).any(2).any(1)
        if not captioned.any():
            return predicted.new_zeros(())
        tokens = tokens[captioned]
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
        found = self.compare(batch, self.global_step >= self.config.words_from * self.config.steps)
        self.log_dict(found, batch_size=len(batch.tokens))
        return found["loss"]

    def validation_step(self, batch: Lesson, index: int) -> None:
        found = {f"val_{name}": value for name, value in self.compare(batch, True).items()}
        self.log_dict(found, batch_size=len(batch.tokens))

    def configure_optimizers(self) -> Any:
        config = self.config

        def rate(step: int) -> float:
            falling = config.steps * config.decay
            return min((step + 1) / config.warmup, 1.0, max(0.0, (config.steps - step) / falling))

        return scheduled_adamw(self.student, config.learning_rate, config.weight_decay, rate)


def pooled(features: Tensor, grid: int) -> Tensor:
    """Features `[N, 1 + G², D]` with their patches averaged to `grid` squared."""
    patches = features[:, 1:].transpose(1, 2)
    side = math.isqrt(patches.shape[2])
    patches = functional.adaptive_avg_pool2d(patches.unflatten(2, (side, side)), grid)
    return torch.cat([features[:, :1], patches.flatten(2).transpose(1, 2)], 1)


class Report(Callback):
    """A line on stdout for each validation, since a log of hours is read as it grows."""

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        measured = ", ".join(f"{name} {value.item():.4f}" for name, value in trainer.callback_metrics.items())
        print(f"step {trainer.global_step}/{trainer.max_steps}: {measured}", flush=True)


def distil(
    pictures: Path,
    captions: Sequence[Sequence[str]],
    teacher: Path,
    decoder: Path,
    out: Path,
    config: Distillation = Distillation(),
) -> Path:
    """Train, or resume what `out/last.ckpt` holds; returns the last checkpoint.

    Args:
        pictures: what `distillation_data.prepare` wrote.
        captions: of the first of the pictures.
        teacher: folder of a vision model in Hugging Face form.
        decoder: checkpoint of a captioner that was trained on the teacher's features, class token and patches.
    """
    lightning.seed_everything(config.seed)
    reader, description = checkpoint.load(decoder)
    tokenizer = Tokenizer(description.tokenizer)
    most = reader.config.max_tokens - 2
    tokens = [[[BOS, *tokenizer.encode(text)[:most], EOS] for text in texts] for texts in captions]
    model = AutoModel.from_pretrained(teacher, dtype=torch.bfloat16, add_pooling_layer=False)
    lessons = Lessons(load(pictures), tokens, model)
    kept = held_out(lessons, config)
    module = Distiller(config, reader, torch.cat([lesson.features for lesson in kept]))
    last = out / "last.ckpt"
    start = torch.load(last, weights_only=False)["global_step"] if last.exists() else 0
    trainer = lightning.Trainer(
        accelerator="auto",
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
        DataLoader(Batches(lessons, config, start), batch_size=None, num_workers=max(1, (os.cpu_count() or 1) // 2)),
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
    part.replace(out)
