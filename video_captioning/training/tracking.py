"""The logger of a run: every metric in `OUT/metrics.jsonl`, and from there in MLflow as far as it can be reached."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from video_captioning.training.mlflow_run import MlflowRun
from video_captioning.training.record import Record

OFTEN = 5.0
"""Seconds between two messages to MLflow."""
PATIENCE = 60.0
"""Seconds until MLflow is tried again after it failed: it answers within 5 s or not at all, and training waits."""


def tracker(options: Mapping[str, Any], out: Path, config: dict[str, Any], tags: Mapping[str, str | None]) -> Tracker:
    """The logger of the run in `out`.

    Args:
        options: the group `logging`: `name` (mlflow or none) and, for mlflow, `tracking_uri`, `experiment`, `run_name`.
        config: the whole configuration; its fields become MLflow's parameters.
        tags: what else to know the run by, such as commit and data fingerprint.

    Raises:
        ConfigError: `logging.tracking_uri` is no address of an MLflow server or database.
    """
    return Tracker(out, None if options["name"] == "none" else MlflowRun(options, out, config, tags))


class Tracker(Logger, Callback):
    """A logger that is a callback too, to learn at which step a resumed run goes on: give it to the trainer as both.

    An MLflow that cannot be reached is one warning; if it comes back, it gets all that it missed.

    Raises:
        OutputError: in training, where `OUT/metrics.jsonl` cannot be written.
    """

    def __init__(self, out: Path, remote: MlflowRun | None) -> None:
        super().__init__()
        self.out = out
        self.record = Record(out)
        self.remote = remote
        self.begun = False
        self.due = 0.0
        self.warned = False
        self.best: str | None = None

    @property
    def name(self) -> str:
        return self.out.name

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.out)

    @rank_zero_only
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.record.begin(trainer.global_step)
        self.begun = True

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """MLflow gets the configuration instead."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.record.add(metrics, step or 0)
        if time.monotonic() >= self.due:
            self.tell(lambda remote: remote.send(self.record.rows))

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        if checkpoint_callback.monitor is not None:
            self.best = str(checkpoint_callback.best_model_path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self.begun:  # a finished run that is started again is left alone
            self.tell(lambda remote: remote.finish(self.record.rows, status == "success", self.best))

    def tell(self, message: Callable[[MlflowRun], None]) -> None:
        if self.remote is None:
            return
        pause = OFTEN
        try:
            message(self.remote)
        except Exception as error:  # of MLflow, its database, its server or the network between: training goes on
            pause = PATIENCE
            if not self.warned:
                self.warned = True
                where = f"MLflow at {self.remote.uri} cannot be reached ({reason(error)})"
                warnings.warn(f"{where}; training goes on, and its metrics are in {self.record.path}", stacklevel=1)
        self.due = time.monotonic() + pause


def reason(error: BaseException) -> str:
    """What lies at the bottom of a chain of errors, in a few words."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    text = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    return text if len(text) <= 120 else f"{text[:119]}…"
