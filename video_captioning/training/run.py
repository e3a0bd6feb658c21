"""`vidcap train`: listing → features in the store → a trained checkpoint."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader

from video_captioning.data.claim import claim
from video_captioning.data.dataset import CaptionDataset, CaptionSampler, collate
from video_captioning.data.features import LiveFeatures, Source, StoredFeatures, extract
from video_captioning.data.items import Item, read_folder
from video_captioning.data.store import FeatureStore
from video_captioning.errors import CheckpointError, ConfigError, DataError
from video_captioning.files import write_whole
from video_captioning.frames import Sampling
from video_captioning.models import checkpoint, registry
from video_captioning.models.advanced import AdvancedConfig
from video_captioning.models.backbone import Backbone
from video_captioning.models.interface import CaptioningModel
from video_captioning.tokenizer import Tokenizer
from video_captioning.training.batch_size import find_batch_size
from video_captioning.training.configure import configure, plain
from video_captioning.training.fit import Describe, Report, fit, quiet
from video_captioning.training.judge import Judge, Reward
from video_captioning.training.module import CaptioningModule, Optimization
from video_captioning.training.plots import Plots
from video_captioning.training.record import RESUME
from video_captioning.training.samples import Samples
from video_captioning.training.self_critical import SelfCriticalModule
from video_captioning.training.sentences import Sentences, read_sentences
from video_captioning.training.tracking import tracker

OVERFIT_DRAWS = 20.0
"""How often an epoch draws each of the few items of `debug.overfit`: looking at them takes longer than a step."""


def train(model: str, overrides: list[str]) -> Path:
    """Train, or resume the run found in `out`; returns its last checkpoint.

    Raises:
        ConfigError, DataError: before anything is computed, where that can be known.
        OutputError: `out` is in use, or there is no room; what is finished is kept.
    """
    config = configure(model, overrides)
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ConfigError(f"{missing[0]} is missing; give it as {missing[0]}=VALUE")
    if config.training.objective == "self_critical" and config.training.initial is None:
        raise ConfigError("training.initial is missing: self-critical training goes on from a checkpoint")
    lightning.seed_everything(config.seed, verbose=False)
    out = Path(config.out)
    optimization = Optimization(**{f.name: config.training[f.name] for f in fields(Optimization)})
    sampling = Sampling(**config.model.sampling)
    items, held = split(config)
    backbone = Backbone(**config.model.backbone)
    with ExitStack() as stack:
        if not helper():
            stack.enter_context(claim(out))
        tokenizer = obtain_tokenizer(out, items, config)
        concepts, slots = known_concepts(config)
        sizes = model_sizes(config, backbone, tokenizer) | slots
        registry.create(model, **sizes)  # says what is wrong with a size before features are computed
        sentences = obtain_sentences(concepts, slots, tokenizer, config)
        source = obtain_features(items, held, backbone, sampling, config, stack)
        longest, consensus = config.model.max_tokens, float(config.training.consensus)
        data = CaptionDataset(items, source, tokenizer, longest, backbone.grid, consensus)
        validation = CaptionDataset(held, source, tokenizer, longest, backbone.grid)
        if not len(data) or not len(validation):
            raise DataError(config.dataset.train, "no item could be decoded", "see the lines above")
        return learn(data, validation, sizes, concepts, sentences, backbone, tokenizer, optimization, config)


def learn(
    data: CaptionDataset,
    validation: CaptionDataset,
    sizes: dict[str, Any],
    concepts: list[dict[str, str]],
    sentences: Sentences | None,
    backbone: Backbone,
    tokenizer: Tokenizer,
    optimization: Optimization,
    config: DictConfig,
) -> Path:
    """Train the model of these sizes, or go on with it; returns its last checkpoint."""
    out, kind = Path(config.out), config.model.name
    last = out / "last.ckpt"
    network = start(kind, sizes, tokenizer, last, config.training.initial)
    module = make_module(network, optimization, data, validation, tokenizer, config, sentences)
    config.training.batch_size = batch_size(module, data, last, config)
    description = checkpoint.Description(
        kind=kind,
        model=sizes,
        backbone=plain(config.model.backbone) | {"identity": backbone.identity},
        sampling=plain(config.model.sampling),
        tokenizer=tokenizer.model,
        config=plain(config),
        data=fingerprint(data),
        commit=checkpoint.current_commit(),
        concepts=concepts,
    )
    tags = {"commit": description.commit, "data": description.data}
    logger = tracker(plain(config.logging), out, plain(config), tags)
    callbacks = [Describe(description), Report(), logger, Plots(out), Samples(validation.items, out)]
    return fit(module, *loaders(data, validation, config), config, callbacks, logger)


def helper() -> bool:
    """Whether the first process of a run has started this one to train beside it."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def split(config: DictConfig) -> tuple[list[Item], list[Item]]:
    """Training and validation items; without a validation listing every twentieth item is held out.

    When debugging there are fewer of both, or the model learns what it is validated on.
    """
    items, validation = read_listing(config.dataset.train, config), config.dataset.validation
    if config.debug.overfit:
        few = [replace(item, captions=item.captions[:1]) for item in items[: config.debug.overfit]]
        return [replace(item, weight=OVERFIT_DRAWS) for item in few], few
    if validation is not None:
        held = read_listing(validation, config)
    elif len(items) < 2:
        raise DataError(items[0].path, "is the only item", "give at least two, or dataset.validation=LISTING")
    else:
        held, items = items[::20], [item for number, item in enumerate(items) if number % 20]
    return share(items, config.debug.share), share(held, config.debug.share)


