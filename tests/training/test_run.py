"""Training from a listing to a checkpoint that goes on, describes itself and says what it learnt."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from tests import tiny
from tests.training.conftest import CAPTIONS, SIZES, Run, listing, settings
from video_captioning import bundle
from video_captioning.captioner import Caption, Captioner, sentence
from video_captioning.data.dataset import Batch
from video_captioning.decoding import Decoding
from video_captioning.errors import CheckpointError, ConfigError, DataError, OutputError
from video_captioning.export.onnx import export
from video_captioning.models import checkpoint
from video_captioning.models.backbone import Backbone
from video_captioning.tokenizer import Tokenizer
from video_captioning.training import run as room
from video_captioning.training.configure import configure
from video_captioning.training.module import CaptioningModule

SHOWN = ("loss", "val_loss", "val_bleu4", "val_rouge_l", "val_cider", "val_meteor")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load(path)[0].state_dict())


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIZES)
def test_from_a_listing_to_captions(run: Run, media: dict[Path, str], tmp_path: Path, kind: str) -> None:
    last = run("training.max_epochs=10", "training.ema=0.9", weight=20, kind=kind)
    export(last, tmp_path / "bundle", name="mine")
    captioner = Captioner(tmp_path / "bundle", threads=1)
    for decoding in (Decoding(beam=1), Decoding(beam=3)):
        said = captioner.captions(media, decoding=decoding)
        texts = [caption.text for caption in said if isinstance(caption, Caption)]
        assert texts == [sentence(caption) for caption in media.values()]
    read = bundle.read(tmp_path / "bundle")
    assert read.made_by["config"]["training"]["max_epochs"] == 10
    assert read.made_by["data"] == checkpoint.load(last)[1].data


def test_a_line_an_epoch_on_stderr_and_nothing_on_stdout(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    last = run("training.max_epochs=2")
    said = capfd.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line and "model shards" not in line]
    number = r"\d+\.\d{4}"
    for epoch, line in enumerate(lines, 1):
        shown = ", ".join(f"{name} {number}" for name in SHOWN)
        assert re.fullmatch(rf"epoch {epoch}/2: {shown}", line)
    assert len(lines) == 2
    assert {path.name for path in last.parent.iterdir()} == {
        *("best.ckpt", "last.ckpt", "metrics.jsonl", "plots", "samples.html", "tokenizer.model")
    }


def test_a_checkpoint_describes_itself(run: Run) -> None:
    last = run("training.warmup=0.5")
    model, description = checkpoint.load(last)
    backbone = Backbone(str(tiny.backbone()), grid=2)
    assert description.kind == "advanced"
    assert description.backbone == {
        "name": str(tiny.backbone()), "revision": None, "positions": "both", "grid": 2, "layers": [],
        "precision": "float32", "identity": backbone.identity,
    }  # fmt: skip
    assert description.sampling == {"fps": 2.0, "max_frames": 8, "frames": None, "keyframes": False}
    assert description.config["training"]["warmup"] == 0.5
    assert description.config["out"] == str(last.parent)
    assert (description.model["width"], description.model["positions"], description.model["features"]) == (64, 5, 32)
    tokenizer = Tokenizer(description.tokenizer)
    assert description.model["vocabulary"] == len(tokenizer) <= 60
    assert tokenizer.decode(tokenizer.encode(CAPTIONS[0])) == CAPTIONS[0]
    assert description.commit is None or re.fullmatch("[0-9a-f]{40}", description.commit)
    assert not model.training


def test_the_fingerprint_is_of_the_data(run: Run, media: dict[Path, str]) -> None:
    first = checkpoint.load(run(out="first"))[1].data
    assert checkpoint.load(run("training.learning_rate=1e-4", out="second"))[1].data == first
    path, *rest = media
    changed = {path: "another caption", **{other: media[other] for other in rest}}
    other = listing(path.parent / "changed.jsonl", changed)
    assert checkpoint.load(run(f"dataset.train={other}", out="third"))[1].data != first


def test_a_run_goes_on_where_it_stopped(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    last = run("training.max_epochs=2")
    before = weights(last)
    capfd.readouterr()
    assert run("training.max_epochs=4") == last
    said = capfd.readouterr().err
    assert re.findall(r"epoch (\d/\d)", said) == ["3/4", "4/4"]
    assert any(not torch.equal(value, before[name]) for name, value in weights(last).items())
    assert torch.load(last, weights_only=True)["epoch"] == 3
    done = weights(last)
    run("training.max_epochs=4")
    assert "epoch" not in capfd.readouterr().err, "it is finished"
    assert all(torch.equal(value, done[name]) for name, value in weights(last).items())
    with pytest.raises(ConfigError, match=r"last\.ckpt: .*current_epoch=3, .*max_epochs=1"):
        run("training.max_epochs=1")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="terminals are of POSIX")
def test_killed_and_started_again_it_is_as_if_never_stopped(run: Run, media: dict[Path, str], tmp_path: Path) -> None:
    chance = ["model.dropout=0.1", "training.feature_dropout=0.2", "training.mirror=true", "training.views=2"]
    whole = run("training.max_epochs=6", *chance, out="whole", weight=3)
    overrides = [*settings(tmp_path, media, tmp_path / "store", "killed", weight=3), *chance]
    code = """
