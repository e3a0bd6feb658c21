"""The configuration of a run: Hydra's groups and the user's overrides, checked before anything is computed."""

from __future__ import annotations

from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from video_captioning.errors import ConfigError

GROUPS = ("dataset", "model", "training", "logging", "experiment", "debug")
LEAST = {
    "model.min_count": 1,
    "seed": 0,
    "training.batch_size": 1,
    "training.captions_per_clip": 1,
    "training.max_epochs": 1,
    "training.accumulate": 1,
    "training.devices": 1,
    "training.views": 1,
    "training.patience": 0,
    "training.keep_every": 0,
    "debug.overfit": 0,
}
WORDS = {
    "training.batch_size": ("auto",),
    "training.features": ("store", "live"),
    "training.objective": ("cross_entropy", "self_critical"),
}
"""Fields that take one of some words; instead of a number where the default is one."""
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list of whole numbers"}


def configure(model: str, overrides: list[str]) -> DictConfig:
    """The resolved configuration of a run. Raises ConfigError naming the override that is wrong."""
    groups = [override for override in overrides if override.lstrip("+").partition("=")[0] in GROUPS]
    try:
        with initialize_config_module("video_captioning.configs", version_base="1.3"):
            known = leaves(plain(compose("train", [f"model={model}", *groups])))
            for override in overrides:
                if override not in groups:
                    check_name(override.partition("=")[0], known)
            config = compose("train", [f"model={model}", *overrides])
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split()).partition(" Config search path:")[0]
        raise ConfigError(
            f"{reason} (in: {' '.join([model, *overrides])}); see `vidcap train {model} --show`"
        ) from error
    for name, value in leaves(plain(config)).items():
        check_name(name, known)
        check_value(name, value, known[name])
    return config


def plain(config: DictConfig) -> dict[str, Any]:
    """Nested dictionaries; a field that must be given is "???"."""
    container: Any = OmegaConf.to_container(config)
    return dict(container)


def leaves(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """All fields by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= leaves(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


def check_name(name: str, known: dict[str, Any]) -> None:
    if not any(field == name or field.startswith(f"{name}.") for field in known):
        group = name.rpartition(".")[0]
        beside = [field for field in known if field.rpartition(".")[0] == group] or list(known)
        raise ConfigError(f"there is no field '{name}'; there are {', '.join(beside)}")


def check_value(name: str, value: Any, default: Any) -> None:
    words = WORDS.get(name, ())
    if value in words:
        return
    kind = type(default)
    kinds = (int, float) if kind is float else (kind,)
    wrong = type(value) not in kinds or (kind is list and not all(type(one) is int for one in value))
    if default not in (None, "???") and (wrong or (words and kind is str)):
        meaning = " or ".join(words if words and kind is str else (KINDS[kind], *words))
        raise ConfigError(f"{name} must be {meaning}, not {value}")
    if name in LEAST and value < LEAST[name]:
        raise ConfigError(f"{name} must be at least {LEAST[name]}, not {value}")