def read_listing(listing: str, config: DictConfig) -> list[Item]:
    """Items of a listing. Raises DataError, which tells how to get those of a known data set."""
    name = config.dataset.name
    if name != "folder" and not Path(listing).exists():
        raise DataError(listing, "is not there", f"run vidcap prepare {name} first, or name your own listings")
    return read_folder(listing)


def share(items: list[Item], part: float) -> list[Item]:
    """A part of the items, spread evenly, one at least."""
    if not 0 < part <= 1:
        raise ConfigError(f"debug.share must be above 0, at most 1, not {part}")
    chosen = np.linspace(0, len(items), max(1, round(part * len(items))), endpoint=False).astype(int)
    return [items[number] for number in chosen]


def obtain_features(
    items: list[Item], held: list[Item], backbone: Backbone, sampling: Sampling, config: DictConfig, stack: ExitStack
) -> Source:
    """Where features come from: the store, filled with what it lacks and open as long as `stack`, or the files."""
    if torch.cuda.is_available():
        backbone.cuda()
    if config.training.features == "live":
        live = LiveFeatures(backbone, sampling, [*items, *held], config.training.views > 1)
        tell_left_out(live.errors)
        return live
    store = stack.enter_context(FeatureStore(config.training.store))

    def progress(items: Sequence[Item]) -> Any:
        return track(items, "features", console=Console(stderr=True), disable=quiet())

    learned = extract(items, backbone, sampling, store, progress, config.training.views)
    validated = extract(held, backbone, sampling, store, progress)
    tell_left_out([*learned.errors, *validated.errors])
    return StoredFeatures(store, validated.keys | learned.keys)


def tell_left_out(errors: Sequence[Exception]) -> None:
    for error in errors:
        warnings.warn(f"left out: {error}", stacklevel=2)


def fingerprint(data: CaptionDataset) -> str:
    """SHA-256 over contents and captions, in whatever order they are listed."""
    digest = hashlib.sha256()
    for content, captions in sorted((data.source.content(item), item.captions) for item in data.items):
        digest.update(content)
        digest.update("\n".join(captions).encode())
    return digest.hexdigest()


def model_sizes(config: DictConfig, backbone: Backbone, tokenizer: Tokenizer) -> dict[str, Any]:
    """The fields of the model's configuration."""
    named = registry.size_names(config.model.name) & set(config.model) - {"vocabulary"}
    chosen = {name: config.model[name] for name in sorted(named)}
    return {"features": backbone.width, "positions": backbone.positions, "vocabulary": len(tokenizer), **chosen}


def known_concepts(config: DictConfig) -> tuple[list[dict[str, str]], dict[str, int]]:
    """Those of the checkpoint that the run goes on from, and the sizes that they need: a model has them if that has."""
    last = Path(config.out) / "last.ckpt"
    source = last if last.exists() else config.training.initial
    if source is None:
        return [], {}
    origin = checkpoint.load(source)[1]
    if not origin.concepts or origin.kind != config.model.name:  # of another model: `start` says so
        return [], {}
    slots = origin.model.get("concept_slots", AdvancedConfig.concept_slots)
    return origin.concepts, {"concepts": len(origin.concepts), "concept_slots": slots}


