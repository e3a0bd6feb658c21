"""`vidcap evaluate` and `evaluate`: what is scored, printed and written, and what is said of bad input."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import video_captioning
from tests import tiny
from tests.conftest import MakeClip
from video_captioning.captioner import Captioner
from video_captioning.cli import vidcap
from video_captioning.data.items import Item, read_folder
from video_captioning.decoding import Decoding
from video_captioning.errors import DataError, MissingExtraError, VidcapError
from video_captioning.evaluation.evaluate import evaluate
from video_captioning.frames import Sampling
from video_captioning.metrics.score import score

DEMO = Path(__file__).parents[2] / "examples" / "demo.mp4"
FAST = ("--beam", "1", "--max-tokens", "8", "--frames", "1")
QUICK = Decoding(beam=1, max_tokens=8)
FEW = Sampling(frames=2, keyframes=True)
REFERENCES = {
    "demo": ["a cup of coffee on a table", "a cup with a spoon"],
    "bars": ["black and white bars", "a pattern"],
    "more": ["a screen", "stripes on a screen"],
}


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return video_captioning.load()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> dict[str, Path]:
    """Three clips, by their ids."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        "demo": DEMO,
        "bars": make_clip(folder / "bars.mp4", 5),
        "more": make_clip(folder / "more.mp4", 40, size=(96, 160)),
    }


@pytest.fixture
def items(clips: dict[str, Path]) -> list[Item]:
    return [Item(name, path, tuple(REFERENCES[name])) for name, path in clips.items()]


@pytest.fixture
def listing(tmp_path: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a listing of the three clips, with further rows, into the working folder, and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(*further: dict[str, Any], name: str = "clips.jsonl") -> str:
        rows = [{"id": name, "file": str(clips[name]), "captions": REFERENCES[name]} for name in clips]
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in [*rows, *further]))
        return name

    return write


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(vidcap, ["evaluate", *map(str, arguments), *FAST])


def failure(*arguments: str | Path) -> str:
    """The one line that is said of an error."""
    result = run(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, VidcapError), result.exception
    return str(result.exception)


# What is scored


def test_captions_are_those_of_the_captioner_and_scores_those_of_score(captioner: Captioner, items: list[Item]) -> None:
    found = evaluate(captioner, items, QUICK)
    said = {item.id: captioner(item.path, decoding=QUICK).text for item in items}
    assert found.hypotheses == said
    assert found.references == REFERENCES
    expected = score(REFERENCES, said)
    assert found.scores.to_dict() == expected.to_dict()
    assert found.to_dict()["scores"] == expected.scores
    assert found.to_dict()["model"]["sha256"] == captioner.bundle.sha256
    assert found.decoding == QUICK and found.sampling == captioner.bundle.sampling


def test_the_bundle_decides_where_nothing_is_asked_for(captioner: Captioner, items: list[Item]) -> None:
    found = evaluate("default", items[:1])
    assert found.hypotheses == {"demo": captioner(DEMO).text}
    assert found.decoding == captioner.bundle.decoding


def test_shuffled_each_item_has_the_caption_of_the_next(captioner: Captioner, items: list[Item]) -> None:
    straight = list(evaluate(captioner, items, QUICK).hypotheses.values())
    shuffled = evaluate(captioner, items, QUICK, shuffle=True)
    assert list(shuffled.hypotheses.values()) == straight[1:] + straight[:1]
    assert list(shuffled.references) == list(REFERENCES)
    assert shuffled.captions[0].video.path == str(items[1].path)


def test_what_cannot_be_captioned_is_named_and_the_others_are_scored(
    captioner: Captioner, items: list[Item], tmp_path: Path
) -> None:
    (tmp_path / "cut.mp4").write_bytes(DEMO.read_bytes()[:5000])
    broken = Item("cut", tmp_path / "cut.mp4", ("a cup",))
    steps: list[int] = []
    found = evaluate(captioner, [items[0], broken, items[1]], QUICK, advance=lambda: steps.append(1))
    assert [item.id for item in found.items] == ["demo", "bars"] == list(found.scores.ids)
    assert list(found.failed) == ["cut"] and "cut.mp4" in found.to_dict()["failed"]["cut"]
    assert found.hypotheses == evaluate(captioner, items[:2], QUICK).hypotheses
    assert len(steps) == 3
    with pytest.raises(VidcapError, match=r"nothing could be captioned: .*cut\.mp4"):
        evaluate(captioner, [broken], QUICK)
    with pytest.raises(VidcapError, match="no items"):
        evaluate(captioner, [], QUICK)


