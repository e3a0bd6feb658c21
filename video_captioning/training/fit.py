"""Lightning's trainer as every run uses it: averaged weights, checkpoints, early stopping, clear errors."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click
import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import SimpleProfiler
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from video_captioning.errors import ConfigError, OutputError
from video_captioning.models import checkpoint
from video_captioning.training.module import CaptioningModule
from video_captioning.training.progress import progress_bar


class Describe(Callback):
    """Puts the description into every checkpoint."""

    def __init__(self, description: checkpoint.Description) -> None:
        self.description = description

    def on_save_checkpoint(self, trainer: Any, module: Any, saved: dict[str, Any]) -> None:
        checkpoint.describe(saved, self.description)


class Report(Callback):
    """One line an epoch on stderr."""

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if not trainer.sanity_checking and trainer.is_global_zero:
            shown = {name: value for name, value in trainer.callback_metrics.items() if not name.startswith("lr")}
            measured = ", ".join(f"{name} {value.item():.4f}" for name, value in shown.items())
            click.echo(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {measured}", err=True)


LOG_EVERY = 10
"""Steps from one measured training loss to the next."""


def moving_average(decay: float) -> WeightAveraging:
    """An exponential moving average of the weights that forgets faster at first, as TensorFlow's does."""

    def update(average: Tensor, current: Tensor, count: Tensor) -> Tensor:
        return torch.lerp(current, average, torch.clamp((1 + count) / (10 + count), max=decay))

    return WeightAveraging(avg_fn=update)


def always(module: CaptioningModule, out: Path, options: DictConfig) -> list[Callback]:
    """Averaged weights, of which `last.ckpt` and `best.ckpt` (by validation CIDEr-D) are kept, and more if wanted."""
    kept: list[Callback] = [
        moving_average(module.optimization.ema),
        LearningRateMonitor("step"),
        *filter(None, [progress_bar()]),
        ModelCheckpoint(out, "best", monitor="val_cider", mode="max", enable_version_counter=False),
        ModelCheckpoint(out, "last", enable_version_counter=False),  # of every epoch, however good
    ]
    if options.keep_every:
        name = "epoch{epoch:03d}"
        kept.append(
            ModelCheckpoint(out, name, every_n_epochs=options.keep_every, save_top_k=-1, auto_insert_metric_name=False)
        )
    if options.patience:
        kept.append(EarlyStopping("val_cider", mode="max", patience=options.patience))
    return kept


def fit(
    module: CaptioningModule,
    training: DataLoader[Any],
    validation: DataLoader[Any],
    config: DictConfig,
    callbacks: Sequence[Callback],
    logger: Logger,
) -> Path:
    """Train, or go on from `last.ckpt` in `out` if it is there; returns that path."""
    out, options = Path(config.out), config.training
    last = out / "last.ckpt"
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it advertises
    try:
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=options.devices,
            strategy="ddp" if options.devices > 1 else "auto",
            max_epochs=options.max_epochs,
            precision=options.precision,
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=options.gradient_clip,
            logger=logger,
            enable_progress_bar=not quiet(),
            log_every_n_steps=LOG_EVERY,
            enable_model_summary=False,
            use_distributed_sampler=False,
            profiler=SimpleProfiler(out, "profile") if config.debug.profile else None,
            callbacks=[*callbacks, *always(module, out, options)],
        )
    except ValueError as error:
        raise ConfigError(f"training.precision: {error}") from error
    except MisconfigurationException as error:
        raise ConfigError(f"training.devices: {error}") from error
    # What Lightning prints on stdout, which is for results, is none; and it warns of what nobody here can change.
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        try:
            trainer.fit(module, training, validation, ckpt_path=last if last.exists() else None, weights_only=False)
        except MisconfigurationException as error:  # fewer epochs than have been done
            raise ConfigError(f"{last}: {error}") from error
        except OSError as error:
            problem = f"cannot be written ({error.strerror or error})"
            raise OutputError(out, problem, "make room and run again: it goes on from the last checkpoint") from error
    return last


def quiet() -> bool:
    return not os.isatty(2)
