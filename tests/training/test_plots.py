"""Curves of what a run measured."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.watched import Stop, fit, heard
from video_captioning.errors import MissingExtraError
from video_captioning.training import plots
from video_captioning.training.plots import Plots, curve, draw
from video_captioning.training.record import NAME, Record, read
from video_captioning.training.tracking import tracker


def start(out: Path, *callbacks: Stop, epochs: int = 2) -> list[str]:
    with heard() as said:
        logger = tracker({"name": "none"}, out, {}, {})
        fit(out, logger, Plots(out), *callbacks, epochs=epochs, logger=logger)
    return said


def drawn(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "plots").iterdir())


ALL = ["learning_rate.png", "loss.png", "reward.png", "scores.png"]


def test_a_run_leaves_curves(tmp_path: Path) -> None:
    assert start(tmp_path) == []
    assert drawn(tmp_path) == ALL
    for name in ALL:
        with Image.open(tmp_path / "plots" / name) as picture:
            assert (picture.format, picture.size) == ("PNG", (1200, 675))


def test_a_run_that_fails_leaves_them_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="stopped"):
        start(tmp_path, Stop(epoch=0, batch=1))
    assert drawn(tmp_path) == ["learning_rate.png", "loss.png", "reward.png"], "nothing was validated"


def test_while_it_goes_on_they_are_drawn_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(plots, "draw", lambda out: seen.append(len(read(out))))
    start(tmp_path / "seldom", epochs=3)
    assert len(seen) == 1
    seen.clear()
    monkeypatch.setattr(plots, "OFTEN", 0.0)
    start(tmp_path / "often", epochs=3)
    assert len(seen) == 4, "after each epoch and at the end"
    assert seen == sorted(seen)


def test_curves_are_by_step_or_by_epoch_and_have_gaps(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.begin(0)
    record.add({"loss": 2.0, "epoch": 0}, 0)
    record.add({"loss": float("nan"), "epoch": 0}, 1)
    record.add({"val_cider": 0.5, "epoch": 0}, 1)
    record.add({"val_cider": 0.7, "epoch": 1}, 3)
    rows = read(tmp_path)
    assert curve(rows, "val_cider", "epoch") == [(1, 0.5), (2, 0.7)]
    np.testing.assert_equal(curve(rows, "loss", "step"), [(0, 2.0), (1, float("nan"))])
    draw(tmp_path)
    assert drawn(tmp_path) == ["loss.png", "scores.png"]


def test_curves_follow_the_file(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.begin(0)
    pictures = []
    for step, loss in enumerate((1.0, 2.0, 5.0)):
        record.add({"loss": loss, "epoch": 0}, step)
        draw(tmp_path)
        pictures.append((tmp_path / "plots" / "loss.png").read_bytes())
    assert len(set(pictures)) == 3


def test_nothing_measured_nothing_drawn(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"step": 1, "lo')
    draw(tmp_path)
    assert not (tmp_path / "plots").exists()


def test_without_matplotlib_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib", "matplotlib.figure", "matplotlib.ticker"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(plots, "OFTEN", 0.0)
    [warning] = start(tmp_path, epochs=3)
    assert warning.startswith("no plots are drawn: ")
    assert warning.endswith("install it with: pip install 'vidcap[plots]'")
    assert max(row["epoch"] for row in read(tmp_path) if "epoch" in row) == 2
    with pytest.raises(MissingExtraError):
        draw(tmp_path)
