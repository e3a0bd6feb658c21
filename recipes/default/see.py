"""The encoder learns to see what people speak of: EfficientNet-Lite, fine-tuned together with a decoder.

Three losses on random views of pictures and of frames of clips: the words of captions through the decoder; concepts,
which are words of captions and ImageNet's classes as the encoder itself saw them before; and the features of ViT-tiny.
Some views are degraded as bad video is: small, compressed, between black bars.

The filters of single channels and the first blocks stay as ImageNet made them: they are a hundredth of the weights, and
two thirds of the time of a step.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset

from recipes.default.prepare import GRID, layout, load_pixels, normalised
from video_captioning.data import views
from video_captioning.data.dataset import mirrored_places
from video_captioning.evaluation.tags import average_precision
from video_captioning.models import checkpoint
from video_captioning.models.advanced import NAME_TOKENS, Advanced, AdvancedConfig
from video_captioning.models.backbone import Backbone
from video_captioning.models.efficientnet_lite import pretrained
from video_captioning.models.lite_encoder import LiteEncoder, LiteEncoderConfig
from video_captioning.tokenizer import BOS, EOS, Tokenizer
from video_captioning.training.fit import moving_average

WEIGHTS = {"flickr8k": 1.2, "coco": 1.2, "web": 0.8, "unlabelled": 1.0, "clips": 0.7}
"""How often a picture, or a frame of a clip, is drawn, in proportion."""
LONGEST = 28
"""Tokens of a caption that is read along, at most."""


@dataclass(frozen=True)
class Seeing:
    """How the encoder learns. Steps, not epochs: pictures are drawn at random."""

    variant: str = "efficientnet-lite2"
    width: int = 384
    """Of the features."""
    frozen: int = 7
    """Blocks that stay as they are."""
    periods: tuple[int, ...] = (1250, 2350)
    """Steps. In each the learning rate rises and falls (Loshchilov & Hutter 2017), and the pictures grow."""
    batch_size: int = 48
    captions: int = 2
    """Of each picture."""
    sizes: tuple[int, int] = (176, 224)
    """Sides of the pictures: at first, and from `grow` of a period on."""
    grow: float = 0.65
    learning_rate: float = 1e-3
    """Of what is new."""
    trunk_rate: float = 4e-4
    weight_decay: float = 0.02
    warmup: int = 120
    concepts: float = 0.2
    """Weights of the losses beside that of the decoder's words: the concepts'."""
    teacher: float = 1.0
    whole: float = 0.5
    """Share of the views that show the whole picture; ViT-tiny saw no other."""
    smallest: float = 0.4
    """Area of other views, at least, as a share of the picture's."""
    worse: float = 0.4
    """Share of the views that are made worse."""
    ema: float = 0.998
    interval: int = 250
    seed: int = 0

    @property
    def steps(self) -> int:
        return sum(self.periods)

    def period(self, step: int) -> tuple[int, int]:
        """Steps since the present period began, and its length."""
        for length in self.periods:
            if step < length:
                return step, length
            step -= length
        return self.periods[-1], self.periods[-1]


class Lesson(NamedTuple):
    """Views of pictures and what is to be learned of them."""

    pictures: Tensor
    """float32 `[N, 3, S, S]` in [-1, 1]"""
    tokens: Tensor
    """int64 `[N, C, L]`"""
    concepts: Tensor
    """float32 `[N, concepts]`: 0 to 1"""
    teacher: Tensor
    """float32 `[N, 1 + GRID², D]`"""
    whole: Tensor
    """bool `[N]`: whether the view shows what the ViT saw"""


