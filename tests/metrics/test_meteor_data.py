"""The tables of METEOR: made once, whole or not at all, and made again where they are damaged."""

from __future__ import annotations

import gzip
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from video_captioning.errors import DataError, MissingExtraError, OutputError
from video_captioning.metrics import meteor_data
from video_captioning.metrics.meteor_data import Sources, cache_file, open_tables, to_be_made
from video_captioning.metrics.meteor_lexicon import EXACT, PARAPHRASE, STEM, SYNONYM, Lexicon, code

JAR = {
    "function/english.words": "the\na\n",
    "nonbreaking/english.prefixes": "# titles\nMr\nNo #NUMERIC_ONLY#\n",
    "synonym/english.synsets": "car\n1 2\nautomobile\n2\ngoose\n3\nfowl\n3\nfire_engine\n4\n",
    "synonym/english.exceptions": "goose\ngeese\n",
}
PHRASES = "0.5\nat once\nnow\n0.5\nnow\nat once\n0.1\nkid\nchild\n"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Small tables in place of the installed ones, and an empty cache."""
    found = Sources(tmp_path / "some.jar", tmp_path / "some.gz")
    with zipfile.ZipFile(found.jar, "w") as jar:
        for name, text in JAR.items():
            jar.writestr(name, text)
    found.paraphrases.write_bytes(gzip.compress(PHRASES.encode()))
    monkeypatch.setattr(meteor_data, "find_sources", lambda: found)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


def test_what_was_compiled_is_what_was_there(sources: Sources) -> None:
    lexicon = Lexicon(open_tables())
    assert lexicon.function == {"the", "a"}
    assert lexicon.normalize(["Mr.", "X", "No.", "5"]) == ["mr.", "x", "no.", "5"]
    assert lexicon.synsets("cars") == {1, 2} and lexicon.synsets("geese") == {3} and lexicon.synsets("run") == set()
    [found] = lexicon.matches(
        ["now", "cars", "and", "geese", "running", "kid"],
        [["an", "automobile", "and", "fowl", "at", "once", "runs", "child"]],
    )
    assert sorted(found) == [
        (0, 1, 4, 2, PARAPHRASE),
        (0, 1, 4, 2, PARAPHRASE),  # the table has it both ways
        (1, 1, 1, 1, SYNONYM),
        (2, 1, 2, 1, EXACT),
        (3, 1, 3, 1, SYNONYM),
        (4, 1, 6, 1, STEM),
        (5, 1, 7, 1, PARAPHRASE),
    ]


def test_codes_are_those_of_java() -> None:
    assert code("f1") == code("do") == 3211
    assert code("") == 0 and code("polygenelubricants") == 1 << 31, (
        "the smallest of Java's numbers, here without a sign"
    )


def test_they_are_made_once(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_tables()
    monkeypatch.setattr(meteor_data, "compile_tables", None)
    np.testing.assert_array_equal(open_tables().edges, first.edges)
    assert list(cache_file(sources).parent.iterdir()) == [cache_file(sources)], "nothing is left over"


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:-100] + b"x" + b[-99:], lambda b: b"", lambda b: b"x\n{\n"]
)
def test_a_damaged_file_is_made_again(sources: Sources, damage: object) -> None:
    open_tables()
    path = cache_file(sources)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))  # type: ignore[operator]
    open_tables()
    assert path.read_bytes() == whole


def test_other_sources_are_another_file(sources: Sources) -> None:
    open_tables()
    before = cache_file(sources)
    sources.paraphrases.write_bytes(gzip.compress(b"0.1\nkid\nchild\n"))
    assert len(open_tables().others) == 2
    assert cache_file(sources) != before


def test_nothing_is_written_where_making_fails(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        open_tables()
    assert not list(cache_file(sources).parent.iterdir())


def test_a_folder_that_cannot_be_made_is_named(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        open_tables()


@pytest.mark.parametrize("which", ["jar", "paraphrases"])
def test_broken_sources_are_named(sources: Sources, which: str) -> None:
    getattr(sources, which).write_bytes(b"not what it was, and long enough")
    with pytest.raises(DataError, match="install pycocoevalcap again"):
        open_tables()


def test_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteor_data, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vidcap\[metrics\]'"):
        open_tables()


def test_it_is_known_beforehand_whether_tables_will_be_made(sources: Sources) -> None:
    assert to_be_made()
    open_tables()
    assert not to_be_made()
