"""`vidcap train`: listing → features in the store → a trained checkpoint."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click
import lightning
import torch
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from video_captioning.data.dataset import CaptionDataset, CaptionSampler, collate
from video_captioning.data.features import extract
from video_captioning.data.items import Item, read_folder
from video_captioning.data.store import FeatureStore
from video_captioning.errors import CheckpointError, ConfigError, DataError, OutputError
from video_captioning.frames import Sampling
from video_captioning.models import checkpoint
from video_captioning.models.advanced import Advanced, AdvancedConfig
from video_captioning.models.backbone import Backbone
from video_captioning.tokenizer import Tokenizer
from video_captioning.training.module import CaptioningModule, Optimization

LEAST = {"seed": 0, "training.batch_size": 1, "training.captions_per_clip": 1, "training.max_epochs": 1}
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list of whole numbers"}


class Describe(Callback):
    """Puts the description into every checkpoint."""

    def __init__(self, description: checkpoint.Description) -> None:
        self.description = description

    def on_save_checkpoint(self, trainer: Any, module: Any, saved: dict[str, Any]) -> None:
        checkpoint.describe(saved, self.description)


class Report(Callback):
    """One line an epoch on stderr."""

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        if not trainer.sanity_checking:
            measured = ", ".join(f"{name} {value.item():.4f}" for name, value in trainer.callback_metrics.items())
            click.echo(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {measured}", err=True)


def moving_average(decay: float) -> WeightAveraging:
    """An exponential moving average of the weights that forgets faster at first, as TensorFlow's does."""

    def update(average: Tensor, current: Tensor, count: Tensor) -> Tensor:
        return torch.lerp(current, average, torch.clamp((1 + count) / (10 + count), max=decay))

    return WeightAveraging(avg_fn=update)


def configure(model: str, overrides: list[str]) -> DictConfig:
    """The resolved configuration of a run. Raises ConfigError naming the override that is wrong."""
    groups = [override for override in overrides if override.partition("=")[0] in ("dataset", "model", "training")]
    try:
        with initialize_config_module("video_captioning.configs", version_base="1.3"):
            known = leaves(plain(compose("train", [f"model={model}", *groups])))
            for override in overrides:
                if override not in groups:
                    check_name(override.partition("=")[0], known)
            config = compose("train", [f"model={model}", *overrides])
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split()).partition(" Config search path:")[0]
        raise ConfigError(
            f"{reason} (in: {' '.join([model, *overrides])}); see `vidcap train advanced --show`"
        ) from error
    for name, value in leaves(plain(config)).items():
        check_name(name, known)
        check_value(name, value, known[name])
    return config


def plain(config: DictConfig) -> dict[str, Any]:
    """Nested dictionaries; a field that must be given is "???"."""
    container: Any = OmegaConf.to_container(config)
    return dict(container)


