"""The optional parts of the installation, and what is said where one is missing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from video_captioning.cli.output import complain
from video_captioning.errors import MissingExtraError

EXTRAS = {
    "train": (
        *("torch", "lightning", "transformers", "hydra", "omegaconf", "lmdb", "onnx", "huggingface_hub"),
        *("mlflow", "dvc", "spellchecker"),
    ),
    "export": ("torch", "transformers", "onnx"),
    "hub": ("huggingface_hub",),
    "metrics": ("pycocoevalcap", "snowballstemmer"),
    "plots": ("matplotlib",),
    "scenes": ("cv2", "scenedetect"),
    "serve": ("fastapi", "fastapi_offline", "multipart", "prometheus_client", "uvicorn"),
    "triton": ("tritonclient",),
}
"""Each extra of pyproject.toml with the modules it brings."""


@contextmanager
def needs(what: str, extra: str) -> Iterator[None]:
    """Around imports: raises MissingExtraError where a module of the extra is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS[extra]:
            raise
        raise MissingExtraError(what, extra) from error


def tell_warnings_plainly() -> None:
    """A warning of a library is one line, without the place in its code."""

    def tell(message: Warning | str, *_: object, **__: object) -> None:
        complain(f"warning: {' '.join(str(message).split())}")

    warnings.showwarning = tell
