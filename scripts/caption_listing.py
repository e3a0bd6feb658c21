"""Caption every item of a listing and write what the ruler reads: REFS.json and HYPS.json.

    python scripts/caption_listing.py BUNDLE ../shared/data/flickr8k/dev.jsonl OUT [--shuffle]
    python ../shared/tools/score_coco.py OUT/refs.json OUT/hyps.json

With --shuffle each item gets the caption of another one: what a model scores that does not look.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

import video_captioning
from video_captioning.captioner import Caption
from video_captioning.data.items import read_folder


@click.command()
@click.argument("bundle")
@click.argument("listing", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--shuffle", is_flag=True, help="Give each item the caption of the next one.")
def main(bundle: str, listing: Path, out: Path, shuffle: bool) -> None:
    """Caption every item of LISTING with BUNDLE into OUT/refs.json and OUT/hyps.json."""
    items = read_folder(listing)
    captions = list(video_captioning.load(bundle).captions(item.path for item in items))
    texts = [caption.text for caption in captions if isinstance(caption, Caption)]
    if len(texts) < len(items):
        raise click.ClickException(f"{len(items) - len(texts)} items could not be captioned")
    if shuffle:
        texts = texts[1:] + texts[:1]
    out.mkdir(parents=True, exist_ok=True)
    references = {item.id: item.captions for item in items}
    hypotheses = {item.id: text for item, text in zip(items, texts, strict=True)}
    (out / "refs.json").write_text(json.dumps(references, ensure_ascii=False))
    (out / "hyps.json").write_text(json.dumps(hypotheses, ensure_ascii=False, indent=1))
    click.echo(f"{len(items)} captions in {out}")


if __name__ == "__main__":
    main()