class Lessons(IterableDataset[Lesson]):
    """Random batches; what step n draws depends on the seed and n alone, so a resumed run sees the same."""

    def __init__(self, data: Path, folder: Path, config: Seeing, start: int = 0) -> None:
        self.config, self.start = config, start
        training, held = layout(data)
        self.sources = [*training, *held]
        self.pixels, self.owners = load_pixels(folder), np.load(folder / "owners.npy")
        self.words, self.classes = np.load(folder / "words.npy"), np.load(folder / "classes.npy")
        self.teacher = np.load(folder / "teacher.npy", mmap_mode="r")
        self.found = json.loads((folder / "concepts.json").read_text())
        self.tokenizer = Tokenizer.load(folder / "tokenizer.model")
        self.captions = [
            [[BOS, *self.tokenizer.encode(text)[: LONGEST - 2], EOS] for text in source.captions] for source in training
        ]
        drawn = np.array([WEIGHTS[self.sources[owner].kind] for owner in self.owners])
        self.weights = np.where(self.owners < len(training), drawn, 0.0)
        self.weights /= self.weights.sum()
        self.held = np.flatnonzero(self.owners >= len(training))
        self.columns = [(column, entry["classes"]) for column, entry in enumerate(self.found) if entry["classes"]]

    def __iter__(self) -> Iterator[Lesson]:
        config = self.config
        for step in range(self.start, config.steps):
            rng = np.random.default_rng((config.seed, step))
            chosen = rng.choice(len(self.weights), config.batch_size, replace=False, p=self.weights)
            done, length = config.period(step)
            yield self.draw(chosen, config.sizes[done >= config.grow * length], rng)

    def draw(self, chosen: np.ndarray, size: int, rng: np.random.Generator) -> Lesson:
        """Views of frames."""
        config = self.config
        whole = rng.random(len(chosen)) < config.whole
        parts = torch.cat([self.view(self.pixels[i], full, size, rng) for i, full in zip(chosen, whole, strict=True)])
        pictures = views.recolour(parts, rng)
        teacher = torch.from_numpy(self.teacher[chosen]).float()
        flipped = torch.from_numpy(rng.random(len(chosen)) < 0.5)
        pictures[flipped] = pictures[flipped].flip(3)
        teacher[flipped] = teacher[flipped][:, mirrored_places(GRID)]
        tokens = self.tokens([self.captions[self.owners[i]] for i in chosen], rng)
        return Lesson(pictures, tokens, self.targets(chosen), teacher, torch.from_numpy(whole))

    def view(self, pixels: np.ndarray, whole: bool, size: int, rng: np.random.Generator) -> Tensor:
        """A view of one picture, uint8 `[1, 3, size, size]`."""
        if whole:
            part = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
        else:
            part = views.crop(pixels[None], self.config.smallest, rng)
        if rng.random() < self.config.worse:
            part = worsened(part, rng)
        return part if part.shape[3] == size else views.shrink(part, size)

    def tokens(self, captions: list[list[list[int]]], rng: np.random.Generator) -> Tensor:
        count = self.config.captions
        drawn = [[texts[i] for i in rng.permutation(len(texts))[:count]] for texts in captions]
        tokens = torch.full((len(drawn), count, max(len(text) for texts in drawn for text in texts)), Tokenizer.pad)
        for row, texts in enumerate(drawn):
            for column, text in enumerate(texts):
                tokens[row, column, : len(text)] = torch.tensor(text)
        return tokens

    def targets(self, chosen: np.ndarray) -> Tensor:
        """Share of the captions that name each concept, or what the classifier thinks of it if that is more."""
        made = self.words[self.owners[chosen]].astype(np.float32)
        for column, classes in self.columns:
            made[:, column] = np.maximum(made[:, column], self.classes[chosen][:, classes].sum(1))
        return torch.from_numpy(made)


