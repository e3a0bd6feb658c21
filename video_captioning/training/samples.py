"""A page of a few validation items and what the model said of them, epoch by epoch: people watch it learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from video_captioning.data.items import Item
from video_captioning.data.thumbnails import thumbnails
from video_captioning.errors import MediaError
from video_captioning.files import write_whole
from video_captioning.training.record import RESUME

COUNT = 12
HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>What the model says</title>
<style>
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif }
body { max-width: 75rem; margin: 1rem auto; padding: 0 1rem }
article { display: grid; grid-template-columns: 13rem 1fr 1fr; gap: 1rem; padding: 1rem 0; border-top: 1px solid #8888 }
@media (max-width: 45rem) { article { grid-template-columns: 1fr } }
img { max-width: 100% }
h2 { font-size: .8rem; font-weight: normal; margin: .3rem 0; opacity: .6; overflow-wrap: anywhere }
.said, ul { max-height: 12rem; overflow-y: auto; margin: 0 }
ul { padding-left: 1.2rem; opacity: .75 }
th { text-align: right; vertical-align: top; font-weight: normal; opacity: .6; padding-right: .6rem }
tr:first-child td { font-weight: bold }
</style>
<h1>What the model says</h1>
<p>Beside each picture its caption after each epoch, the newest first, and the references.</p>
"""


class Samples(Callback):
    """Writes `OUT/samples.html` after each validation. Needs `module.hypotheses`: captions by item id.

    What was said in earlier epochs is in the checkpoint, so that a resumed run goes on with the same page.

    Raises:
        OutputError: the page cannot be written.
    """

    def __init__(self, items: Sequence[Item], out: Path) -> None:
        count = min(COUNT, len(items))
        self.items = [items[len(items) * number // count] for number in range(count)]
        self.path = out / "samples.html"
        self.said: dict[int, dict[str, str]] = {}
        """Captions by epoch and item id."""

    def state_dict(self) -> dict[str, Any]:
        return {"said": self.said}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.said = dict(state_dict["said"])

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        said = module.hypotheses
        self.said[trainer.current_epoch + 1] = {item.id: said[item.id] for item in self.items if item.id in said}
        write_whole(self.path, self.page().encode(errors="replace"), RESUME)

    def page(self) -> str:
        epochs = sorted(self.said, reverse=True)
        return HEAD + "".join(
            article(item, picture, [(epoch, self.said[epoch].get(item.id, "—")) for epoch in epochs])
            for item, picture in zip(self.items, self.thumbnails, strict=True)
        )

    @cached_property
    def thumbnails(self) -> list[str]:
        """An `img` of each item, or nothing where it gives no picture."""
        return [thumbnail(item) for item in self.items]


def article(item: Item, picture: str, said: Sequence[tuple[int, str]]) -> str:
    references = "".join(f"<li>{escape(caption)}</li>" for caption in item.captions)
    rows = "".join(f"<tr><th>{epoch}</th><td>{escape(caption)}</td></tr>\n" for epoch, caption in said)
    return f"""<article>
<div>{picture}<h2>{escape(item.id)}</h2></div>
<div class="said"><table>
{rows}</table></div>
<ul>{references}</ul>
</article>
"""


def thumbnail(item: Item) -> str:
    try:
        [picture] = thumbnails(item.path, 1)
    except MediaError as error:
        warnings.warn(f"no thumbnail: {error}", stacklevel=1)
        return ""
    return f'<img alt="" src="{picture.uri}">'
