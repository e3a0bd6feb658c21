"""Distil a frozen teacher's patch map into the compact encoder (feature regression, as in Romero et al. 2015).

The same random crop, stretch and flip is applied to the picture and to the teacher's map, so that one pass of the
teacher serves every augmentation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from video_captioning.models.backbone import CompactConfig, CompactModel
from video_captioning.models.compact import CompactEncoder
from video_captioning.training.distillation_data import PICTURE_SIZE
from video_captioning.training.optimizer import scheduled_adamw

MAP = 14
WIDTH = 192


@dataclass(frozen=True)
class Distillation:
    """How the student learns. Steps, not epochs: pictures are drawn at random."""

    steps: int = 3200
    batch_size: int = 64
    learning_rate: float = 1.2e-3
    weight_decay: float = 0.05
    warmup: int = 300
    decay: float = 0.3
    """Share of the steps, at the end, over which the learning rate falls to zero."""
    sizes: tuple[int, ...] = (96, 128)
    """Sides of the pictures, pixels: the first until the decay starts, the last from then on."""
    smallest_crop: float = 0.55
    """Smallest side of a crop, as a share of the picture's."""
    ema: float = 0.999
    held_out: int = 50
    """Every n-th picture is kept for validation."""
    seed: int = 0


class Pictures:
    """The arrays that `distillation_data.prepare` wrote, whole in memory."""

    def __init__(self, folder: Path) -> None:
        self.pixels = np.fromfile(folder / "pictures.bin", np.uint8).reshape(-1, PICTURE_SIZE, PICTURE_SIZE, 3)
        self.teacher = np.fromfile(folder / "teacher.bin", np.float16).reshape(-1, 1 + MAP * MAP, WIDTH)

    def __len__(self) -> int:
        return len(self.pixels)


def random_views(count: int, smallest: float, rng: np.random.Generator) -> Tensor:
    """Affine matrices `[count, 2, 3]` of crops with stretched sides, half of them mirrored."""
    scale = rng.uniform(smallest, 1.0, count)
    stretch = np.exp(rng.uniform(-0.28, 0.28, count))
    sides = np.minimum(np.stack([scale * stretch, scale / stretch], 1), 1.0)
    centres = rng.uniform(-1, 1, (count, 2)) * (1 - sides)
    matrices = np.zeros((count, 2, 3), np.float32)
    matrices[:, 0, 0] = sides[:, 0] * rng.choice([-1, 1], count)
    matrices[:, 1, 1] = sides[:, 1]
    matrices[:, :, 2] = centres
    return torch.from_numpy(matrices)


