"""Any Hugging Face vision model gives its own features of pictures that are prepared as it wants."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from transformers.modeling_outputs import BaseModelOutput

from tests import tiny
from video_captioning.errors import ConfigError
from video_captioning.frames import Resize
from video_captioning.models.backbone import Backbone, LiteMap, folded
from video_captioning.models.efficientnet_lite import VARIANTS, EfficientNetLite
from video_captioning.models.lite_encoder import LiteEncoder, LiteEncoderConfig

SMALL = tiny.VIT
TEXT = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99,
    "bos_token_id": 1, "eos_token_id": 2, "projection_dim": 16, "projection_size": 32,
}  # fmt: skip
DINO = {name: value for name, value in SMALL.items() if name != "intermediate_size"}
MAKE: dict[str, Any] = {
    "vit": lambda: hf.ViTModel(hf.ViTConfig(**SMALL)),
    "vit of a classifier": lambda: hf.ViTForImageClassification(hf.ViTConfig(**SMALL)),
    "clip": lambda: hf.CLIPModel(hf.CLIPConfig(vision_config=SMALL, text_config=TEXT, projection_dim=16)),
    "clip vision": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**SMALL)),
    "siglip": lambda: hf.SiglipModel(hf.SiglipConfig(vision_config=SMALL, text_config=TEXT)),
    "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**DINO)),
    "dinov2 with registers": lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**DINO)),
    "resnet": lambda: hf.ResNetModel(
        hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 32], depths=[1, 1], layer_type="basic")
    ),
}
TOKENS = {"siglip": 0, "resnet": 0, "dinov2 with registers": 5}  # before the patches; elsewhere 1
SIDE = 4  # patches
PICTURES = torch.randint(
    0, 256, (3, tiny.SIDE, tiny.SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LITE = {"size": {"height": 96, "width": 96}, "image_mean": [127 / 255] * 3, "image_std": [128 / 255] * 3}


def lite_encoder() -> LiteEncoder:
    model = LiteEncoder(LiteEncoderConfig(hidden_size=32))
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):  # as they come, all pictures look alike
            torch.nn.init.kaiming_normal_(module.weight)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder for each kind of model."""
    folder = tmp_path_factory.mktemp("backbones")
    settings = tiny.SQUARE | {"image_mean": [0.1, 0.5, 0.9], "image_std": [0.2, 0.3, 0.4]}
    for name, make in MAKE.items():
        torch.manual_seed(0)
        tiny.save_backbone(folder / name, make(), settings)
    tiny.save_backbone(folder / "lite", lite_encoder(), LITE)
    return folder


@torch.inference_mode()
def test_features_of_several_layers_stand_side_by_side(saved: Path) -> None:
    """The last layer's as ever, then the others', each normalised."""
    model = hf.AutoModel.from_pretrained(saved / "vit").eval()
    first = model(pixel_values=normalised(PICTURES), output_hidden_states=True).hidden_states[1]
    last, both = Backbone(str(saved / "vit")), Backbone(str(saved / "vit"), layers=[1])
    assert both.width == 64 and both.positions == last.positions and both.identity != last.identity
    found = both(PICTURES)
    assert torch.equal(found[:, :, :32], last(PICTURES))
    assert torch.allclose(found[:, :, 32:], torch.nn.functional.layer_norm(first, (32,)), atol=1e-5)


@pytest.mark.parametrize(("name", "layer"), [("vit", 0), ("vit", 99), ("resnet", 2), ("lite", 1)])
def test_layers_that_are_not_there_are_an_error(saved: Path, name: str, layer: int) -> None:
    with pytest.raises(ConfigError, match=f"not {layer}"):
        Backbone(str(saved / name), layers=[layer])


def normalised(frames: torch.Tensor) -> torch.Tensor:
    """What `AutoImageProcessor` makes of pictures that have the right size."""
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 0.4])
    return ((frames / 255 - mean) / std).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", MAKE)