import sys, torch
from video_captioning.training.run import train
torch.set_num_threads(int(sys.argv[1]))
train("advanced", sys.argv[2:])
"""
    threads = str(torch.get_num_threads())  # sums depend on it
    command = [sys.executable, "-c", code, threads, *overrides, "training.max_epochs=6"]
    screen, terminal = os.openpty()
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while b"epoch 3/6" not in shown:
            shown += os.read(screen, 1 << 16)
        process.kill()
        said, _ = process.communicate()
    os.close(screen)
    assert process.returncode == -signal.SIGKILL
    assert re.search(rb"Epoch 1\b", shown), "a terminal shows progress"
    assert said == b"", "which is no result"
    assert torch.load(tmp_path / "killed" / "last.ckpt", weights_only=True)["epoch"] in (1, 2)
    resumed = run("training.max_epochs=6", *chance, out="killed", weight=3)
    assert same(resumed, whole)
    assert curves(resumed.parent) == curves(whole.parent)


def curves(out: Path) -> list[tuple[int, dict[str, float]]]:
    """All that was measured, by step."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(row.pop("step"), row) for row in rows if row.pop("time")]


class Recorder(CaptioningModule):
    """Remembers the tokens of every batch of an epoch, in training and in validation."""

    seen: ClassVar[dict[tuple[bool, int], list[list[Any]]]] = defaultdict(list)

    def loss(self, batch: Batch, features: torch.Tensor, smoothing: float) -> torch.Tensor:
        if not self.trainer.sanity_checking:
            self.seen[self.training, self.current_epoch].append(batch.tokens.tolist())
        return super().loss(batch, features, smoothing)


def test_every_epoch_draws_anew_and_validates_alike(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "seen", defaultdict(list))
    monkeypatch.setattr(room, "CaptioningModule", Recorder)
    run("training.max_epochs=3", "training.batch_size=3", weight=2)
    training, validation = ([Recorder.seen[kind, epoch] for epoch in range(3)] for kind in (True, False))
    assert training[0] != training[1] != training[2]
    assert all(sum(len(batch) for batch in epoch) == 16 for epoch in training)
    assert validation[0] == validation[1] == validation[2]
    assert sum(len(batch) for batch in validation[0]) == 8


def test_weights_are_averaged_from_the_first_step(run: Run) -> None:
    def distance(one: Path, other: Path) -> float:
        first, second = weights(one), weights(other)
        return float(sum((value - second[name]).norm() for name, value in first.items()))

    before = run("training.learning_rate=1e-12", out="before", weight=4)
    after = run("training.ema=0.0", out="after", weight=4)
    average = run("training.ema=0.99", out="average", weight=4)
    assert 0 < distance(average, after) < 0.3 * distance(before, after), "four steps are not lost in the average"


def test_a_run_may_start_from_another_checkpoint(run: Run) -> None:
    first = run(out="first")
    still = run(f"training.initial={first}", "training.learning_rate=1e-12", "model.vocabulary=35", out="still")
    before = weights(first)
    for name, value in weights(still).items():
        assert torch.allclose(value, before[name], atol=1e-6)
    assert checkpoint.load(still)[1].tokenizer == checkpoint.load(first)[1].tokenizer, "words keep their numbers"
    with pytest.raises(CheckpointError, match=r"last\.ckpt: is of a model with other `model` fields"):
        run(f"training.initial={first}", "model.width=32", out="other")
    with pytest.raises(CheckpointError, match=r"missing\.ckpt: no such checkpoint"):
        run(f"training.initial={first.parent}/missing.ckpt", out="none")