def leaves(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """All fields by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= leaves(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


def check_name(name: str, known: dict[str, Any]) -> None:
    if not any(field == name or field.startswith(f"{name}.") for field in known):
        group = name.rpartition(".")[0]
        beside = [field for field in known if field.rpartition(".")[0] == group] or list(known)
        raise ConfigError(f"there is no field '{name}'; there are {', '.join(beside)}")


def check_value(name: str, value: Any, default: Any) -> None:
    kind = type(default)
    kinds = (int, float) if kind is float else (kind,)
    wrong = type(value) not in kinds or (kind is list and not all(type(one) is int for one in value))
    if default not in (None, "???") and wrong:
        raise ConfigError(f"{name} must be {KINDS[kind]}, not {value}")
    if name in LEAST and value < LEAST[name]:
        raise ConfigError(f"{name} must be at least {LEAST[name]}, not {value}")


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
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ConfigError(f"{missing[0]} is missing; give it as {missing[0]}=VALUE")
    lightning.seed_everything(config.seed, verbose=False)
    out = Path(config.out)
    optimization = Optimization(**{f.name: config.training[f.name] for f in fields(Optimization)})
    sampling = Sampling(**config.model.sampling)
    items, held = split(read_folder(str(config.dataset.train)), config.dataset.validation)
    backbone = Backbone(**config.model.backbone)
    tokenizer = obtain_tokenizer(out, items, config)
    network = model_config(config, backbone, tokenizer)

    def progress(items: list[Item]) -> Any:
        return track(items, "features", console=Console(stderr=True), disable=quiet())

    with FeatureStore(config.training.store) as store:
        found = extract([*items, *held], backbone, sampling, store, progress)
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
            model=asdict(network),
            backbone=plain(config.model.backbone) | {"identity": backbone.identity},
            sampling=asdict(sampling),
            tokenizer=tokenizer.model,
            config=plain(config),
            data=fingerprint(data),
            commit=checkpoint.current_commit(),
        )
        last = out / "last.ckpt"
        module = CaptioningModule(start(description, last, config.training.initial), optimization)
        sampler, held_sampler = (
            CaptionSampler(part, config.training.batch_size, config.training.captions_per_clip, mirror, config.seed)
            for part, mirror in ((data, config.training.mirror), (validation, False))
        )
        fit(
            module,
            DataLoader(data, batch_sampler=sampler, collate_fn=collate),
            DataLoader(validation, batch_sampler=list(held_sampler), collate_fn=collate),  # every epoch the same
            config.training,
            [Describe(description), Report()],
            last,
        )
        return last


def start(description: checkpoint.Description, last: Path, initial: str | None) -> Advanced:
    """A new model, or one with the weights of the checkpoint that the run goes on from."""
    network = Advanced(AdvancedConfig(**description.model))
    source = last if last.exists() else initial
    if source is not None:
        model, origin = checkpoint.load(source)
        weights = model.state_dict()
        if origin.tokenizer != description.tokenizer:
            if source == last:
                raise CheckpointError(source, "has another vocabulary than this run", "give another `out`")
            transfer_vocabulary(weights, Tokenizer(origin.tokenizer), Tokenizer(description.tokenizer))
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            problem = "is of a model with other `model` fields or another backbone"
            raise CheckpointError(source, problem, "give the same ones, or another `out`") from error
    return network


def transfer_vocabulary(weights: dict[str, Tensor], old: Tokenizer, new: Tokenizer) -> None:
    """Each new piece starts as the mean of the old pieces that spell it (Gee et al. 2022)."""
    spelling = [old.spell(new.piece(token)) for token in range(len(new))]
    for name in ("embedding.weight", "bias"):
        weights[name] = torch.stack([weights[name][pieces].mean(0) for pieces in spelling])


def fit(
    module: CaptioningModule,
    training: DataLoader[Any],
    validation: DataLoader[Any],
    options: DictConfig,
    callbacks: list[Callback],
    last: Path,
) -> None:
    """Train, or go on from the checkpoint `last` if it is there."""
    best = ModelCheckpoint(last.parent, "best", monitor="val_loss", save_last=True, enable_version_counter=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it advertises
    try:
        trainer = lightning.Trainer(
            accelerator="auto",
            max_epochs=options.max_epochs,
            precision=options.precision,
            gradient_clip_val=options.gradient_clip,
            logger=False,
            enable_progress_bar=not quiet(),
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[*callbacks, moving_average(module.optimization.ema), best],
        )
    except ValueError as error:
        raise ConfigError(f"training.precision: {error}") from error
    # Lightning draws its progress bar on stdout, which is for results, and warns of what nobody here can change.
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        try:
            trainer.fit(module, training, validation, ckpt_path=last if last.exists() else None, weights_only=False)
        except MisconfigurationException as error:  # fewer epochs than have been done
            raise ConfigError(f"{last}: {error}") from error


def obtain_tokenizer(out: Path, items: list[Item], config: DictConfig) -> Tokenizer:
    """The run's own tokenizer: read back on resuming, else the initial model's or learnt from the captions."""
    path = out / "tokenizer.model"
    if path.exists():
        return Tokenizer.load(path)
    if config.training.initial is not None:
        tokenizer = Tokenizer(checkpoint.load(config.training.initial)[1].tokenizer)
    else:
        captions = (caption for item in items for caption in item.captions)
        tokenizer = Tokenizer.train(captions, config.model.vocabulary, config.model.tokenizer)
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(tokenizer.model)
        part.replace(path)
    except OSError as error:
        raise OutputError(path, f"cannot be written ({error.strerror})", "make room or give another `out`") from error
    return tokenizer


def quiet() -> bool:
    return not os.isatty(2)


torch.set_float32_matmul_precision("high")