def obtain_sentences(
    concepts: list[dict[str, str]], sizes: dict[str, int], tokenizer: Tokenizer, config: DictConfig
) -> Sentences | None:
    """Sentences that are learned from beside the clips.

    Raises ConfigError for a model without concepts, and for self-critical training, which has no use for them.
    """
    if not config.training.text:
        return None
    if config.training.objective == "self_critical":
        raise ConfigError("training.text is for training.objective=cross_entropy; give training.text=0")
    if not concepts or config.dataset.text is None:
        lacking = "dataset.text, sentences in a file" if concepts else "training.initial, a checkpoint with concepts"
        raise ConfigError(f"training.text needs {lacking}; give it or training.text=0")
    names = [concept["name"] for concept in concepts]
    text = read_sentences(config.dataset.text)
    return Sentences(text, names, tokenizer, config.model.max_tokens, sizes["concept_slots"])


def make_module(
    network: CaptioningModel,
    optimization: Optimization,
    data: CaptionDataset,
    validation: CaptionDataset,
    tokenizer: Tokenizer,
    config: DictConfig,
    sentences: Sentences | None,
) -> CaptioningModule:
    judge = Judge(validation.items, tokenizer)
    if config.training.objective == "cross_entropy":
        return CaptioningModule(network, optimization, judge, config.seed, sentences)
    reward = Reward(Judge(data.items, tokenizer), optimization.bleu_reward, optimization.unfounded_penalty)
    return SelfCriticalModule(network, optimization, judge, config.seed, reward)


def batch_size(module: CaptioningModule, data: CaptionDataset, last: Path, config: DictConfig) -> int:
    """The one that is asked for; `auto` is found out once a run."""
    if config.training.batch_size != "auto":
        return int(config.training.batch_size)
    if last.exists():
        return int(checkpoint.load(last)[1].config["training"]["batch_size"])
    return find_batch_size(module, data, config.training.captions_per_clip)


def loaders(
    data: CaptionDataset, validation: CaptionDataset, config: DictConfig
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Of training and of validation batches; the latter are every epoch the same."""
    size, captions, mirror = (config.training[name] for name in ("batch_size", "captions_per_clip", "mirror"))
    sampler = CaptionSampler(data, size, captions, mirror, config.seed)
    held = list(CaptionSampler(validation, size, captions, False, config.seed, views=False))
    return (
        DataLoader(data, batch_sampler=sampler, collate_fn=collate),
        DataLoader(validation, batch_sampler=held, collate_fn=collate),
    )


def start(kind: str, sizes: dict[str, Any], tokenizer: Tokenizer, last: Path, initial: str | None) -> CaptioningModel:
    """A new model, or one with the weights of the checkpoint that the run goes on from."""
    network = registry.create(kind, **sizes)
    source = last if last.exists() else initial
    if source is not None:
        model, origin = checkpoint.load(source)
        if origin.kind != kind:
            raise CheckpointError(source, f"is of the model '{origin.kind}'", "give another one, or another `out`")
        if origin.tokenizer != tokenizer.model:
            raise CheckpointError(source, "has another vocabulary than this run", "give another `out`")
        try:
            network.load_state_dict(model.state_dict())
        except RuntimeError as error:
            problem = "is of a model with other `model` fields or another backbone"
            raise CheckpointError(source, problem, "give the same ones, or another `out`") from error
    return network


def obtain_tokenizer(out: Path, items: list[Item], config: DictConfig) -> Tokenizer:
    """The run's own tokenizer: read back on resuming, else the initial model's or learnt from the captions."""
    path = out / "tokenizer.model"
    if path.exists():
        return Tokenizer.load(path)
    if config.training.initial is not None:
        tokenizer = Tokenizer(checkpoint.load(config.training.initial)[1].tokenizer)
    else:
        captions = [caption for item in items for caption in item.captions]
        tokenizer = Tokenizer.train(captions, config.model.vocabulary, config.model.tokenizer, config.model.min_count)
    write_whole(path, tokenizer.model, RESUME)
    return tokenizer


torch.set_float32_matmul_precision("high")
