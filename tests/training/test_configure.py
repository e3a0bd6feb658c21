"""What is wrong with a configuration is said before anything is computed, in one line that names the field."""

from pathlib import Path

import pytest

from video_captioning.errors import ConfigError, DataError
from video_captioning.training.run import configure, train

TRAIN = "dataset.train=captions.tsv"


def refused(*overrides: str, model: str = "advanced") -> str:
    with pytest.raises(ConfigError) as caught:
        configure(model, list(overrides))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_overrides_are_taken() -> None:
    config = configure("advanced", [TRAIN, "training.max_epochs=3", "model.dropout=0", "out=runs/mine"])
    assert config.dataset.train == "captions.tsv"
    assert (config.training.max_epochs, config.model.dropout, config.out) == (3, 0, "runs/mine")
    assert configure("advanced", [TRAIN, "training.initial=first.ckpt"]).training.initial == "first.ckpt"
    assert configure("advanced", [TRAIN]).out == "runs/advanced"
    assert configure("advanced", [TRAIN, "dataset=folder", "model.sampling.frames=4"]).model.sampling.frames == 4


@pytest.mark.parametrize("model", ["baseline", "attention", "advanced"])
def test_every_preset_fits_its_model(model: str) -> None:
    plain = configure(model, [TRAIN])
    assert plain.model.name == model and plain.logging.name == "mlflow"
    assert configure(model, [TRAIN, f"experiment=flickr8k_{model}"]).training.precision == "bf16-mixed"
    overfit = configure(model, [TRAIN, "debug=overfit", "training.max_epochs=3"])
    assert (overfit.debug.overfit, overfit.model.dropout, overfit.training.max_epochs) == (8, 0, 3)
    assert configure(model, [TRAIN, "debug=small"]).debug.share == 0.01
    assert configure(model, [TRAIN, "debug=profile"]).debug.profile is True
    scst = configure(model, [TRAIN, "training=scst", "training.initial=first.ckpt"]).training
    assert (scst.objective, scst.initial, scst.samples) == ("self_critical", "first.ckpt", 5)
    assert configure(model, ["dataset=msvd"]).dataset.train == "data/msvd/train.jsonl"
    assert configure(model, [TRAIN, "training.batch_size=auto"]).training.batch_size == "auto"


def test_the_listing_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.train is missing; give it as dataset\.train=VALUE"):
        train("advanced", [])


def test_an_unknown_model_or_group() -> None:
    assert "Available options in 'model': advanced attention baseline" in refused(TRAIN, model="baseline9000")
    assert "Available options in 'dataset': folder msrvtt msvd" in refused("dataset=nothing")
    assert "Available options in 'debug': none overfit profile small" in refused(TRAIN, "debug=all")


@pytest.mark.parametrize(
    ("override", "named", "instead"),
    [
        ("training.max_epoch=3", "training.max_epoch", "training.max_epochs"),
        ("+training.max_epoch=3", "+training.max_epoch", "training.max_epochs"),
        ("~training.ema", "~training.ema", "training.ema"),
        ("model.sampling.speed=2", "model.sampling.speed", "model.sampling.fps"),
        ("speed=2", "speed", "seed"),
        ("speed", "speed", "seed"),
        ("nothing.at.all=2", "nothing.at.all", "training.max_epochs"),
        ("two words=2", "two words", "seed"),
    ],
)
def test_an_unknown_field_is_named_with_those_there_are(override: str, named: str, instead: str) -> None:
    message = refused(TRAIN, override)
    assert f"there is no field '{named}'" in message
    assert instead in message.partition("; there are ")[2].split(", ")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.max_epochs=many", "training.max_epochs must be a whole number, not many"),
        ("training.max_epochs=1.5", "training.max_epochs must be a whole number, not 1.5"),
        ("training.max_epochs=null", "training.max_epochs must be a whole number, not None"),
        ("training.max_epochs=true", "training.max_epochs must be a whole number, not True"),
        ("training.max_epochs=0", "training.max_epochs must be at least 1, not 0"),
        ("training.batch_size=large", "training.batch_size must be a whole number or auto, not large"),
        ("training.features=none", "training.features must be store or live, not none"),
        ("training.objective=best", "training.objective must be cross_entropy or self_critical, not best"),
        ("training.devices=0", "training.devices must be at least 1, not 0"),
        ("training.batch_size=0", "training.batch_size must be at least 1, not 0"),
        ("training.captions_per_clip=-1", "training.captions_per_clip must be at least 1, not -1"),
        ("training.mirror=1", "training.mirror must be true or false, not 1"),
        ("training.learning_rate=fast", "training.learning_rate must be a number, not fast"),
        ("out=[a,b]", "out must be text, not ['a', 'b']"),
        ("model.backbone.layers=8", "model.backbone.layers must be a list of whole numbers, not 8"),
        ("model.backbone.layers=[a]", "model.backbone.layers must be a list of whole numbers, not ['a']"),
        ("seed=-1", "seed must be at least 0, not -1"),
        ("out=${nowhere}", "'nowhere' not found"),
        ("out=a=b", "out=a=b"),
    ],
)
def test_a_wrong_value_is_named(override: str, says: str) -> None:
    assert says in refused(TRAIN, override)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.learning_rate=0", "training.learning_rate must be above 0, not 0"),
        ("training.weight_decay=-1", "training.weight_decay must be at least 0, not -1"),
        ("training.warmup=1", "training.warmup must be from 0 to below 1, not 1"),
        ("training.label_smoothing=-0.1", "training.label_smoothing must be from 0 to below 1, not -0.1"),
        ("training.feature_mixing=1", "training.feature_mixing must be from 0 to below 1, not 1"),
        ("training.feature_dropout=2", "training.feature_dropout must be from 0 to below 1, not 2"),
        ("training.ema=1.0", "training.ema must be from 0 to below 1, not 1.0"),
        ("training.temperature=0", "training.temperature must be above 0, not 0"),
        ("training.samples=1", "training.samples must be at least 2, to be compared, not 1"),
        ("training.bleu_reward=-1", "training.bleu_reward must be at least 0, not -1"),
        ("model.sampling.fps=0", "sampling.fps must be above 0, not 0"),
        ("model.sampling.max_frames=0", "sampling.max_frames must be at least 1, not 0"),
    ],
)
def test_a_value_out_of_range_is_named_before_anything_is_read(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        train("advanced", ["dataset.train=/no/such/listing.tsv", override])


def test_a_listing_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.tsv: cannot be read \(No such file"):
        train("advanced", [f"dataset.train={tmp_path}/missing.tsv", f"out={tmp_path}/out"])
    assert not (tmp_path / "out").exists()
