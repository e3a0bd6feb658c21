"""Make the embedded model: one command, resumable, every step seeded.

    python -m recipes.default [--data ../shared/data] [--teacher ../shared/weights/vit-tiny-patch16-224]

1. prepare: pixels, the words of captions, and what two teachers see in each picture.
2. see: EfficientNet-Lite learns to see what people speak of, together with a decoder.
3. speak: the decoder goes on with pictures, clips, and sentences alone.
4. reward: it is rewarded for what people agree on, and pays for words that nobody used.
5. bundle: int8, calibrated confidence, scores; compared with torch.

Each step is left out when its result is there. Hours on two cores.
"""

from __future__ import annotations

from pathlib import Path

import click

from recipes.default import finish, mixture, prepare, see, speak

WORK = Path(".cache/default")


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), default="../shared/data", show_default=True)
@click.option(
    "--teacher",
    type=click.Path(path_type=Path, exists=True),
    default="../shared/weights/vit-tiny-patch16-224",
    show_default=True,
)
def main(data: Path, teacher: Path) -> None:
    """Make video_captioning/bundles/default anew."""
    config = see.Seeing()
    prepare.prepare(data, teacher, config.variant, WORK)
    mixture.write(data, WORK)
    seen = WORK / "seen"
    decoder = seen / "decoder.ckpt"
    if not decoder.exists():
        see.save(see.see(data, WORK, seen, config), WORK, seen, config)
    rewarded = speak.reward(WORK, speak.speak(WORK, decoder))
    finish.embed(finish.finish(data, rewarded, WORK), rewarded, seen / "encoder")


if __name__ == "__main__":
    main()
