"""Where features come from: the store, which is filled first, or the files themselves, decoded anew every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from video_captioning.data import views
from video_captioning.data.items import Item
from video_captioning.data.store import FeatureStore, feature_keys
from video_captioning.errors import MediaError, MissingFileError
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models.backbone import Backbone
from video_captioning.parallel import available_cores, in_order

FRAMES_PER_CALL = 32
CALLS_PER_TRANSACTION = 8
SMALLEST = 0.5
"""Area of a view, at least, as a share of the picture's: a caption must stay true of it."""

Progress = Callable[[Sequence[Item]], Any]


@dataclass
class Extraction:
    """Keys of the items whose features are in the store, and what was wrong with the others."""

    keys: dict[Path, list[bytes]] = field(default_factory=dict)
    """One for each view, the clip as it is first."""
    errors: list[MediaError] = field(default_factory=list)


def extract(
    items: Sequence[Item],
    backbone: Backbone,
    sampling: Sampling,
    store: FeatureStore,
    progress: Progress = iter,
    count: int = 1,
) -> Extraction:
    """Make sure that the store holds the features of every item; what it holds already is not made again.

    Clips are decoded, a processor core each, while others go through the backbone.

    Args:
        progress: wraps the items while they are walked, as `rich.progress.track` does.
        count: of views of each item: itself and random parts of it, always the same.
    """
    found = Extraction()
    resize = Resize(**backbone.resize)
    pending: list[tuple[bytes, np.ndarray]] = []
    cores = available_cores()
    needed = lacking(progress(items), backbone, sampling, store, count)
    for read in in_order(lambda wanted: decoded(wanted, sampling, resize), needed, cores, 2 * cores):
        if isinstance(read, MediaError):
            found.errors.append(read)
            continue
        found.keys[read.path] = read.keys
        pending += read.views
        if sum(len(pixels) for _, pixels in pending) >= FRAMES_PER_CALL * CALLS_PER_TRANSACTION:
            store.put(encoded(backbone, pending))
            pending = []
    if pending:
        store.put(encoded(backbone, pending))
    return found


@dataclass(frozen=True, eq=False)
class Clip:
    """A file, the keys of all its views, numbers of those that the store lacks, and their keys and frames."""

    path: Path
    keys: list[bytes]
    missing: list[int]
    views: list[tuple[bytes, np.ndarray]] = field(default_factory=list)


def lacking(
    items: Iterable[Item], backbone: Backbone, sampling: Sampling, store: FeatureStore, count: int
) -> Iterator[Clip | MediaError]:
    """What of each item is to be made."""
    kinds = [None, *({"view": number, "smallest": SMALLEST} for number in range(1, count))]
    for item in items:
        try:
            keys = feature_keys(check(item.path), backbone.identity, sampling, Resize(**backbone.resize), kinds)
            yield Clip(item.path, keys, [number for number, key in enumerate(keys) if key not in store])
        except MediaError as error:
            yield error
        except OSError as error:
            yield MissingFileError(
                item.path, f"cannot be read ({error.strerror})", "check the name and the permissions"
            )


def decoded(clip: Clip | MediaError, sampling: Sampling, resize: Resize) -> Clip | MediaError:
    """The clip with the views that are missing."""
    if isinstance(clip, MediaError) or not clip.missing:
        return clip
    try:
        pixels = sample(clip.path, sampling, resize, threads=1).pixels
    except MediaError as error:
        return error
    return replace(clip, views=[(clip.keys[number], view(pixels, number)) for number in clip.missing])


def encoded(backbone: Backbone, clips: Sequence[tuple[bytes, np.ndarray]]) -> dict[bytes, np.ndarray]:
    return dict(zip((key for key, _ in clips), encode(backbone, [pixels for _, pixels in clips]), strict=True))


@torch.inference_mode()
def encode(backbone: Backbone, clips: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Features float16 of clips; all frames of all clips go through the backbone in full batches."""
    frames = torch.from_numpy(np.concatenate(clips))
    device = next(backbone.parameters()).device
    features = torch.cat([backbone(part.to(device)).half().cpu() for part in torch.split(frames, FRAMES_PER_CALL)])
    for part in torch.split(features, [len(pixels) for pixels in clips]):
        yield part.numpy()


def view(pixels: np.ndarray, number: int) -> np.ndarray:
    """View `number` of a clip uint8 `[T, S, S, 3]`, always the same, number 0 the clip itself."""
    if not number:
        return pixels
    part = views.crop(pixels, SMALLEST, np.random.default_rng((number, *pixels.shape, int(pixels[0].sum()))))
    return part.permute(0, 2, 3, 1).contiguous().numpy()


class Source(Protocol):
    """Gives a dataset its features."""

    views: int
    """Views of each item are numbered from 0 to this."""

    def __contains__(self, item: Item, /) -> bool: ...

    def content(self, item: Item, /) -> bytes:
        """32 bytes that differ where the features differ."""

    def frames(self, item: Item, /) -> int:
        """How many frames the item has, or is thought to have: what batches are sorted by."""

    def read(self, wanted: Sequence[tuple[Item, int]], /) -> list[np.ndarray]:
        """Features `[T, P, D]` of each item's view of that number."""


class StoredFeatures:
    """Features that `extract` put into the store."""

    def __init__(self, store: FeatureStore, keys: dict[Path, list[bytes]]) -> None:
        self.store, self.keys = store, keys
        self.views = max(map(len, keys.values()), default=1)

    def __contains__(self, item: Item) -> bool:
        return item.path in self.keys

    def content(self, item: Item) -> bytes:
        return self.keys[item.path][0]

    def frames(self, item: Item) -> int:
        return self.store.shape(self.keys[item.path][0])[0]

    def read(self, wanted: Sequence[tuple[Item, int]]) -> list[np.ndarray]:
        return [self.store.get(self.keys[item.path][number]) for item, number in wanted]


class LiveFeatures:
    """Every clip is decoded and goes through the backbone each time it is asked for."""

    def __init__(self, backbone: Backbone, sampling: Sampling, items: Sequence[Item], vary: bool) -> None:
        """Whether every draw is another view. Files that do not open are left out and noted in `errors`."""
        self.views = 1 << 30 if vary else 1
        self.backbone, self.sampling, self.resize = backbone, sampling, Resize(**backbone.resize)
        self.errors: list[MediaError] = []
        self.paths: set[Path] = set()
        for item in items:
            try:
                sample(check(item.path), Sampling(frames=1), Resize(size=32))
                self.paths.add(item.path)
            except MediaError as error:
                self.errors.append(error)

    def __contains__(self, item: Item) -> bool:
        return item.path in self.paths

    def content(self, item: Item) -> bytes:
        return feature_keys(item.path, self.backbone.identity, self.sampling, self.resize)[0]

    def frames(self, item: Item) -> int:
        return item.frames

    def read(self, wanted: Sequence[tuple[Item, int]]) -> list[np.ndarray]:
        clips = [view(sample(item.path, self.sampling, self.resize).pixels, number) for item, number in wanted]
        return list(encode(self.backbone, clips))


def check(path: Path) -> Path:
    """The path, if it is that of a file: reading a pipe could wait for ever. Raises MissingFileError."""
    if not path.is_file():
        raise MissingFileError(path, "is missing or no regular file", "check the name")
    return path