def worsened(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """A picture as bad video has it: small, compressed, or between black bars; uint8 `[1, 3, S, S]`."""
    side = picture.shape[3]
    kind = rng.random(3)
    if kind[0] < 0.5:
        small = int(rng.integers(side // 4, side * 3 // 4))
        picture = views.shrink(views.shrink(picture, small), side)
    if kind[1] < 0.5:
        file = io.BytesIO()
        quality = int(rng.integers(8, 45))
        Image.fromarray(picture[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        picture = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None]
    if kind[2] < 0.25:
        inner = int(rng.integers(side * 6 // 10, side * 9 // 10))
        shape = (inner, side) if rng.random() < 0.6 else (side, inner)
        barred = torch.zeros_like(picture)
        top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
        barred[:, :, top : top + shape[0], left : left + shape[1]] = functional.interpolate(
            picture, shape, mode="bilinear", antialias=True
        )
        picture = barred
    return picture


class Seer(lightning.LightningModule):
    """Encoder, concepts and decoder under training."""

    def __init__(self, config: Seeing, lessons: Lessons) -> None:
        super().__init__()
        self.config = config
        self.lessons = [lessons]  # in a list: not saved
        self.found: list[Tensor] = []
        self.encoder = LiteEncoder(LiteEncoderConfig(config.variant, config.width))
        self.encoder.trunk.load_state_dict(pretrained(config.variant).state_dict(), strict=False)
        freeze(self.encoder, config.frozen)
        count = len(lessons.found)
        self.decoder = Advanced(
            AdvancedConfig(config.width, 1 + GRID**2, len(lessons.tokenizer), max_tokens=40, concepts=count)
        )
        self.decoder.concepts.names.copy_(name_tokens([entry["name"] for entry in lessons.found], lessons.tokenizer))
        prior = torch.from_numpy(lessons.words.astype(np.float32).mean(0) + 1e-4)
        head = self.decoder.concepts.head.requires_grad_(True)
        nn.init.zeros_(head.weight)
        head.bias.data = torch.log(prior / (1 - prior))
        teacher = lessons.teacher.shape[2]
        self.class_like, self.patch_like = nn.Linear(config.width, teacher), nn.Linear(config.width, teacher)
        self.encoder.to(memory_format=torch.channels_last)

    def features(self, pictures: Tensor) -> Tensor:
        """`[N, 1 + GRID², width]`"""
        trunk = self.encoder.trunk
        x = pictures.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            x = functional.relu6(trunk._bn0(trunk._conv_stem(x)))
            for block in trunk._blocks[: self.config.frozen]:
                x = block(x)
        for block in trunk._blocks[self.config.frozen :]:
            x = block(x)
        x = functional.relu6(trunk._bn1(trunk._conv_head(x)))
        token = self.encoder.class_head(x.mean((2, 3)))
        patches = self.encoder.patch_head(functional.adaptive_avg_pool2d(x, GRID).flatten(2).transpose(1, 2))
        return torch.cat([token[:, None], patches], 1).float()

    def on_train_batch_start(self, lesson: Lesson, index: int) -> None:
        """What dropout hides depends on the step, not on where a run began."""
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, self.global_step]).generate_state(1)[0]))

    def training_step(self, lesson: Lesson, index: int) -> Tensor:
        self.encoder.trunk.eval()  # batch normalisation keeps ImageNet's statistics
        features = self.features(lesson.pictures)
        kept = torch.rand(features.shape[:2]) >= 0.1
        frames, mask = (features * kept[..., None])[:, None], torch.ones(len(features), 1, dtype=torch.bool)
        outputs = self.decoder(frames, mask, lesson.tokens[:, :, :-1])
        targets = lesson.tokens[:, :, 1:]
        real = targets != Tokenizer.pad
        words = functional.cross_entropy(self.decoder.logits(outputs[real]).float(), targets[real], label_smoothing=0.1)
        logits = self.decoder.concepts(features[:, 0]).float()
        concepts = functional.binary_cross_entropy_with_logits(logits, lesson.concepts, reduction="sum") / len(logits)
        teacher = self.likeness(features[lesson.whole], lesson.teacher[lesson.whole])
        self.log_dict({"words": words, "concepts": concepts, "teacher": teacher}, batch_size=len(features))
        loss: Tensor = words + self.config.concepts * concepts + self.config.teacher * teacher
        return loss

    def likeness(self, features: Tensor, teacher: Tensor) -> Tensor:
        """Distance of the ViT's features from a prediction of them: smooth L1 and cosine, class token and patches."""
        if not len(features):
            return features.sum()
        told = torch.cat([self.class_like(features[:, :1]), self.patch_like(features[:, 1:])], 1).float()
        distance = functional.smooth_l1_loss(told, teacher, reduction="none").mean(2)
        each = distance + 0.5 * (1 - functional.cosine_similarity(told, teacher, dim=2))
        return each[:, 0].mean() + each[:, 1:].mean()

    def validation_step(self, frames: Tensor, index: int) -> None:
        found = self.decoder.concepts(self.features(frames.permute(0, 3, 1, 2))[:, 0]).float()
        self.found = [*self.found, found] if index else [found]

    def on_validation_epoch_end(self) -> None:
        lessons, found = self.lessons[0], torch.cat(self.found)
        owners = lessons.owners[lessons.held]
        parts: dict[str, list[float]] = {}
        for owner in np.unique(owners):
            source = lessons.sources[owner]
            least = 0.4 if source.kind == "flickr8k" else 0.25
            wanted = lessons.words[owner] >= least
            if wanted.any():
                scores = found[torch.from_numpy(owners == owner)].mean(0).numpy()
                name = source.kind if source.kind == "flickr8k" else source.path.parent.name
                parts.setdefault(name, []).append(average_precision(scores, wanted))
        measured = {name: float(np.mean(values)) for name, values in parts.items()}
        self.log_dict(measured)
        shown = self.trainer.callback_metrics | measured
        print(
            f"step {self.global_step}/{self.config.steps}: "
            + ", ".join(f"{name} {float(value):.4f}" for name, value in shown.items()),
            flush=True,
        )

    def configure_optimizers(self) -> Any:
        config = self.config
        trunk = [p for p in self.encoder.trunk.parameters() if p.requires_grad]
        known = set(map(id, self.encoder.trunk.parameters()))
        new = [p for p in self.parameters() if id(p) not in known]
        groups = [
            {"params": part, "lr": rate, "weight_decay": decay}
            for params, rate in ((trunk, config.trunk_rate), (new, config.learning_rate))
            for part, decay in (
                ([p for p in params if p.ndim > 1], config.weight_decay),
                ([p for p in params if p.ndim < 2], 0.0),
            )
        ]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))

        def rate(step: int) -> float:
            done, length = config.period(step)
            rising = min(1.0, (done + 1) / config.warmup)
            return rising * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done / length)))

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, rate), "interval": "step"}}