@torch.inference_mode()
def test_features_are_those_of_the_model(saved: Path, name: str) -> None:
    model = hf.AutoModel.from_pretrained(saved / name).eval()
    expected = getattr(model, "vision_model", model)(pixel_values=normalised(PICTURES)).last_hidden_state
    if expected.ndim == 4:
        expected = expected.flatten(2).transpose(1, 2)
    side, before = SIDE, TOKENS.get(name, 1)
    patches = expected[:, before:]
    assert patches.shape[1] == side * side
    first = expected[:, :1] if before else patches.mean(1, keepdim=True)

    whole = Backbone(str(saved / name), grid=7)
    assert (whole.grid, whole.width, whole.positions) == (side, 32, 1 + side * side), (
        "a grid is no finer than the patches"
    )
    assert torch.allclose(whole(PICTURES), torch.cat([first, patches], 1), atol=1e-4)

    cells = patches.view(3, 2, side // 2, 2, side // 2, 32).mean((2, 4)).flatten(1, 2)
    pooled = Backbone(str(saved / name), positions="patches", grid=2)
    assert pooled.positions == 4
    assert torch.allclose(pooled(PICTURES), cells, atol=1e-4)

    both = Backbone(str(saved / name), positions="both", grid=2)
    assert both.positions == 5
    assert torch.allclose(both(PICTURES), torch.cat([first, cells], 1), atol=1e-4)

    alone = Backbone(str(saved / name), positions="class")
    assert alone.positions == 1
    assert torch.allclose(alone(PICTURES), first, atol=1e-4)


CROP = {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": {"height": 32, "width": 32}, "resample": 2}, Resize(32)),
        ({"size": {"height": 32, "width": 32}, "resample": 3}, Resize(32, filter="bicubic")),
        ({"size": 32}, Resize(32)),
        ({"size": {"shortest_edge": 40}, **CROP, "resample": 3}, Resize(32, "crop", 0.8, "bicubic")),
        ({"size": 40, "do_center_crop": True, "crop_size": 32}, Resize(32, "crop", 0.8)),
        ({"size": {"shortest_edge": 32}, "crop_pct": 0.875, "resample": 3}, Resize(32, "crop", 0.875, "bicubic")),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, Resize(384)),
        ({"size": {"shortest_edge": 40}, "crop_pct": None, **CROP}, Resize(32, "crop", 0.8)),
        (
            {"size": {"shortest_edge": 32}, "do_center_crop": False, "crop_size": {"height": 16, "width": 16}},
            Resize(32),
        ),
    ],
    ids=["square", "bicubic", "old square", "clip", "old clip", "convnext", "large convnext", "no crop_pct", "no crop"],
)
def test_a_picture_is_resized_as_its_preprocessor_says(
    tmp_path: Path, settings: dict[str, Any], expected: Resize
) -> None:
    model = hf.ResNetModel(hf.ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic"))
    folder = tiny.save_backbone(tmp_path / "model", model, settings)
    assert Resize(**Backbone(str(folder)).resize) == expected


@pytest.mark.parametrize(
    ("settings", "factor", "mean", "std"),
    [
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, 1 / 255, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
        ({}, 1 / 255, [0.5] * 3, [0.5] * 3),
        (
            {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
            1 / 127.5,
            [1.0] * 3,
            [1.0] * 3,
        ),
        ({"do_normalize": False, "image_mean": [0.3] * 3}, 1 / 255, [0.0] * 3, [1.0] * 3),
        ({"do_rescale": False, "image_mean": [127.0] * 3, "image_std": [60.0] * 3}, 1.0, [127.0] * 3, [60.0] * 3),
    ],
)
@torch.inference_mode()
def test_a_picture_is_normalised_as_its_preprocessor_says(
    tmp_path: Path, settings: dict[str, Any], factor: float, mean: list[float], std: list[float]
) -> None:
    folder = tiny.save_backbone(tmp_path / "model", tiny.vit(), {"size": {"height": 32, "width": 32}} | settings)
    backbone = Backbone(str(folder))
    pixels = (PICTURES * factor - torch.tensor(mean)) / torch.tensor(std)
    expected = backbone.model(pixel_values=pixels.permute(0, 3, 1, 2)).last_hidden_state
    assert torch.allclose(backbone(PICTURES), expected, atol=1e-4)
    assert (backbone.mean, backbone.std) == (mean, std)


def test_identity_is_of_the_weights(tmp_path: Path) -> None:
    model = tiny.vit()
    first = Backbone(str(tiny.save_backbone(tmp_path / "one" / "vit", model))).identity
    assert Backbone(str(tmp_path / "one" / "vit")).identity == first
    assert first["name"] == "vit"
    without_pooler = hf.ViTModel(model.config, add_pooling_layer=False)
    without_pooler.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("pooler.")})
    tiny.save_backbone(tmp_path / "two" / "vit", without_pooler)
    assert Backbone(str(tmp_path / "two" / "vit")).identity == first, "a pooler that is made anew each time"
    next(iter(model.parameters())).data[0, 0, 0] += 0.001
    tiny.save_backbone(tmp_path / "three" / "vit", model)
    assert Backbone(str(tmp_path / "three" / "vit")).identity["sha256"] != first["sha256"]
    assert Backbone(str(tmp_path / "one" / "vit"), grid=2).identity != first
    assert Backbone(str(tmp_path / "one" / "vit"), positions="class").identity != first
    assert Backbone(str(tmp_path / "one" / "vit"), precision="bfloat16").identity != first