def jitter_colours(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast and saturation of each picture, changed at random. Pictures in [0, 1]."""
    count = len(pictures)

    def factor(spread: float) -> Tensor:
        return torch.from_numpy(rng.uniform(1 - spread, 1 + spread, (count, 1, 1, 1)).astype(np.float32))

    grey = pictures.mean(1, keepdim=True)
    pictures = torch.lerp(grey, pictures, factor(0.4))
    mean = pictures.mean((1, 2, 3), keepdim=True)
    return (torch.lerp(mean, pictures, factor(0.4)) * factor(0.3)).clamp_(0, 1)


def view(pixels: Tensor, teacher: Tensor, matrices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """One view of pictures `[N, H, W, 3]` and of teacher maps `[N, 197, D]`: `[N, 3, S, S]`, `[N, 1+(S/16)², D]`."""
    count, grid = len(pixels), size // 16
    pictures = pixels.permute(0, 3, 1, 2).float().div_(255)
    where = functional.affine_grid(matrices, [count, 3, size, size], align_corners=False)
    pictures = functional.grid_sample(pictures, where, padding_mode="reflection", align_corners=False)
    patches = teacher[:, 1:].float().transpose(1, 2).reshape(count, -1, MAP, MAP)
    where = functional.affine_grid(matrices, [count, 1, 2 * grid, 2 * grid], align_corners=False)
    patches = functional.grid_sample(patches, where, padding_mode="border", align_corners=False)
    patches = functional.avg_pool2d(patches, 2).flatten(2).transpose(1, 2)
    return pictures, torch.cat([teacher[:, :1].float(), patches], 1)


class Batches(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless random batches; the draw of step n depends on the seed and n alone, so a resumed run sees the same."""

    def __init__(self, data: Pictures, config: Distillation, start: int = 0) -> None:
        self.data, self.config, self.start = data, config, start
        kept = np.arange(len(data))
        self.indices = kept[kept % config.held_out != 0]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        config = self.config
        for step in range(self.start, config.steps):
            rng = np.random.default_rng((config.seed, step))
            chosen = np.sort(rng.choice(self.indices, config.batch_size, replace=False))
            decaying = step >= config.steps * (1 - config.decay)
            pictures, targets = view(
                torch.from_numpy(self.data.pixels[chosen]),
                torch.from_numpy(self.data.teacher[chosen]),
                random_views(len(chosen), config.smallest_crop, rng),
                config.sizes[-1] if decaying else config.sizes[0],
            )
            yield jitter_colours(pictures, rng), targets


class Distiller(lightning.LightningModule):
    """Regression onto the standardised features of the teacher: smooth L1 plus cosine, for class token and patches."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Distillation, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.config = config
        self.student = CompactEncoder(features=WIDTH)
        self.student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def errors(self, pictures: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        predicted = self.student(pictures.sub(0.5).div(0.5).contiguous(memory_format=torch.channels_last))
        kind = torch.tensor([0] + [1] * (targets.shape[1] - 1))
        targets = (targets - self.mean[kind]) / self.std[kind]
        cosine = functional.cosine_similarity(predicted, targets, dim=2)
        distance = functional.smooth_l1_loss(predicted, targets, reduction="none").mean(2)
        loss = distance + 0.5 * (1 - cosine)
        return loss[:, 0].mean() + loss[:, 1:].mean(), cosine[:, 0].mean(), cosine[:, 1:].mean()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss, *_ = self.errors(*batch)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        loss, class_cosine, patch_cosine = self.errors(*batch)
        self.log_dict({"val_loss": loss, "val_class": class_cosine, "val_patch": patch_cosine}, prog_bar=True)

    def configure_optimizers(self) -> Any:
        config = self.config

        def rate(step: int) -> float:
            falling = config.steps * config.decay
            return min((step + 1) / config.warmup, 1.0, max(0.0, (config.steps - step) / falling))

        return scheduled_adamw(self.student, config.learning_rate, config.weight_decay, rate)


def statistics(data: Pictures) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the class token and of the patches, each `[2, D]`."""
    sample = torch.from_numpy(data.teacher[:: max(1, len(data) // 2000)]).float()
    class_token, patches = sample[:, 0], sample[:, 1:].flatten(0, 1)
    mean = torch.stack([class_token.mean(0), patches.mean(0)])
    return mean, torch.stack([class_token.std(0), patches.std(0)])


def validation_batches(data: Pictures, config: Distillation) -> list[tuple[Tensor, Tensor]]:
    held = np.arange(0, len(data), config.held_out)
    whole = torch.eye(2, 3)
    return [
        view(
            torch.from_numpy(data.pixels[part]),
            torch.from_numpy(data.teacher[part]),
            whole.expand(len(part), 2, 3),
            config.sizes[-1],
        )
        for part in np.array_split(held, max(1, len(held) // 64))
    ]


def distil(folder: Path, out: Path, config: Distillation) -> Path:
    """Train, or resume what `out/last.ckpt` holds; returns the last checkpoint."""
    lightning.seed_everything(config.seed)
    data = Pictures(folder)
    last = out / "last.ckpt"
    start = torch.load(last, weights_only=False)["global_step"] if last.exists() else 0
    trainer = lightning.Trainer(
        accelerator="auto",
        max_steps=config.steps,
        val_check_interval=400,
        check_val_every_n_epoch=None,
        gradient_clip_val=1.0,
        logger=False,
        callbacks=[
            EMAWeightAveraging(decay=config.ema, update_starting_at_step=config.warmup),
            ModelCheckpoint(out, "{step}", every_n_train_steps=200, save_last=True, save_top_k=2, monitor="val_loss"),
        ],
    )
    trainer.fit(
        Distiller(config, *statistics(data)),
        DataLoader(Batches(data, config, start), batch_size=None),
        DataLoader(validation_batches(data, config), batch_size=None),  # type: ignore[arg-type]
        ckpt_path=last if last.exists() else None,
    )
    assert math.isfinite(trainer.callback_metrics["loss"].item())
    return last


def save_student(checkpoint: Path, out: Path, size: int) -> None:
    """Write the averaged weights of a checkpoint as a Hugging Face model folder that `Backbone` loads."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    model = CompactModel(CompactConfig(hidden_size=WIDTH))
    weights = {name.replace("student.", "encoder.", 1): value for name, value in saved.items()}
    model.load_state_dict(weights)
    model.save_pretrained(out)
    settings = {
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 2,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (out / "preprocessor_config.json").write_text(json.dumps(settings, indent=2))