def freeze(encoder: LiteEncoder, blocks: int) -> None:
    """Keep the first blocks and every filter of single channels as they are."""
    trunk = encoder.trunk
    for module in (trunk._conv_stem, trunk._bn0, *trunk._blocks[:blocks]):
        module.requires_grad_(False)
    for block in trunk._blocks:
        block._depthwise_conv.requires_grad_(False)


def name_tokens(names: list[str], tokenizer: Tokenizer) -> Tensor:
    """The first tokens of each name, int64 `[C, NAME_TOKENS]`, then `pad`."""
    made = torch.full((len(names), NAME_TOKENS), Tokenizer.pad)
    for row, name in enumerate(names):
        tokens = tokenizer.encode(name)[:NAME_TOKENS]
        made[row, : len(tokens)] = torch.tensor(tokens)
    return made


def see(data: Path, folder: Path, out: Path, config: Seeing = Seeing()) -> Path:
    """Train, or go on from `out/last.ckpt`; returns that path."""
    lightning.seed_everything(config.seed, verbose=False)
    last = out / "last.ckpt"
    start = torch.load(last, map_location="cpu", weights_only=False)["global_step"] if last.exists() else 0
    lessons = Lessons(data, folder, config, start)
    module = Seer(config, lessons)
    held = [normalised(part).permute(0, 2, 3, 1) for part in np.array_split(lessons.pixels[lessons.held], 30)]
    trainer = lightning.Trainer(
        accelerator="auto",
        precision="bf16-mixed",
        max_steps=config.steps,
        val_check_interval=config.interval,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=2.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            moving_average(config.ema),
            *(
                ModelCheckpoint(out, "last", every_n_train_steps=steps, enable_version_counter=False)
                for steps in {config.interval, config.steps}  # of the end, too
            ),
        ],
    )
    trainer.fit(
        module,
        DataLoader(lessons, batch_size=None, num_workers=1, prefetch_factor=4),
        DataLoader(held, batch_size=None),  # type: ignore[arg-type]
        ckpt_path=last if last.exists() else None,
        weights_only=False,
    )
    return last


def save(last: Path, folder: Path, out: Path, config: Seeing = Seeing()) -> Path:
    """Write the encoder, in Hugging Face form, and the decoder's checkpoint; returns that of the decoder."""
    saved = torch.load(last, map_location="cpu", weights_only=False)["state_dict"]
    encoder = LiteEncoder(LiteEncoderConfig(config.variant, config.width))
    encoder.load_state_dict(part(saved, "encoder."))
    encoder.half().save_pretrained(out / "encoder")  # what is committed is what everything after this sees
    side = config.sizes[-1]
    settings = {
        "size": {"height": side, "width": side},
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": [127 / 255] * 3,
        "image_std": [128 / 255] * 3,
    }
    (out / "encoder" / "preprocessor_config.json").write_text(json.dumps(settings, indent=2))
    found = json.loads((folder / "concepts.json").read_text())
    tokenizer = Tokenizer.load(folder / "tokenizer.model")
    backbone: dict[str, Any] = {"name": str(out / "encoder"), "positions": "both", "grid": GRID}
    sizes = {"features": config.width, "positions": 1 + GRID**2, "vocabulary": len(tokenizer), "max_tokens": 40}
    description = checkpoint.Description(
        kind="advanced",
        model=sizes | {"concepts": len(found)},
        backbone=backbone | {"identity": Backbone(**backbone).identity},
        sampling={"fps": 2.0, "max_frames": 8},
        tokenizer=tokenizer.model,
        config=asdict(config),
        data=hashlib.sha256((folder / "words.npy").read_bytes()).hexdigest(),
        commit=checkpoint.current_commit(),
        concepts=[{"name": entry["name"], "phrase": entry["phrase"]} for entry in found],
    )
    weights = {"state_dict": {f"model.{name}": value for name, value in part(saved, "decoder.").items()}}
    checkpoint.describe(weights, description)
    torch.save(weights, out / "decoder.ckpt")
    return out / "decoder.ckpt"


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights of one part of a module."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
