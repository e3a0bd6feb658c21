"""SPICE (Anderson et al. 2016), which is not rebuilt: the COCO caption tool computes it where it and Java are there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from video_captioning.errors import VidcapError
from video_captioning.metrics.intervals import mean, segment_statistics
from video_captioning.metrics.ngrams import Tokens

MODELS = "stanford-corenlp-3.6.0-models.jar"


def why_not() -> str | None:
    """What SPICE lacks here, and the way out; None where nothing."""
    found = find_spec("pycocoevalcap")
    if found is None or not found.submodule_search_locations:
        return "the COCO caption tool is not installed: pip install 'vidcap[metrics]'"
    if not shutil.which("java"):
        return "Java is not installed: it needs version 8"
    if not any(Path(place, "spice", "lib", MODELS).exists() for place in found.submodule_search_locations):
        return "its models are not installed: python -m pycocoevalcap.spice.get_stanford_models"
    return None


class Spice:
    """F-measure of the objects, attributes and relations that a parser finds; mean over the hypotheses."""

    def __init__(self) -> None:
        self._hypotheses: dict[str, list[str]] = {}
        self._references: dict[str, list[str]] = {}

    def update(self, hypothesis: Tokens, references: Sequence[Tokens]) -> None:
        name = f"{len(self._hypotheses):09}"  # the tool sorts by it
        self._hypotheses[name] = [" ".join(hypothesis)]
        self._references[name] = [" ".join(reference) for reference in references]

    @property
    def statistics(self) -> NDArray[np.float64]:
        """The score of each hypothesis and 1, `[N, 2]`. Raises VidcapError where the tool fails."""
        from pycocoevalcap.spice.spice import Spice as Tool

        try:
            _, found = Tool().compute_score(self._references, self._hypotheses)
        except (OSError, subprocess.CalledProcessError) as error:
            raise VidcapError(f"SPICE failed in Java ({error}); leave out --spice or use Java 8") from error
        return segment_statistics([scores["All"]["f"] for scores in found])

    @staticmethod
    def formula(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return mean(sums)
