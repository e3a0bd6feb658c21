"""The classic commands do what `vidcap` does, under the names that users know."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from tests import tiny
from tests.training.conftest import media, settings  # noqa: F401
from video_captioning import bundle
from video_captioning.commands import commands
from video_captioning.errors import CheckpointError, DataError
from video_captioning.models import checkpoint


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(commands, list(map(str, arguments)), catch_exceptions=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["baseline", "attention", "advanced"])
def test_train_and_inference(kind: str, media: dict[Path, str], tmp_path: Path) -> None:  # noqa: F811
    overrides = settings(tmp_path, media, tmp_path / "store", kind=kind)
    trained = invoke(f"train_{kind}", "dataset=folder", *overrides, "training.max_epochs=2", "training.batch_size=4")
    last = tmp_path / "run" / "last.ckpt"
    assert trained.stdout == f"{last}\n", trained.output
    assert checkpoint.load(last)[1].kind == kind
    said = invoke("inference", kind, last, next(iter(media)))
    assert said.exit_code == 0 and said.stdout.endswith(".\n") and len(said.stdout) > 2
    other = "advanced" if kind == "baseline" else "baseline"
    wrong = invoke("inference", other, last, next(iter(media)))
    assert isinstance(wrong.exception, CheckpointError)
    assert f"is of the model '{kind}'; say inference {kind}" in str(wrong.exception)


def test_without_a_data_set_it_is_msr_vtt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = invoke("train_baseline", "training.max_epochs=3", "training.batch_size=16")
    assert isinstance(found.exception, DataError)
    assert str(found.exception) == (
        "data/train.jsonl: is not there; run vidcap prepare msrvtt first, or name your own listings"
    )


def test_convert_onnx(tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    wrong = invoke("convert_onnx", "baseline", tiny.checkpoint(), out)
    assert isinstance(wrong.exception, CheckpointError)
    assert str(wrong.exception).endswith("is of the model 'advanced'; say convert_onnx advanced")
    assert not list(tmp_path.iterdir())
    done = invoke("convert_onnx", "advanced", tiny.checkpoint(), out)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out} and {tmp_path / 'model'}: 3 of 3 captions as in torch, alone and in a batch\n"
    assert bundle.read(tmp_path / "model").kind == "advanced"
    assert out.is_file()


def test_convert_onnx_of_a_newer_checkpoint(tmp_path: Path) -> None:
    saved = torch.load(tiny.checkpoint(), weights_only=True)
    saved["vidcap"]["version"] += 1
    torch.save(saved, tmp_path / "newer.ckpt")
    found = invoke("convert_onnx", "advanced", tmp_path / "newer.ckpt", tmp_path / "model.onnx")
    assert isinstance(found.exception, CheckpointError)
    assert str(found.exception).endswith("newer.ckpt: was written by a newer vidcap; upgrade vidcap")
