"""A bundle's weights come back into torch as they are, ready to learn on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.make_default_bundle import SEARCH
from scripts.warm_start import mean, read_back, with_backbone
from video_captioning import bundle
from video_captioning.bundle import BUILT_IN, Runtime
from video_captioning.export.quantize import in_float
from video_captioning.models import checkpoint
from video_captioning.models.backbone import Backbone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (24, 3, 5, 5)))
    smooth = torch.nn.functional.interpolate(coarse, 160, mode="bilinear").byte()
    return smooth.permute(0, 2, 3, 1).contiguous().numpy()


@pytest.fixture(scope="module")
def pictures(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.fixture(scope="module")
def restored(pictures: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return read_back(BUILT_IN / "default", [pictures], tmp_path_factory.mktemp("restored"))


def test_encoder_and_decoder_compute_what_the_bundle_computes(restored: tuple[Path, Path], frames: np.ndarray) -> None:
    encoder, decoder = restored
    with in_float(bundle.read("default")) as floats:
        runtime = Runtime(floats, threads=1)
    wanted, mask = runtime.encode([frames])
    with torch.inference_mode():
        found = Backbone(str(encoder), grid=5)(torch.from_numpy(frames)).numpy()
        assert np.abs(found - wanted[0]).max() < 2e-3 * np.abs(wanted).max()
        model, _ = checkpoint.load(decoder)
        memory, _ = model.encode(torch.from_numpy(wanted), torch.from_numpy(mask))
    told, _ = runtime.remember(wanted, mask)
    assert np.abs(memory["memory"].numpy() - told["memory"]).max() < 2e-3 * np.abs(told["memory"]).max()


def test_batch_normalisation_normalises_by_what_it_has_seen(
    restored: tuple[Path, Path], pictures: torch.Tensor
) -> None:
    encoder = Backbone(str(restored[0]), grid=5).model.encoder
    with torch.no_grad():
        still = encoder.eval()(pictures)
        learning = encoder.train()(pictures)
    assert (still - learning).abs().max() < 0.01 * still.abs().max()


def test_decoder_reads_another_encoder(restored: tuple[Path, Path], tmp_path: Path) -> None:
    encoder, decoder = restored
    _, description = checkpoint.load(with_backbone(decoder, encoder, tmp_path / "last.ckpt"))
    assert description.backbone["name"] == str(encoder)
    assert description.backbone["identity"]["sha256"] == Backbone(str(encoder), grid=5).identity["sha256"]


def test_the_command_makes_a_model_that_searches_as_the_embedded_one() -> None:
    stated = bundle.read("default").decoding
    assert stated == replace(SEARCH, max_tokens=stated.max_tokens)


def test_a_mean_lies_in_the_middle(restored: tuple[Path, Path], tmp_path: Path) -> None:
    one = torch.load(restored[1], weights_only=True)
    other = one | {"state_dict": {name: 3 * value for name, value in one["state_dict"].items()}}
    torch.save(other, tmp_path / "other.ckpt")
    model, _ = checkpoint.load(mean([tmp_path / "other.ckpt", restored[1]], tmp_path / "mean.ckpt"))
    found, given = (dict(each.named_parameters()) for each in (model, checkpoint.load(restored[1])[0]))
    assert all(torch.allclose(found[name], 2 * value) for name, value in given.items())
