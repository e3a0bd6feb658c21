"""The commands, called in this process: what they print and write, and which clips they take."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import video_captioning
from tests import tiny
from tests.conftest import MakeClip
from video_captioning.bundle import locate
from video_captioning.cli import COMMANDS, vidcap
from video_captioning.cli.extras import needs
from video_captioning.cli.output import clock
from video_captioning.decoding import Decoding
from video_captioning.errors import BundleError, CheckpointError, ConfigError, MissingExtraError
from video_captioning.frames import Sampling

FAST = ("--beam", "1", "--max-tokens", "4", "--frames", "1")
ONE_FRAME = Sampling(max_frames=8, frames=1)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(vidcap, [str(argument) for argument in arguments])


def caption(*arguments: str | Path) -> Result:
    return run("caption", *arguments, *FAST)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 5)


@pytest.fixture(scope="module")
def sentence(clip: Path) -> str:
    """What the default model says about `clip`."""
    return caption(clip).output.rstrip("\n")


@pytest.fixture
def folder(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def add(folder: Path, clip: Path) -> Callable[..., None]:
    """Puts the clip into the folder under the given names."""

    def link(*names: str) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(clip, folder / name)

    return link


def paths(result: Result) -> list[str]:
    return [line.split("\t")[0] for line in result.stdout.splitlines()]


# Formats


def test_text_is_the_sentence_or_the_path_and_the_sentence(add: Callable[..., None], sentence: str) -> None:
    add("a.mp4", "b.mp4", "folder/c.mp4")
    assert sentence.endswith(".")
    assert sentence[0].isupper()
    assert caption("a.mp4").stdout == f"{sentence}\n"
    assert caption("b.mp4", "a.mp4").stdout == f"b.mp4\t{sentence}\na.mp4\t{sentence}\n"
    assert caption("folder").stdout == f"folder/c.mp4\t{sentence}\n"
    assert caption("folder/*").stdout == f"folder/c.mp4\t{sentence}\n"


def test_json_is_what_the_api_gives(add: Callable[..., None]) -> None:
    add("a.mp4", "b.mp4")
    captioner = video_captioning.load()
    expected = captioner("a.mp4").to_dict()
    one, many, lines = (
        run("caption", *options).stdout
        for options in (["a.mp4", "--format=json"], [".", "--format=json"], [".", "--format=jsonl"])
    )

    def same(made: dict[str, object], name: str) -> bool:
        return {**made, "timings": 0} == {
            **json.loads(json.dumps(expected)),
            "timings": 0,
            "video": {**expected["video"], "path": name},
        }

    assert same(json.loads(one), "a.mp4")
    assert [same(made, name) for made, name in zip(json.loads(many), ["a.mp4", "b.mp4"], strict=True)] == [True, True]
    assert [json.loads(line)["video"]["path"] for line in lines.splitlines()] == ["a.mp4", "b.mp4"]


# Segments


@pytest.fixture
def film(folder: Path, make_clip: MakeClip) -> str:
    """Three scenes of two, three and 0.8 seconds, of which the last is too short."""
    scenes = zip(tiny.pictures(3), (20, 30, 8), strict=True)
    return make_clip(folder / "film.mp4", [picture for picture, length in scenes for _ in range(length)], fps=10).name


def test_segments_as_text(film: str, add: Callable[..., None]) -> None:
    made = list(video_captioning.load().segments(film, decoding=Decoding(beam=1, max_tokens=4), sampling=ONE_FRAME))
    first, second = (one.text for one in made)
    times = ("0:00.0\N{EN DASH}0:02.0", "0:02.0\N{EN DASH}0:05.8")
    assert caption(film, "--segments").stdout == f"{times[0]}\t{first}\n{times[1]}\t{second}\n"
    result = caption(film, "--segments", "--sidecar", "--prefix=So: ", "-o", "out.txt")
    assert result.exit_code == 0, result.output
    said = f"{times[0]}\tSo: {first}\n{times[1]}\tSo: {second}\n"
    assert Path("out.txt").read_text() == Path("film.txt").read_text() == said
    add("a.mp4")
    Path("notes.mp4").write_text("no video")
    result = caption("a.mp4", "notes.mp4", film, "--segments", "--sidecar", "--overwrite")
    assert result.exit_code == 1
    assert paths(result) == ["a.mp4", film, film]
    assert result.stderr.startswith("vidcap: notes.mp4: holds nothing")
    assert Path("a.txt").read_text().startswith("0:00.0\N{EN DASH}0:00.2\t")
    assert not Path("notes.txt").exists()


def test_segments_as_json(film: str) -> None:
    array = json.loads(caption(film, "--segments", "--format=json").stdout)
    lines = [json.loads(line) for line in caption(film, "--segments", "--format=jsonl").stdout.splitlines()]
    for made in (array, lines):
        assert [one["segment"] for one in made] == [[0, 2], [2, 5.8]]
        assert all(one["segment"][0] <= one["frames"][0] < one["segment"][1] for one in made)
        assert [one["video"]["path"] for one in made] == [film, film]


def test_segments_need_what_finds_them(film: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    result = caption(film, "--segments")
    assert isinstance(result.exception, MissingExtraError)
    assert "vidcap[scenes]" in str(result.exception)
    assert isinstance(caption(film, "--segments", "--keyframes").exception, ConfigError)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0:00.0"), (7.44, "0:07.4"), (59.96, "1:00.0"), (3599.97, "1:00:00.0"), (3723.4, "1:02:03.4")],
)
def test_a_clock(seconds: float, expected: str) -> None:
    assert clock(seconds) == expected


def test_options_override_the_bundle(add: Callable[..., None]) -> None:
    add("a.mp4")
    options = ["--beam=4", "--alternatives=3", "--frames=2", "--min-tokens=2", "--max-tokens=5", "--batch-size=1"]
    made = json.loads(run("caption", "a.mp4", "--format=json", *options).stdout)
    assert len(made["frames"]) == 2
    assert len(made["alternatives"]) == 2
    assert len(json.loads(run("caption", "a.mp4", "--format=json", "--keyframes").stdout)["frames"]) == 1
    drawn = [run("caption", "a.mp4", "--temperature=5", f"--seed={seed}", "--max-tokens=9") for seed in (1, 1, 2)]
    assert drawn[0].stdout == drawn[1].stdout != drawn[2].stdout


def test_alternatives_are_lines_in_text_best_first(add: Callable[..., None]) -> None:
    add("a.mp4", "b.mp4")
    options = ["--alternatives=3", "--max-tokens=4", "--prefix=> "]
    one = run("caption", "a.mp4", *options).stdout.splitlines()
    assert len(set(one)) == 3
    assert all(line.startswith("> ") for line in one)
    both = run("caption", ".", *options).stdout.splitlines()
    assert both == [f"{name}\t{line}" for name in ("a.mp4", "b.mp4") for line in one]


@pytest.mark.parametrize(
    "options",
    [
        *(["--beam=0"], ["--top-k=3"], ["--alternatives=9"], ["--fps=0"], ["--frames=x"], ["--batch-size=0"]),
        *(
            ["--min-confidence=1.1"],
            ["--min-confidence=-1"],
            ["--min-confidence=nan"],
            ["--min-confidence=x"],
            ["--support=-1"],
        ),
        *(["--skip-existing"], ["--overwrite"], ["--format=xml"], ["-o", "out.mp4"], ["-o", "./a clip"], ["--no-such"]),
        ["--sidecar", "-o", "a clip.txt"],
    ],
)
def test_wrong_usage_is_status_2_and_nothing_is_written(add: Callable[..., None], options: list[str]) -> None:
    add("a clip")
    before = os.listdir()  # noqa: PTH208
    result = run("caption", "a clip", *options)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert not result.stdout
    assert os.listdir() == before  # noqa: PTH208


# Tags and confidence


def sure(*arguments: str) -> Result:
    return run("caption", "--model", tiny.sure_bundle(), *arguments)


def test_tags_are_the_last_column_of_text(add: Callable[..., None]) -> None:
    add("a.mp4", "b.mp4")
    made = video_captioning.load(tiny.sure_bundle())("a.mp4", decoding=Decoding(beam=2, alternatives=2))
    tags = ", ".join(tag.name for tag in made.tags or ())
    assert ", " in tags
    options = ("--beam=2", "--no-repeat-ngram=0", "--max-tokens=30", "--alternatives=2")
    lines = [f"{text}\t{tags}\n" for text in (made.text, made.alternatives[0].text)]
    assert sure("a.mp4", "--tags", *options).stdout == "".join(lines)
    both = sure("a.mp4", "b.mp4", "--tags", *options).stdout
    assert both == "".join(f"{name}\t{line}" for name in ("a.mp4", "b.mp4") for line in lines)
    segments = sure("a.mp4", "--segments", "--tags", *options).stdout.splitlines(keepends=True)
    assert [line.split("\t", 1)[1] for line in segments] == lines
    assert all(line.startswith("0:00.0\N{EN DASH}") for line in segments)


def test_json_holds_tags_and_confidence_or_null(add: Callable[..., None]) -> None:
    add("a.mp4")
    made = video_captioning.load(tiny.sure_bundle())("a.mp4")
    for options in ((), ("--tags",)):
        said = json.loads(sure("a.mp4", "--format=jsonl", *options).stdout)
        assert [tag["name"] for tag in said["tags"]] == [tag.name for tag in made.tags or ()]
        assert said["confidence"] == pytest.approx(made.confidence)
    said = json.loads(run("caption", "--model", tiny.bundle(), "a.mp4", "--format=jsonl").stdout)
    assert (said["tags"], said["confidence"], said["words"][0]["confidence"]) == (None, None, None)


def test_less_is_said_where_the_model_is_not_sure(add: Callable[..., None]) -> None:
    add("a.mp4", "b.mp4")
    plain, all_the_same = (sure("a.mp4", *options).stdout for options in ((), ("--min-confidence=0",)))
    assert plain == all_the_same
    result = sure(".", "--min-confidence=1")
    assert (result.exit_code, result.stdout) == (0, "a.mp4\t\nb.mp4\t\n")
    warnings = result.stderr.splitlines()
    assert len(warnings) == 2
    assert warnings[0].startswith("vidcap: warning: a.mp4: the model is not sure enough of any sentence (confidence 0.")
    assert sure("a.mp4", "--segments", "--min-confidence=1").stdout.endswith("\t\n")


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--tags", "the model 'tiny' has no tags; leave out --tags, or choose a model with tags, such as default"),
        ("--min-confidence=0.5", "the model 'tiny' does not tell how sure it is; leave out min_confidence, or"),
    ],
)
def test_a_model_that_has_none_is_one_line(add: Callable[..., None], option: str, problem: str) -> None:
    add("a.mp4")
    for more in ([], ["--segments"]):
        result = run("caption", "--model", tiny.bundle(), "a.mp4", option, *more)
        assert result.exit_code == 1 and not result.stdout
        assert isinstance(result.exception, ConfigError) and str(result.exception).startswith(problem)
        assert "\n" not in str(result.exception)


def test_support_is_an_option(add: Callable[..., None]) -> None:
    add("a.mp4")
    captioner = video_captioning.load(tiny.sure_bundle())
    made = captioner("a.mp4", decoding=Decoding(beam=8, alternatives=8, support=100.0))
    lines = [f"{text}\n" for text in (made.text, *(other.text for other in made.alternatives))]
    options = ("--beam=8", "--alternatives=8", "--no-repeat-ngram=0", "--max-tokens=30")
    assert sure("a.mp4", *options, "--support=100").stdout == "".join(lines) != sure("a.mp4", *options).stdout


def test_models_tells_who_has_tags_and_confidence() -> None:
    found = json.loads(run("models", tiny.sure_bundle(), "--json").stdout)
    assert found["tags"] == {"number": len(tiny.CONCEPTS), "scale": 0.5, "shift": 0.25, "threshold": 0.6}
    assert found["confidence"] == tiny.CONFIDENCE
    assert "tags.threshold" in run("models", tiny.sure_bundle()).stdout
    found = json.loads(run("models", tiny.bundle(), "--json").stdout)
    assert (found["tags"], found["confidence"]) == (None, None)
    assert "sentences" in run("models").stdout


# Which clips


def test_folders_are_walked_for_media_in_order(add: Callable[..., None], folder: Path) -> None:
    add(
        "v/b.MP4", "v/a.mkv", "v/sub/c.webm", "v/.hidden.mp4", "v/.git/d.mp4", "v/notes", "v/._a.mkv", "elsewhere/e.mp4"
    )
    (folder / "v/notes.txt").write_text("no media")
    (folder / "v/link").symlink_to(folder / "elsewhere")
    assert paths(caption("v")) == ["v/a.mkv", "v/b.MP4", "v/sub/c.webm"]


def test_a_file_named_outright_is_tried_whatever_its_ending(add: Callable[..., None]) -> None:
    add("notes", ".hidden", "-i.txt")
    assert paths(caption("--", "notes", ".hidden", "-i.txt")) == ["notes", ".hidden", "-i.txt"]


def test_patterns_are_expanded_but_a_name_that_is_there_wins(add: Callable[..., None]) -> None:
    add("a.mp4", "b.mp4", "[ab].mp4", "deep/er/c.mp4")
    assert paths(caption("?.mp4", "**/c.*")) == ["a.mp4", "b.mp4", "deep/er/c.mp4"]
    assert len(caption("[ab].mp4").stdout.splitlines()) == 1
    assert "\t" not in caption("[ab].mp4").stdout
    assert paths(caption("[ab].*")) == ["a.mp4", "b.mp4"]


def test_a_clip_named_twice_is_captioned_once(add: Callable[..., None], folder: Path) -> None:
    add("v/a.mp4", "v/b.mp4")
    assert paths(caption("v/b.mp4", "v", "./v/../v/a.mp4", folder / "v/a.mp4")) == ["v/b.mp4", "v/a.mp4"]


def test_names_that_mean_no_clip_are_told_and_the_rest_is_captioned(add: Callable[..., None], folder: Path) -> None:
    add("a.mp4")
    (folder / "empty/sub").mkdir(parents=True)
    result = caption("empty", "*.nothing", "", "-", "no such.mp4", "x" * 300, "a.mp4")
    assert result.exit_code == 1
    assert paths(result) == ["a.mp4"]
    assert result.stderr.splitlines() == [
        "vidcap: empty: the folder holds no video or picture; name another, or its files outright",
        "vidcap: *.nothing: nothing matches this pattern; check the pattern",
        "vidcap: '': the name is empty; check what the shell made of it",
        "vidcap: -: standard input is not read; save what comes through it to a file first",
        "vidcap: no such.mp4: there is no such file; check the name",
        f"vidcap: {'x' * 300}: it cannot be opened (File name too long); check the name and the disk",
    ]


# Files that are written


def test_output_is_written_whole(add: Callable[..., None], folder: Path, sentence: str) -> None:
    add("a.mp4", "b.mp4")
    (folder / "kept").write_text("before")
    (folder / "out.txt").symlink_to("kept")
    result = caption("a.mp4", "no such.mp4", "b.mp4", "-o", "out.txt")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (folder / "kept").read_text() == f"a.mp4\t{sentence}\nb.mp4\t{sentence}\n"
    assert (folder / "out.txt").is_symlink()
    assert caption("no such.mp4", "-o", "out.txt").exit_code == 1
    assert "a.mp4" in (folder / "kept").read_text()  # no caption, nothing to write
    assert len(list(folder.iterdir())) == 4


def test_sidecars(add: Callable[..., None], folder: Path, sentence: str) -> None:
    add("v/a.mp4", "v/b.c.mov", "v/Mr. Bean")
    frame = ("--prefix", "A film: ", "--suffix", " (c)")
    result = caption("v", "v/Mr. Bean", "--sidecar", *frame)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 3
    for name in ("a.txt", "b.c.txt", "Mr. Bean.txt"):
        assert (folder / "v" / name).read_text() == f"A film: {sentence} (c)\n"
    assert len(list((folder / "v").iterdir())) == 6


def test_a_sidecar_that_is_there_is_refused_skipped_or_replaced(
    add: Callable[..., None], folder: Path, sentence: str
) -> None:
    add("a.mp4", "b.mp4")
    (folder / "a.txt").write_text("written by hand")
    refused = caption(".", "--sidecar")
    assert refused.exit_code == 1
    assert refused.stderr == ("vidcap: a.mp4: its sidecar a.txt exists already; add --skip-existing or --overwrite\n")
    assert paths(refused) == ["b.mp4"]
    skipped = caption(".", "--sidecar", "--skip-existing")
    assert (skipped.exit_code, skipped.output) == (0, "")
    assert (folder / "a.txt").read_text() == "written by hand"
    assert caption(".", "--sidecar", "--overwrite").exit_code == 0
    assert (folder / "a.txt").read_text() == f"{sentence}\n"


def test_no_two_clips_share_a_sidecar_and_none_is_overwritten_by_one(
    add: Callable[..., None], folder: Path, clip: Path
) -> None:
    add("a.mp4", "a.mov", "b.txt", "b.mp4")
    result = caption("a.mov", folder / "a.mp4", "b.mp4", folder / "b.txt", "--sidecar", "--overwrite")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"vidcap: {folder / 'a.mp4'}: its sidecar would be that of a.mov, too; rename one of them",
        "vidcap: b.mp4: its sidecar would overwrite the clip b.txt; rename that clip",
    ]
    assert paths(result) == ["a.mov", str(folder / "b.txt")]
    assert (folder / "b.txt").read_bytes() == clip.read_bytes()
    assert (folder / "b.txt.txt").exists()


def test_a_sidecar_that_cannot_be_written_is_told_and_the_caption_is_printed(
    add: Callable[..., None], folder: Path
) -> None:
    add("a.mp4", "b.mp4")
    (folder / "a.txt").mkdir()
    result = caption(".", "--sidecar", "--overwrite")
    assert result.exit_code == 1
    assert paths(result) == ["a.mp4", "b.mp4"]
    assert result.stderr.startswith("vidcap: a.txt: cannot be written (Is a directory); ")
    assert sorted(path.name for path in folder.iterdir()) == ["a.mp4", "a.txt", "b.mp4", "b.txt"]


# The other commands


def test_help_of_every_command_fits_a_terminal() -> None:
    for arguments in ([], *([name] for name in COMMANDS), ["export", "onnx"]):
        result = CliRunner().invoke(vidcap, [*arguments, "--help"], terminal_width=80)
        assert result.exit_code == 0
        assert max(map(len, result.stdout.splitlines())) <= 80
        if arguments != ["export"]:
            assert f"vidcap {' '.join(arguments)}" in result.stdout.partition("\n")[2]  # an example


def test_models(tmp_path: Path) -> None:
    listed = json.loads(run("models", "--json").stdout)
    default = next(about for about in listed if Path(about["folder"]) == locate("default"))
    assert default["bytes"] > 1e6
    assert {"name", "version", "kind", "licence", "scores"} <= set(default)
    table = run("models").stdout
    assert default["name"] in table
    assert f"{default['bytes'] / 1e6:.1f}" in table
    assert default["sha256"] in run("models", "default").stdout
    assert json.loads(run("models", locate("default"), "--json").stdout)["sha256"] == default["sha256"]
    assert isinstance(run("models", tmp_path).exception, BundleError)


def test_doctor_finds_everything_well() -> None:
    result = run("doctor", "--json")
    found = json.loads(result.stdout)
    checks = {check["name"]: check for check in found["checks"]}
    assert (result.exit_code, found["ok"]) == (0, True)
    wanted = {"numpy", "av", "onnxruntime", "sentencepiece", "h264", "hevc", "vp9", "av1", "model", "caption"}
    assert {checks[name]["status"] for name in wanted} == {"ok"}
    assert f"doctor found: {checks['caption']['detail']}".count(".'") == 1  # a sentence


def test_doctor_names_what_fails_and_what_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_captioning.bundle.BUILT_IN", tmp_path)
    monkeypatch.setattr("video_captioning.cli.doctor.EXTRAS", {"train": ("no_such_module",)})
    result = run("doctor")
    assert result.exit_code == 1
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    status = {name: (found, detail) for found, name, detail in lines}
    assert {name for name, (found, _) in status.items() if found == "failed"} == {"model", "caption"}
    assert status["extra"][0] == "absent"
    assert "without no_such_module; install it with: pip install 'vidcap[train]'" in status["extra"][1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_completes(shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_VIDCAP_COMPLETE" in script
    word = "cap" if shell == "fish" else "1"  # fish gives the word itself, the others its place
    environment = {"_VIDCAP_COMPLETE": f"{shell}_complete", "COMP_WORDS": "vidcap cap", "COMP_CWORD": word}
    completed = CliRunner().invoke(vidcap, prog_name="vidcap", env=environment)
    assert "caption" in completed.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["train", "advanced"], "train"),
        (["export", "onnx", "last.ckpt", "out", "--name=mine"], "export"),
        (["bundle", "pull", "me/mine", "out"], "hub"),
    ],
)
def test_without_its_extra_a_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], extra: str
) -> None:
    for name in [name for name in sys.modules if name.startswith(("video_captioning.training", "video_captioning.ex"))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("torch", "omegaconf", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)
    error = run(*arguments).exception
    assert isinstance(error, MissingExtraError)
    assert f"pip install 'vidcap[{extra}]'" in str(error)


def test_a_module_of_our_own_that_is_missing_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError), needs("vidcap train", "train"):
        import video_captioning.no_such_room  # noqa: F401


@pytest.mark.slow
def test_train_and_export_reach_their_rooms(folder: Path) -> None:
    (folder / "captions.tsv").write_text("a.mp4\ta cat sits\n")
    shown = run("train", "advanced", "dataset.train=captions.tsv", "training.max_epochs=3", "--show").stdout
    assert "train: captions.tsv" in shown
    assert "max_epochs: 3" in shown
    assert isinstance(run("train", "advanced", "no.such.field=1").exception, ConfigError)
    assert isinstance(run("export", "onnx", "captions.tsv", "out", "--name=mine").exception, CheckpointError)
    assert not (folder / "out").exists()


def test_unknown_command() -> None:
    assert isinstance(vidcap, click.Group)
    result = run("captoin")
    assert result.exit_code == 2
    assert "No such command 'captoin'" in result.stderr
