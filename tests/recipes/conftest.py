"""The small data folder, and what is prepared from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes.default import concepts, prepare
from tests.conftest import MakeClip
from tests.recipes import made
from video_captioning.models.efficientnet_lite import VARIANTS, EfficientNetLite


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    """Pictures, clips and sentences in the layout of the shared data."""
    folder = tmp_path_factory.mktemp("data")
    made.write_data(folder, make_clip)
    return folder


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_teacher(tmp_path_factory.mktemp("teacher") / "vit")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EfficientNetLite]:
    """An installed variant, and every word a concept that two sources use."""
    site = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.setitem(VARIANTS, made.NAME, made.VARIANT)
        patch.setattr(concepts, "SOURCES", 2)
        yield made.write_package(site)


@pytest.fixture(scope="module")
def prepared(data: Path, teacher: Path, network: EfficientNetLite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the encoder is trained from."""
    folder = tmp_path_factory.mktemp("work")
    prepare.prepare(data, teacher, made.NAME, folder)
    return folder
