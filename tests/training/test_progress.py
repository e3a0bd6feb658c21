"""A bar on a terminal, on stderr; nothing anywhere else."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import click
import pytest
from lightning.pytorch.callbacks import Callback

from tests.training.watched import fit
from video_captioning.training.progress import progress_bar


class Report(Callback):
    def on_validation_end(self, trainer: Any, module: Any) -> None:
        click.echo(f"a line of epoch {trainer.current_epoch}", err=True)


def read(screen: int, shown: bytearray) -> None:
    try:
        while True:
            shown += os.read(screen, 1 << 16)
    except OSError:  # the terminal is closed
        os.close(screen)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="terminals are of POSIX")
def test_a_bar_on_stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen, terminal = os.openpty()
    shown = bytearray()
    reader = threading.Thread(target=read, args=(screen, shown))
    reader.start()
    capfd.readouterr()
    before = os.dup(2)
    os.dup2(terminal, 2)
    try:
        with open(terminal, "w") as file:  # noqa: PTH123 (it is no path)
            monkeypatch.setattr(sys, "stderr", file)
            bar = progress_bar()
            assert bar is not None
            fit(tmp_path, bar, Report())
    finally:
        os.dup2(before, 2)
        os.close(before)
        monkeypatch.undo()
    reader.join()
    text = shown.decode()
    assert capfd.readouterr().out == "", "stdout is for results"
    for part in ("Epoch 0/1", "Epoch 1/1", "━", "4/4", "a line of epoch 0", "a line of epoch 1"):
        assert part in text


def test_elsewhere_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda number: number != 2)
    assert progress_bar() is None