def test_less_precision_changes_features_a_little() -> None:
    frames = torch.from_numpy(np.stack(tiny.pictures(3, size=(tiny.SIDE, tiny.SIDE))))
    exact = Backbone(str(tiny.backbone()))(frames)
    close = Backbone(str(tiny.backbone()), precision="bfloat16")(frames)
    assert close.dtype == torch.float32
    assert not torch.equal(close, exact)
    assert torch.nn.functional.cosine_similarity(close, exact, dim=2).min() > 0.99


class NormFirst(hf.PreTrainedModel):  # type: ignore[misc]
    """Registers its convolution before the normalisation that comes before it."""

    def __init__(self) -> None:
        super().__init__(hf.PretrainedConfig())
        self.conv, self.norm = torch.nn.Conv2d(3, 3, 3), torch.nn.BatchNorm2d(3)

    def forward(self, pixel_values: torch.Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.conv(self.norm(pixel_values)))


def lite() -> LiteMap:
    return LiteMap(EfficientNetLite(VARIANTS["efficientnet-lite0"]))


@pytest.mark.parametrize(("make", "layers_left"), [(MAKE["resnet"], 0), (lite, 0), (lite_encoder, 0), (NormFirst, 1)])
def test_normalisation_is_folded_where_that_changes_nothing(make: Any, layers_left: int) -> None:
    torch.manual_seed(0)
    model = make().eval()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.load_state_dict({name: torch.rand_like(value.float()) + 0.5 for name, value in norm.state_dict().items()})
    made = folded(model, tiny.SIDE)
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in made.modules()) == layers_left < len(norms) + 1
    pixels = normalised(PICTURES)
    now, was = (one(pixel_values=pixels).last_hidden_state.detach() for one in (made, model))
    assert torch.allclose(now, was, rtol=1e-3, atol=1e-3 * float(was.abs().max()))


