"""Draws follow the weights, depend on seed and epoch alone, and become batches in which padding is marked."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from video_captioning.data import dataset as room
from video_captioning.data.dataset import CaptionDataset, CaptionSampler, Draw, collate, consensus_weights
from video_captioning.data.features import StoredFeatures
from video_captioning.data.items import Item
from video_captioning.data.store import FeatureStore
from video_captioning.models.backbone import Backbone

GRID = 3
FRAMES = (1, 4, 2, 4, 1, 3)
WORDS = ("a red ball", "two dogs run", "the sea", "a man", "grass", "a man plays the guitar", "a ball rolls")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    with FeatureStore(tmp_path_factory.mktemp("store")) as store:
        rng = np.random.default_rng(0)
        store.put({bytes([number]): rng.normal(size=(frames, 1 + GRID**2, 6)) for number, frames in enumerate(FRAMES)})
        yield store


def dataset(store: FeatureStore, weights: list[float] | None = None, max_tokens: int = 20) -> CaptionDataset:
    """Items of 1 to 6 captions each."""
    weights = weights or [1.0] * len(FRAMES)
    items = [
        Item(str(number), Path(str(number)), WORDS[: 1 + number % 6], weight) for number, weight in enumerate(weights)
    ]
    keys = {item.path: [bytes([number % len(FRAMES)])] for number, item in enumerate(items)}
    return CaptionDataset(items, StoredFeatures(store, keys), tiny.tokenizer(), max_tokens, GRID)


def draws(data: CaptionDataset, epoch: int = 0, batch_size: int = 4, captions: int = 3, seed: int = 0) -> list[Draw]:
    sampler = CaptionSampler(data, batch_size, captions, True, seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert {len(batch) for batch in batches} <= {batch_size, sum(map(len, batches)) % batch_size or batch_size}
    return [draw for batch in batches for draw in batch]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=40), st.integers(0, 99), st.integers(0, 99))
def test_an_epoch_draws_each_item_as_often_as_its_weight_says(
    store: FeatureStore, weights: list[float], seed: int, epoch: int
) -> None:
    drawn = draws(dataset(store, weights), epoch, seed=seed)
    counts = Counter(index for index, *_ in drawn)
    total = max(1, round(sum(weights)))
    assert len(drawn) == total
    for index, weight in enumerate(weights):
        assert abs(counts[index] - weight * total / sum(weights)) < 1 + 1e-6


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_captions_are_distinct_and_there(store: FeatureStore, batch_size: int, captions: int, epoch: int) -> None:
    data = dataset(store)
    for index, chosen, *_ in draws(data, epoch, batch_size, captions):
        there = len(data.items[index].captions)
        assert len(chosen) == len(set(chosen)) == min(captions, there)
        assert set(chosen) <= set(range(there))


def test_an_epoch_is_known_by_seed_and_number(store: FeatureStore) -> None:
    data = dataset(store, [3.0] * 6)
    first = draws(data, 4)
    assert draws(data, 4) == first
    assert draws(data, 5) != first
    assert draws(data, 4, seed=1) != first


def test_in_time_every_caption_is_drawn_and_both_sides_are_seen(store: FeatureStore) -> None:
    data = dataset(store)
    seen = {(index, caption) for epoch in range(40) for index, chosen, *_ in draws(data, epoch) for caption in chosen}
    assert seen == {(index, caption) for index, item in enumerate(data.items) for caption in range(len(item.captions))}
    assert {draw.mirror for epoch in range(9) for draw in draws(data, epoch)} == {False, True}


def test_without_mirroring_nothing_is_mirrored(store: FeatureStore) -> None:
    assert not any(draw.mirror for batch in CaptionSampler(dataset(store), 2, 1, False, 0) for draw in batch)


def test_clips_of_a_batch_are_alike_in_length(store: FeatureStore) -> None:
    data = dataset(store, [8.0] * 6)
    sampler = CaptionSampler(data, 8, 1, False, 0)
    lengths = [[data.frames[index] for index, *_ in batch] for batch in sampler]
    assert sum(max(batch) * len(batch) - sum(batch) for batch in lengths) < 8, "frames of padding in 48 clips"


def test_items_without_features_are_left_out(store: FeatureStore) -> None:
    items = [Item(name, Path(name), ("the sea",)) for name in "ab"]
    data = CaptionDataset(items, StoredFeatures(store, {Path("b"): [bytes([2])]}), tiny.tokenizer(), 20, GRID)
    assert [item.id for item in data.items] == ["b"]
    assert len(data) == 1
    assert np.array_equal(data[Draw(0, (0,), False, 0)].features, store.get(bytes([2])))


def test_a_picture_stands_still_and_a_clip_stays_as_it_is(store: FeatureStore) -> None:
    picture, clip = (Item(name, Path(name), ("the sea",), frames=4) for name in ("picture", "clip"))
    keys = {picture.path: [bytes([0])], clip.path: [bytes([5])]}
    data = CaptionDataset([picture, clip], StoredFeatures(store, keys), tiny.tokenizer(), 20, GRID)
    assert data.frames == [4, 3]
    assert np.array_equal(data[Draw(0, (0,), False, 0)].features, store.get(bytes([0])).repeat(4, 0))
    assert np.array_equal(data[Draw(1, (0,), False, 0)].features, store.get(bytes([5])))


def test_a_long_caption_is_cut_and_still_ends(store: FeatureStore) -> None:
    data = dataset(store, max_tokens=5)
    for captions in data.captions:
        for tokens in captions:
            assert (tokens[0], tokens[-1]) == (tiny.tokenizer().bos, tiny.tokenizer().eos)
            assert len(tokens) <= 5


def test_mirrored_features_are_those_of_the_mirrored_picture(tmp_path: Path) -> None:
    backbone = Backbone(str(tiny.backbone()), grid=2)
    model = backbone.model
    torch.nn.init.zeros_(model.embeddings.position_embeddings)  # so that no place is known by itself
    projection = model.embeddings.patch_embeddings.projection.weight
    projection.data = (projection + projection.flip(3)) / 2  # nor a patch from its mirror image
    picture = torch.randint(0, 256, (1, tiny.SIDE, tiny.SIDE, 3), dtype=torch.uint8)
    with torch.inference_mode():
        plain, mirrored = backbone(picture), backbone(picture.flip(2))
    assert not torch.allclose(plain, mirrored, atol=1e-2)
    with FeatureStore(tmp_path) as store:
        store.put({b"key": plain.numpy()})
        item = Item("a", Path("a"), ("the sea",))
        data = CaptionDataset([item], StoredFeatures(store, {item.path: [b"key"]}), tiny.tokenizer(), 20, backbone.grid)
        found = data[Draw(0, (0,), True, 0)].features
    assert np.allclose(found, mirrored, atol=1e-2)


def test_features_without_a_grid_are_never_mirrored(tmp_path: Path) -> None:
    with FeatureStore(tmp_path) as store:
        features = np.arange(4.0).reshape(1, 1, 4)
        store.put({b"key": features})
        item = Item("a", Path("a"), ("the sea",))
        data = CaptionDataset([item], StoredFeatures(store, {item.path: [b"key"]}), tiny.tokenizer(), 20, GRID)
        assert np.array_equal(data[Draw(0, (0,), True, 0)].features, features)


def test_a_batch_marks_its_padding(store: FeatureStore) -> None:
    data = dataset(store)
    chosen = [Draw(0, (0,), False, 0), Draw(3, (2, 0, 1), False, 0), Draw(5, (4, 3), False, 0)]
    batch = collate([data[draw] for draw in chosen])
    assert batch.features.dtype == torch.float32
    assert batch.features.shape == (3, 4, 1 + GRID**2, 6)
    assert batch.frame_mask.sum(1).tolist() == [1, 4, 3]
    assert torch.equal(batch.features != 0, batch.frame_mask[..., None, None].expand_as(batch.features))
    tokenizer = tiny.tokenizer()
    for row, (index, captions, *_) in enumerate(chosen):
        assert np.array_equal(batch.features[row, : FRAMES[index]], store.get(bytes([index])))
        for column in range(3):
            tokens = [token for token in batch.tokens[row, column].tolist() if token != tokenizer.pad]
            if column >= len(captions):
                assert not tokens, "a missing caption is all padding"
            else:
                assert tokens == [tokenizer.bos, *tokenizer.encode(WORDS[captions[column]]), tokenizer.eos]
                assert batch.tokens[row, column, : len(tokens)].tolist() == tokens, "padding is at the end"


def test_captions_that_agree_count_more() -> None:
    agreed = "a man plays the guitar"
    captions = (agreed, agreed, "a person plays the guitar", "my birthday")
    items = [Item("a", Path("a"), captions), Item("b", Path("b"), ("the sea",)), Item("c", Path("c"), ("x", "y"))]
    first, alone, apart = consensus_weights(items, 1.0)
    assert first[0] == first[1] > first[2] > first[3] == 0
    assert sum(first) == pytest.approx(4)
    assert alone == [1.0]
    assert apart == [1.0, 1.0], "where none agree all count alike"
    half = consensus_weights(items, 0.5)[0]
    assert half == pytest.approx([(1 + weight) / 2 for weight in first])


def test_views_are_drawn_for_learning_and_never_for_validation(tmp_path: Path) -> None:
    with FeatureStore(tmp_path) as store:
        keys = {Path(name): [f"{name}{view}".encode() for view in range(3)] for name in "ab"}
        store.put({key: np.full((1, 5, 4), float(view)) for each in keys.values() for view, key in enumerate(each)})
        items = [Item(name, Path(name), ("the sea",)) for name in "ab"]
        data = CaptionDataset(items, StoredFeatures(store, keys), tiny.tokenizer(), 20, 2)
        seen = {draw.view for epoch in range(20) for draw in draws(data, epoch)}
        assert seen == {0, 1, 2}
        assert {float(data[Draw(1, (0,), False, view)].features.mean()) for view in seen} == {0.0, 1.0, 2.0}
        plain = CaptionSampler(data, 2, 1, False, 0, views=False)
        assert {draw.view for batch in plain for draw in batch} == {0}


@pytest.mark.parametrize(("items", "size", "processes"), [(7, 2, 2), (8, 2, 2), (1, 4, 3), (13, 3, 4)])
def test_processes_share_an_epoch(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, items: int, size: int, processes: int
) -> None:
    data = dataset(store, [1.0] * items)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(room, "world", lambda rank=rank: (rank, processes))
        sampler = CaptionSampler(data, size, 1, False, 0)
        shares.append([draw.item for batch in sampler for draw in batch])
        assert len(list(sampler)) == len(sampler) == -(-items // (size * processes))
    assert {item for share in shares for item in share} == set(range(items))