def test_a_run_that_was_another(run: Run) -> None:
    last = run()
    with pytest.raises(CheckpointError, match=r"last\.ckpt: is of a model with other `model` fields"):
        run("training.max_epochs=2", "model.width=32")
    (last.parent / "tokenizer.model").write_bytes(tiny.tokenizer().model)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: has another vocabulary than this run"):
        run("training.max_epochs=2")


def test_a_run_whose_checkpoint_is_cut_short(run: Run) -> None:
    last = run()
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"last\.ckpt: cannot be read, perhaps cut short"):
        run("training.max_epochs=2")


def test_media_that_cannot_be_read_are_left_out(run: Run, media: dict[Path, str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    rows = listing(tmp_path / "some.jsonl", {bad: "nothing", **media})
    with pytest.warns(UserWarning, match=r"left out: .*bad\.mp4: holds nothing that FFmpeg knows"):
        last = run(f"dataset.train={rows}")
    assert last.exists()
    rows = listing(tmp_path / "none.jsonl", {bad: "nothing"})
    with pytest.warns(UserWarning, match="left out"), pytest.raises(DataError, match=r"none\.jsonl: no item could be"):
        run(f"dataset.train={rows}", out="none")


def test_without_a_validation_listing_a_part_is_held_out(run: Run, media: dict[Path, str], tmp_path: Path) -> None:
    with_all = checkpoint.load(run())[1].data
    without = checkpoint.load(run("dataset.validation=null", out="held"))[1].data
    assert without != with_all
    path, *_ = media
    rows = listing(tmp_path / "one.jsonl", {path: "alone"})
    with pytest.raises(DataError, match=r"is the only item; give at least two, or dataset\.validation"):
        run(f"dataset.train={rows}", "dataset.validation=null", out="one")


def test_fewer_items_when_debugging(media: dict[Path, str], tmp_path: Path) -> None:
    def parts(*overrides: str) -> tuple[list[str], list[str]]:
        config = configure("advanced", [*settings(tmp_path, media, tmp_path / "store"), *overrides])
        learned, validated = room.split(config)
        return [item.id for item in learned], [item.id for item in validated]

    everything = [path.stem for path in media]
    assert parts() == (everything, everything)
    assert parts("debug.overfit=3") == (everything[:3], everything[:3])
    few, _ = room.split(configure("advanced", [*settings(tmp_path, media, tmp_path / "store"), "debug.overfit=3"]))
    assert {(item.weight, len(item.captions)) for item in few} == {(20.0, 1)}  # an epoch is more than one step
    assert parts("debug.share=0.5") == (everything[::2], everything[::2])
    assert parts("debug.share=0.01") == (everything[:1], everything[:1])
    assert parts("dataset.validation=null") == (everything[1:], everything[:1])
    for share in ("0", "1.5"):
        with pytest.raises(ConfigError, match=r"debug\.share must be above 0, at most 1, not"):
            parts(f"debug.share={share}")


def test_a_data_set_that_is_not_prepared(tmp_path: Path) -> None:
    for name in ("msrvtt", "msvd"):
        with pytest.raises(DataError, match=rf"train\.jsonl: is not there; run vidcap prepare {name} first"):
            room.train("baseline", [f"dataset={name}", f"dataset.train={tmp_path}/train.jsonl", f"out={tmp_path}/run"])


def test_places_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/run: cannot be used \(Not a directory\)"):
        run(out="file/run")
    with pytest.raises(DataError, match="no feature store"):
        run(f"training.store={tmp_path}/file/store")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.backbone.name=/no/such/model", "backbone '/no/such/model' cannot be loaded"),
        ("model.backbone.positions=some", r"backbone\.positions must be one of class, patches, both, not some"),
        ("model.heads=3", r"model\.heads must divide model\.width: 3 does not divide 64"),
        ("model.vocabulary=7", "no vocabulary of 7 pieces can be learnt"),
        ("training.precision=half", "Precision 'half' is invalid"),
    ],
)
def test_options_that_only_the_models_know(run: Run, monkeypatch: pytest.MonkeyPatch, override: str, says: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=says) as caught:
        run(override)
    assert "\n" not in str(caught.value)


def test_another_backbone_without_patches(run: Run) -> None:
    model, description = checkpoint.load(run("model.backbone.positions=class", "training.mirror=true"))
    assert description.model["positions"] == model.config.positions == 1


def test_seeds(run: Run) -> None:
    one, again, other = (run(f"seed={seed}", out=out) for seed, out in ((1, "one"), (1, "again"), (2, "other")))
    assert same(one, again)
    assert not same(one, other)
