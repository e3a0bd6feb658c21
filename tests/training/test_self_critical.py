"""Self-critical training makes what people say likelier, and what is worth more is rewarded more."""

import json
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.training.conftest import Run
from video_captioning.data.items import Item
from video_captioning.errors import ConfigError
from video_captioning.models import checkpoint
from video_captioning.training.judge import Judge, Reward
from video_captioning.training.run import train
from video_captioning.training.self_critical import NEVER

REFERENCES = (
    ("a red ball rolls over the grass", "a ball rolls over grass"),
    ("two dogs run on a beach", "dogs are running on the sand"),
    ("a man plays the guitar", "a man is playing a guitar"),
)


def reward(bleu: float = 0.0, unfounded: float = 0.0) -> Reward:
    items = [Item(str(number), Path(str(number)), captions) for number, captions in enumerate(REFERENCES)]
    return Reward(Judge(items, tiny.tokenizer()), bleu, unfounded)


def test_a_true_sentence_is_worth_more_than_another_and_than_a_part_of_it() -> None:
    whole, other, cut = reward()(
        [0, 0, 0],
        [
            ("a red ball rolls over the grass", True),
            ("two dogs run on a beach", True),
            ("a red ball rolls over", False),
        ],
    )
    assert whole > cut > other


def test_a_sentence_that_ends_is_worth_more_than_the_same_cut() -> None:
    ended, cut = reward()([1, 1], [("two dogs run on a beach", True), ("two dogs run on a beach", False)])
    assert ended > cut


def test_bleu_counts_beside_cider_as_wanted() -> None:
    captions = [("a man plays the guitar", True), ("a man", True)]
    alone, more = reward()([2, 2], captions), reward(0.5)([2, 2], captions)
    assert more[0] - alone[0] == pytest.approx(0.5)
    assert more[1] - alone[1] == pytest.approx(0.0, abs=0.01)


def test_words_that_nobody_used_cost_as_wanted() -> None:
    captions = [("a man plays the guitar", True), ("a man plays the piano", True), ("a man", False)]
    difference = reward()([2, 2, 2], captions) - reward(unfounded=3.0)([2, 2, 2], captions)
    assert difference == pytest.approx([0.0, 3.0 / 6, 0.0])  # one word of five and the end


def measured(out: Path, name: str) -> list[float]:
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [row[name] for row in rows if name in row]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["attention", "advanced"])
def test_rewards_rise(run: Run, kind: str) -> None:
    first = run("training.max_epochs=2", "training.ema=0.5", weight=10, kind=kind)
    scst = ["training=scst", f"training.initial={first}", "training.max_epochs=6", "training.learning_rate=1e-3"]
    last = run(*scst, "training.ema=0.5", out="scst", weight=10, kind=kind)
    rewards, scores = measured(last.parent, "reward"), measured(last.parent, "val_cider")
    assert rewards[-1] > 1.5 * rewards[0]
    assert scores[-1] > measured(first.parent, "val_cider")[-1]
    assert checkpoint.load(last)[1].config["training"]["objective"] == "self_critical"


def test_what_is_never_said_learns_nothing(run: Run) -> None:
    words = ["model.tokenizer=word", "model.min_count=2", "training.ema=0"]
    first = run(*words, "training.max_epochs=3", weight=3)
    last = run(
        "training=scst", f"training.initial={first}", *words, "training.learning_rate=1e-2", out="scst", weight=3
    )
    before, after = (checkpoint.load(path)[0].state_dict()["bias"] for path in (first, last))
    never = torch.tensor(NEVER)
    assert torch.equal(before[never], after[never])
    assert not torch.equal(before, after)


def test_references_keep_what_is_rewarded_near_what_people_say(run: Run) -> None:
    first = run("training.max_epochs=2", weight=3)
    scst = ["training=scst", f"training.initial={first}", "training.max_epochs=2", "training.learning_rate=1e-3"]
    alone = run(*scst, "training.ema=0", out="alone", weight=3)
    beside = run(*scst, "training.ema=0", "training.cross_entropy=2", out="beside", weight=3)
    assert measured(beside.parent, "val_loss")[-1] < measured(alone.parent, "val_loss")[-1]


def test_it_needs_a_checkpoint_to_start_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.initial is missing"):
        train("advanced", ["training=scst", "dataset.train=captions.tsv", f"out={tmp_path / 'run'}"])
