"""A model of one weight under Lightning's own trainer: what is logged of it depends on the step and epoch alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from torch.utils.data import DataLoader

BATCHES = 4


class Watched(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.hypotheses: dict[str, str] = {}

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        loss = (self.weight * batch).square().mean()
        self.log("loss", loss)
        self.log("reward", 1 - loss.detach())
        return loss

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.log_dict({"val_loss": self.weight.square().mean(), "val_cider": 0.1 * (self.current_epoch + 1)})

    def on_validation_epoch_end(self) -> None:
        said = f"epoch {self.current_epoch + 1} <b>&"
        self.hypotheses = {f"item{number}": said for number in range(100)}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Stop(Callback):
    """Ends a run in the middle of an epoch."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at = epoch, batch

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            raise KeyError("stopped")


def fit(out: Path, *callbacks: Callback, epochs: int = 2, logger: Any = False) -> None:
    """Train, or go on from `last.ckpt` in `out`."""
    last = out / "last.ckpt"
    monitors = [LearningRateMonitor()] if logger else []
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        log_every_n_steps=1,
        logger=logger,
        enable_progress_bar=any("ProgressBar" in type(callback).__name__ for callback in callbacks),
        enable_model_summary=False,
        callbacks=[*callbacks, *monitors, ModelCheckpoint(out, "best", monitor="val_loss", save_last=True)],
    )
    batches = DataLoader(torch.arange(1.0, 1.0 + BATCHES))
    trainer.fit(Watched(), batches, batches, ckpt_path=last if last.exists() else None, weights_only=True)


@contextmanager
def heard() -> Iterator[list[str]]:
    """The warnings of our own code."""
    ours: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield ours
    ours += [str(one.message) for one in caught if "video_captioning" in one.filename]
