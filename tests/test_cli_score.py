"""`vidcap score`: what is printed and written, and what is said where files do not fit together."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from video_captioning.cli import vidcap
from video_captioning.metrics.score import score

REFERENCES = {
    "one": ["a man is riding a horse", "someone rides a brown horse"],
    "two": ["a dog runs over the grass", "a dog is running"],
    "three": ["a woman slices an onion", "someone is cutting vegetables"],
}
HYPOTHESES = {"one": "A man is riding a horse.", "two": "a dog is jumping", "three": "a man is talking"}
OTHERS = {"one": "a man is talking", "two": "a man is talking", "three": "a man is talking"}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes JSON into the working folder."""
    monkeypatch.chdir(tmp_path)

    def into(name: str, content: Any) -> Path:
        Path(name).write_text(json.dumps(content))
        return Path(name)

    into("refs.json", REFERENCES)
    into("hyps.json", HYPOTHESES)
    into("others.json", OTHERS)
    return into


def run(*arguments: str) -> Result:
    return CliRunner().invoke(vidcap, ["score", *arguments])


def failure(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 1
    return str(result.exception)


def test_the_table_has_every_metric_with_its_interval(write: Write) -> None:
    result = run("refs.json", "hyps.json")
    assert result.exit_code == 0, result.output
    found = score(REFERENCES, HYPOTHESES)
    rows = {line.split("  ")[0].strip(): line for line in result.stdout.splitlines() if line.strip()}
    assert list(found.scores) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D"]
    for name, value in found.scores.items():
        interval = found.intervals[name]
        assert f"{value:.4f}  [{interval.low:.4f}, {interval.high:.4f}]" in rows[name]
    assert "33.3%: a man is riding a horse" in rows["most repeated"]
    assert "comparable on this very set alone" in result.stderr, "three ids make no benchmark"


def test_json_is_what_the_api_gives(write: Write) -> None:
    assert (
        json.loads(run("refs.json", "hyps.json", "--format", "json").stdout) == score(REFERENCES, HYPOTHESES).to_dict()
    )


def test_rows_for_a_readme_and_a_paper(write: Write) -> None:
    found = score(REFERENCES, HYPOTHESES).scores
    heading, rule, row = run("refs.json", "hyps.json", "--format", "markdown").stdout.splitlines()
    assert heading == f"| system | {' | '.join(found)} |"
    assert rule.count("---:") == len(found)
    assert row == f"| hyps.json | {' | '.join(f'{value:.4f}' for value in found.values())} |"
    comment, row = run("refs.json", str(write("my_50%.json", HYPOTHESES)), "--format", "latex").stdout.splitlines()
    assert comment.startswith("% system & BLEU-1")
    assert row == rf"my\_50\%.json & {' & '.join(f'{100 * value:.1f}' for value in found.values())} \\"


def test_two_systems_are_compared(write: Write) -> None:
    result = run("refs.json", "hyps.json", "--compare", "others.json")
    assert "100.0%: a man is talking" in result.stdout
    found = json.loads(run("refs.json", "hyps.json", "--compare", "others.json", "--format", "json").stdout)
    assert found["systems"]["others.json"] == score(REFERENCES, OTHERS).to_dict()
    assert all(0.2 < value <= 1 for value in found["p"].values()), "three captions prove nothing"
    assert run("refs.json", "hyps.json", "--compare", "others.json", "--format", "markdown").stdout.count("\n") == 5
    assert run("refs.json", "hyps.json", "--compare", "others.json", "--format", "latex").stdout.count("\n") == 4


def test_scores_of_each_caption(write: Write) -> None:
    assert run("refs.json", "hyps.json", "--per-item", "items.csv", "-o", "scores.txt").stdout == ""
    assert "CIDEr-D" in Path("scores.txt").read_text()
    with Path("items.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["caption"]) for row in rows] == list(HYPOTHESES.items())
    segments = score(REFERENCES, HYPOTHESES).segments
    for name, values in segments.items():
        assert [float(row[name]) for row in rows] == pytest.approx(list(values), abs=1e-6)


def test_a_missing_id_is_no_silent_skip(write: Write) -> None:
    write("few.json", {name: HYPOTHESES[name] for name in ("one", "two")})
    message = failure("refs.json", "few.json")
    assert message == (
        "few.json: has no caption for 1 of the 3 ids of refs.json, such as three; "
        "add them, or score the ids that all files have with --common"
    )
    assert "refs.json: has no caption for 1 of the 4 ids" in failure(
        "refs.json", str(write("x.json", {**HYPOTHESES, "4": "a"}))
    )
    result = run("refs.json", "few.json", "--common", "--format", "json")
    assert json.loads(result.stdout)["items"] == 2
    assert "2 ids are scored" in result.stderr
    assert "few.json: has no caption" in failure("refs.json", "hyps.json", "--compare", "few.json")
    assert "give files with the same ids" in failure("refs.json", str(write("none.json", {"z": "a"})), "--common")


def test_what_is_said_of_bad_captions(write: Write) -> None:
    result = run("refs.json", str(write("dots.json", {**HYPOTHESES, "two": " ... "})))
    assert result.exit_code == 0
    assert "dots.json: 1 captions without a word are scored as such, such as that of two" in result.stderr
    assert "2 captions of id two" in failure("refs.json", str(write("many.json", {**HYPOTHESES, "two": ["a", "b"]})))
    assert "id two holds a number for a caption" in failure(
        "refs.json", str(write("no.json", {**HYPOTHESES, "two": 5}))
    )
    assert "absent.json: cannot be read" in failure("refs.json", "absent.json")


def test_a_larger_set_lends_its_weights_of_words(write: Write) -> None:
    many = {**REFERENCES, **{str(number): ["a cat sleeps"] for number in range(40)}}
    result = run("refs.json", "hyps.json", "--idf", str(write("many.json", many)), "--format", "json")
    assert "not comparable with published figures" in result.stderr
    lent = json.loads(result.stdout)["scores"]
    own = score(REFERENCES, HYPOTHESES).scores
    assert lent["CIDEr-D"] != own["CIDEr-D"] and lent["BLEU-4"] == own["BLEU-4"]


def test_novel_captions_are_counted(write: Write) -> None:
    result = run("refs.json", "hyps.json", "--known", str(write("train.json", {"x": ["A man is talking!"]})))
    assert "novel captions" in result.stdout and "66.7%" in result.stdout


def test_what_is_not_installed_is_left_out_aloud(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_captioning.metrics.spice.shutil.which", lambda name: None)
    result = run("refs.json", "hyps.json", "--spice")
    assert result.exit_code == 0 and "SPICE is left out, Java is not installed" in result.stderr
