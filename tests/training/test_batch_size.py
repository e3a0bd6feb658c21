"""The batch grows as long as that pays, and no longer."""

import pytest
import torch

from tests.training.conftest import Run
from video_captioning.models import checkpoint
from video_captioning.training import batch_size as room
from video_captioning.training import run as training


@pytest.mark.parametrize(
    ("speed", "found"),
    [
        ({8: 10, 16: 19, 32: 20, 64: 80}, 16),  # 32 gains less than a tenth: 64 is not tried
        ({8: 10, 16: 20, 32: 40, 64: 80}, 64),
        ({8: 10, 16: 9}, 8),
    ],
)
def test_it_grows_as_long_as_that_pays(monkeypatch: pytest.MonkeyPatch, speed: dict[int, float], found: int) -> None:
    monkeypatch.setattr(room, "seconds", lambda module, batch: len(batch.items) / speed[len(batch.items)])
    monkeypatch.setattr(room, "collate", lambda clips: Sized(len(clips)))
    assert room.find_batch_size(torch.nn.Linear(1, 1), Items(100), 1) == found  # type: ignore[arg-type]


class Items:
    """A hundred items, as far as a batch size needs them."""

    def __init__(self, count: int) -> None:
        self.frames = [1] * count
        self.captions = [[[2, 3]]] * count

    def __len__(self) -> int:
        return len(self.frames)

    def __getitems__(self, draws: list[object]) -> list[object]:
        return draws


class Sized:
    def __init__(self, count: int) -> None:
        self.items = range(count)

    def to(self, device: torch.device) -> "Sized":
        return self


def test_a_run_finds_its_own_and_keeps_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    last = run("training.batch_size=auto")
    size = checkpoint.load(last)[1].config["training"]["batch_size"]
    assert size == 8, "there are no more items"
    monkeypatch.setattr(training, "find_batch_size", None)  # it is not looked for again
    run("training.batch_size=auto", "training.max_epochs=2")
    assert checkpoint.load(last)[1].config["training"]["batch_size"] == size
