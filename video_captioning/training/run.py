"""`vidcap train`: listing → features in the store → a trained checkpoint."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click
import lightning
import torch
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.progress import track
from torch.utils.data import DataLoader

from video_captioning.data.dataset import CaptionDataset, CaptionSampler, collate
from video_captioning.data.features import extract
from video_captioning.data.items import Item, read_folder
from video_captioning.data.store import FeatureStore
from video_captioning.errors import ConfigError, DataError
from video_captioning.frames import Sampling
from video_captioning.models.advanced import Advanced, AdvancedConfig
from video_captioning.models.backbone import Backbone
from video_captioning.tokenizer import Tokenizer
from video_captioning.models import checkpoint
from video_captioning.training.module import CaptioningModule, Optimization


class Describe(Callback):
    """Puts the description into every checkpoint."""

    def __init__(self, description: checkpoint.Description) -> None:
        self.description = description

    def on_save_checkpoint(self, trainer: Any, module: Any, saved: dict[str, Any]) -> None:
        checkpoint.describe(saved, self.description)


class Report(Callback):
    """One line an epoch on stderr, where there is no progress bar to look at."""

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        if not trainer.sanity_checking:
            measured = {name: f"{value.item():.4f}" for name, value in sorted(trainer.callback_metrics.items())}
            click.echo(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {measured}", err=True)


def configure(model: str, overrides: list[str]) -> DictConfig:
    """The resolved configuration of a run. Raises ConfigError naming the override that is wrong."""
    try:
        with initialize_config_module("video_captioning.configs", version_base="1.3"):
            config = compose("train", [f"model={model}", *overrides])
        OmegaConf.resolve(config)
        missing = sorted(OmegaConf.missing_keys(config))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(str(error).split())}; see `vidcap train {model} --show`") from error
    if missing:
        raise ConfigError(f"{missing[0]} is missing; give it as {missing[0]}=VALUE")
    return config


def split(items: list[Item], validation: str | None) -> tuple[list[Item], list[Item]]:
    """Training and validation items; without a validation listing every twentieth item is held out."""
    if validation is not None:
        return items, read_folder(validation)
    if len(items) < 2:
        raise DataError(items[0].path, "is the only item", "give at least two, or dataset.validation=LISTING")
    held = set(range(0, len(items), 20))
    return [item for i, item in enumerate(items) if i not in held], [items[i] for i in sorted(held)]


def fingerprint(data: CaptionDataset) -> str:
    digest = hashlib.sha256()
    for key, item in sorted(zip(data.keys, data.items, strict=True), key=lambda pair: pair[0]):
        digest.update(key)
        digest.update("\n".join(item.captions).encode())
    return digest.hexdigest()


def model_config(config: DictConfig, backbone: Backbone, tokenizer: Tokenizer) -> AdvancedConfig:
    named = {f.name for f in fields(AdvancedConfig)} & set(config.model)
    chosen = {name: config.model[name] for name in named - {"vocabulary"}}
    return AdvancedConfig(features=backbone.width, positions=backbone.positions, vocabulary=len(tokenizer), **chosen)


def train(model: str, overrides: list[str]) -> Path:
    """Train, or resume the run found in `out`; returns its last checkpoint.

    Raises:
        ConfigError, DataError: before anything is computed, where that can be known.
    """
    config = configure(model, overrides)
    lightning.seed_everything(config.seed, verbose=False)
    out = Path(config.out)
    items, held = split(read_folder(config.dataset.train), config.dataset.validation)
    backbone = Backbone(**config.model.backbone)
    sampling = Sampling(**config.model.sampling)
    tokenizer = obtain_tokenizer(out, items, config.model.vocabulary)
    with FeatureStore(config.training.store) as store:
        found = extract([*items, *held], backbone, sampling, store, lambda all: track(all, "features", disable=quiet()))
        for error in found.errors:
            warnings.warn(f"left out: {error}", stacklevel=2)
        data, validation = (
            CaptionDataset(part, found.keys, store, tokenizer, config.model.max_tokens, backbone.grid)
            for part in (items, held)
        )
        if not len(data) or not len(validation):
            raise DataError(config.dataset.train, "no item could be decoded", "see the lines above")
        description = checkpoint.Description(
            kind=model,
            model=asdict(model_config(config, backbone, tokenizer)),
            backbone=OmegaConf.to_container(config.model.backbone) | {"identity": backbone.identity},
            sampling=asdict(sampling),
            tokenizer=tokenizer.model,
            config=OmegaConf.to_container(config),
            data=fingerprint(data),
            commit=checkpoint.current_commit(),
        )
        return fit(config, description, data, validation, out)


def fit(
    config: DictConfig, description: checkpoint.Description, data: CaptionDataset, validation: CaptionDataset, out: Path
) -> Path:
    options = config.training
    network = Advanced(AdvancedConfig(**description.model))
    if options.initial is not None:
        network.load_state_dict(checkpoint.load(options.initial)[0].state_dict())
    optimization = Optimization(**{f.name: options[f.name] for f in fields(Optimization)})
    last = out / "last.ckpt"
    trainer = lightning.Trainer(
        accelerator="auto",
        max_epochs=options.max_epochs,
        precision=options.precision,
        gradient_clip_val=options.gradient_clip,
        logger=False,
        enable_progress_bar=not quiet(),
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[
            Describe(description),
            Report(),
            EMAWeightAveraging(decay=options.ema, update_starting_at_step=20),
            ModelCheckpoint(out, "best", monitor="val_loss", save_last=True, enable_version_counter=False),
        ],
    )
    trainer.fit(
        CaptioningModule(network, optimization),
        loader(data, options, options.mirror, config.seed),
        loader(validation, options, False, config.seed),
        ckpt_path=last if last.exists() else None,
        weights_only=False,
    )
    return last


def loader(data: CaptionDataset, options: DictConfig, mirror: bool, seed: int) -> DataLoader[Any]:
    sampler = CaptionSampler(data, options.batch_size, options.captions_per_clip, mirror, seed)
    return DataLoader(data, batch_sampler=sampler, collate_fn=collate)


def obtain_tokenizer(out: Path, items: list[Item], size: int) -> Tokenizer:
    """The run's own tokenizer: read back on resuming, else learnt from the training captions."""
    path = out / "tokenizer.model"
    if path.exists():
        return Tokenizer.load(path)
    tokenizer = Tokenizer.train((caption for item in items for caption in item.captions), size)
    out.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(tokenizer.model)
    part.replace(path)
    return tokenizer


def quiet() -> bool:
    return not os.isatty(2)


torch.set_float32_matmul_precision("high")