def test_two_items_of_one_id_are_refused(captioner: Captioner, items: list[Item]) -> None:
    twice = Item("demo", items[1].path, ("a cup",))
    with pytest.raises(DataError, match=r"bars\.mp4: has the id demo, which .*demo\.mp4 has too"):
        evaluate(captioner, [items[0], twice], QUICK)


@pytest.mark.slow
def test_real_clips_score_far_better_than_with_each_others_captions(captioner: Captioner, shared: Path) -> None:
    items = read_folder(shared / "data" / "clips" / "validation.jsonl")
    straight, shuffled = (evaluate(captioner, items, QUICK, shuffle, sampling=FEW) for shuffle in (False, True))
    assert len(straight.items) == len(items)
    assert straight.scores.scores["CIDEr-D"] > 2 * shuffled.scores.scores["CIDEr-D"]
    interval = straight.scores.intervals["CIDEr-D"]
    assert interval.low < straight.scores.scores["CIDEr-D"] < interval.high


# The command


def test_the_table_and_the_files(listing: Callable[..., str]) -> None:
    result = run("default", listing(), "-o", "out/report")
    assert result.exit_code == 0, result.output
    out = Path("out/report")
    assert {path.name for path in out.iterdir()} == {
        *("report.html", "scores.json", "captions.jsonl", "refs.json", "hyps.json")
    }
    scores = json.loads((out / "scores.json").read_text())
    for name, value in scores["scores"].items():
        assert f"{name} " in result.stdout and f"{value:.4f}" in result.stdout
    assert scores["items"] == 3 and scores["data"] == "clips.jsonl" and scores["decoding"]["max_tokens"] == 8
    rows = [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == list(REFERENCES)
    assert [row["references"] for row in rows] == list(REFERENCES.values())
    assert {row["id"]: row["text"] for row in rows} == json.loads((out / "hyps.json").read_text())
    mean = sum(row["scores"]["CIDEr-D"] for row in rows) / 3
    assert mean == pytest.approx(scores["scores"]["CIDEr-D"])
    assert "comparable on this very set alone" in result.stderr


@pytest.mark.parametrize("hypotheses", ["hyps.json", "captions.jsonl"])
def test_vidcap_score_reads_what_is_written(listing: Callable[..., str], hypotheses: str) -> None:
    printed = run("default", listing(), "-o", "out", "--json")
    again = CliRunner().invoke(vidcap, ["score", "out/refs.json", f"out/{hypotheses}", "--format", "json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout).items() <= json.loads(printed.stdout).items()
    assert printed.stdout == Path("out/scores.json").read_text()


def test_limit_and_decoding_are_passed_on(listing: Callable[..., str]) -> None:
    result = run("default", listing(), "--json", "--limit", "2", "--no-repeat-ngram", "2")
    found = json.loads(result.stdout)
    assert found["items"] == 2
    assert found["sampling"]["frames"] == 1
    assert found["decoding"]["beam"] == 1 and found["decoding"]["no_repeat_ngram"] == 2
    assert run("default", listing(), "--alternatives", "9").exit_code == 2


def test_shuffle_is_told(listing: Callable[..., str]) -> None:
    straight, shuffled = (json.loads(run("default", listing(), "--json", *more).stdout) for more in ((), ["--shuffle"]))
    assert shuffled["shuffled"] and not straight["shuffled"]
    assert shuffled["scores"] != straight["scores"]


@pytest.mark.parametrize(
    ("split", "path"),
    [
        ("msrvtt:test", "data/test.jsonl"),
        ("msvd:val", "data/msvd/val.jsonl"),
        ("folder:train", "data/folder/train.jsonl"),
    ],
)
def test_a_split_by_name_is_the_listing_that_prepare_wrote(listing: Callable[..., str], split: str, path: str) -> None:
    name = split.partition(":")[0]
    assert failure("default", split) == (
        f"{split}: is not prepared: there is no {path}; run vidcap prepare {name} first"
    )
    listing(name=path)
    assert json.loads(run("default", split, "--json", "--limit", "1").stdout)["data"] == split


def test_a_checkpoint_is_measured_as_the_bundle_that_ships(listing: Callable[..., str]) -> None:
    name = listing()
    found = run(tiny.checkpoint(), name, "--json")
    assert found.exit_code == 0, found.output
    assert "is exported to a bundle first" in found.stderr
    shipped = run(tiny.bundle(), name, "--json")
    assert json.loads(found.stdout)["scores"] == json.loads(shipped.stdout)["scores"]
    assert json.loads(found.stdout)["model"]["name"] == "vit"


# Bad input


def test_an_undecodable_clip_among_good_ones_is_status_1(listing: Callable[..., str]) -> None:
    Path("noise.mp4").write_bytes(b"no video at all" * 100)
    missing = {"id": "gone", "file": "gone.mp4", "captions": ["nothing"]}
    result = run("default", listing({"file": "noise.mp4", "caption": "noise"}, missing), "-o", "out")
    assert result.exit_code == 1
    assert "vidcap: noise.mp4: holds nothing that FFmpeg knows" in result.stderr
    assert "vidcap: gone.mp4: there is no such file" in result.stderr
    assert "2 of 5 items could not be captioned" in result.stderr
    assert list(json.loads(Path("out/hyps.json").read_text())) == list(REFERENCES)
    assert set(json.loads(Path("out/scores.json").read_text())["failed"]) == {"noise", "gone"}


def test_bad_names_and_listings_are_one_line(listing: Callable[..., str]) -> None:
    name = listing()
    assert "no.jsonl: cannot be read (No such file or directory)" in failure("default", "no.jsonl")
    assert failure("default", "msvd:dev") == "msvd:dev: no such split; give msvd: and one of train, val, test"
    assert "no such bundle" in failure("nothing", name)
    Path("empty.jsonl").write_text("\n")
    assert "empty.jsonl: no rows" in failure("default", "empty.jsonl")


def test_a_checkpoint_that_is_cut_short(listing: Callable[..., str]) -> None:
    Path("cut.ckpt").write_bytes(tiny.checkpoint().read_bytes()[:-1000])
    assert "cut.ckpt: cannot be read, perhaps cut short" in failure("cut.ckpt", listing())
    assert "gone.ckpt: no such checkpoint" in failure("gone.ckpt", listing())


def test_a_checkpoint_without_torch_names_the_part_to_install(
    listing: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "video_captioning.export.onnx", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = run("a.ckpt", listing())
    assert isinstance(result.exception, MissingExtraError) and "vidcap[export]" in str(result.exception)


def test_an_output_that_cannot_be_had_is_told_before_any_work(listing: Callable[..., str]) -> None:
    name = listing({"file": "gone.mp4", "caption": "nothing"})
    Path("file").write_text("mine")
    Path("full").mkdir()
    for output, why in {"file/out": "cannot be made", "file": "exists already", "full": "exists already"}.items():
        result = run("default", name, "-o", output)
        assert result.exit_code == 1 and str(result.exception).startswith(f"{output}: {why}")
        assert "gone.mp4" not in result.stderr, "nothing was captioned"
    assert Path("file").read_text() == "mine"


def test_nothing_is_left_of_an_evaluation_that_fails(listing: Callable[..., str]) -> None:
    Path("bad.jsonl").write_text('{"file": "gone.mp4", "caption": "nothing"}\n')
    assert failure("default", "bad.jsonl", "-o", "out").startswith("nothing could be captioned: gone.mp4")
    assert [path.name for path in Path().iterdir()] == ["bad.jsonl"]


def test_meteor_is_left_out_aloud(listing: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_captioning.metrics.meteor.why_not", lambda: "its tables are not installed")
    result = run("default", listing(), "-o", "out")
    assert result.exit_code == 0, result.output
    assert "METEOR is left out, its tables are not installed" in result.stderr
    assert "METEOR" not in result.stdout + Path("out/report.html").read_text()


def test_files_are_relative_to_a_listing_of_rows(tmp_path: Path, listing: Callable[..., str]) -> None:
    shutil.copy(DEMO, tmp_path / "here.mp4")
    Path("captions.tsv").write_text("file\tcaption\nhere.mp4\ta cup\nhere.mp4\tcoffee\n")
    result = run("default", "captions.tsv", "-o", "out")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("out/refs.json").read_text()) == {"here": ["a cup", "coffee"]}