def test_a_backbone_is_frozen() -> None:
    backbone = Backbone(str(tiny.backbone()))
    assert not backbone.model.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def broken(tmp_path: Path, change: str) -> str:
    folder = tiny.save_backbone(tmp_path / "model", tiny.vit())
    weights = folder / "model.safetensors"
    match change:
        case "no settings":
            (folder / "preprocessor_config.json").unlink()
        case "broken settings":
            (folder / "preprocessor_config.json").write_text("{")
        case "no weights":
            weights.unlink()
        case "weights cut short":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "broken config":
            (folder / "config.json").write_text('{"model_type": "vit", "hidden_size": "many"}')
        case "unknown kind":
            (folder / "config.json").write_text('{"model_type": "nothing"}')
        case "a model of words":
            tiny.save_backbone(folder, hf.BertModel(hf.BertConfig(**TEXT)))
        case "some weights lack":
            deeper = hf.ViTConfig(**SMALL | {"num_hidden_layers": 2})
            deeper.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "change",
    ["no settings", "broken settings", "no weights", "weights cut short", "broken config", "unknown kind",
     "a model of words", "some weights lack"],
)  # fmt: skip
def test_a_folder_that_is_no_vision_model_is_named(tmp_path: Path, change: str) -> None:
    folder = broken(tmp_path, change)
    with pytest.raises(ConfigError, match="backbone '") as caught:
        Backbone(folder)
    message = str(caught.value)
    assert folder in message
    assert "; give " in message
    assert "\n" not in message


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.positions must be one of class, patches, both, not all"):
        Backbone(str(tiny.backbone()), positions="all")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"backbone\.grid must be at least 1, not 0"):
        Backbone(str(tiny.backbone()), grid=0)
    with pytest.raises(ConfigError, match=r"backbone\.precision must be one of float32, bfloat16, float16, not int8"):
        Backbone(str(tiny.backbone()), precision="int8")  # type: ignore[arg-type]


@pytest.mark.slow
def test_no_torchvision_and_no_timm_and_a_bad_name_offline(saved: Path) -> None:
    code = """
import sys
from video_captioning.errors import ConfigError
from video_captioning.models.backbone import Backbone
for folder in sys.argv[1:]:
    Backbone(folder)
print(sorted({"torchvision", "timm", "cv2"} & set(sys.modules)))
for name in ("nobody/no-such-model", "no such name", "/no/such/folder", ""):
    try:
        Backbone(name)
    except ConfigError as error:
        print(error)
"""
    folders = [str(saved / name) for name in ("lite", "vit", "clip", "resnet")]
    done = subprocess.run(
        [sys.executable, "-c", code, *folders],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    first, *messages = done.stdout.splitlines()
    assert first == "[]"
    assert len(messages) == 4, "one line each"
    assert all(
        "cannot be loaded" in message and "; give a model of the hub or a folder" in message for message in messages
    )


@torch.inference_mode()
def test_the_real_vit_tiny(shared: Path) -> None:
    folder = shared / "weights" / "vit-tiny-patch16-224"
    if not folder.is_dir():
        pytest.skip("the weights of ViT-tiny are not here")
    backbone = Backbone(str(folder))
    assert (backbone.positions, backbone.width) == (50, 192)
    assert Resize(**backbone.resize) == Resize(224)
    assert Backbone(str(folder)).identity == backbone.identity
    model = hf.AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    frames = torch.from_numpy(pixels)
    hidden = model(pixel_values=(frames / 127.5 - 1).permute(0, 3, 1, 2)).last_hidden_state
    pooled = hidden[:, 1:].view(2, 7, 2, 7, 2, 192).mean((2, 4)).flatten(1, 2)
    assert torch.allclose(backbone(frames), torch.cat([hidden[:, :1], pooled], 1), atol=1e-3)


@torch.inference_mode()
def test_the_lite_encoder_is_linear_in_the_map_of_its_trunk(saved: Path) -> None:
    backbone = Backbone(str(saved / "lite"), grid=7)
    assert (backbone.grid, backbone.width, backbone.positions) == (3, 32, 1 + 9)
    encoder = backbone.model
    frames = torch.from_numpy(np.stack(tiny.pictures(2, size=(96, 96))))
    places = encoder.trunk((frames.permute(0, 3, 1, 2).float() - 127) / 128)
    assert places.shape == (2, 1280, 3, 3) and (places[0] - places[1]).abs().mean() > 0.01
    found = backbone(frames)
    assert torch.allclose(found[:, 0], encoder.class_head(places.mean((2, 3))), atol=1e-4)
    for place in range(9):
        column = places[:, :, place // 3, place % 3]
        assert torch.allclose(found[:, 1 + place], encoder.patch_head(column), atol=1e-4)
