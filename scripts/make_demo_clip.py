"""Make a clip of public-domain photographs filmed as if by hand: a slow pan and zoom, a shake, exposure drift, noise.

`examples/demo.mp4` is made by `python scripts/make_demo_clip.py SUBJECT`; tests make their own with `make_demo_clip`.
The photographs are files of scikit-image's wheel, free of copyright; `SUBJECTS` names their sources.
"""

import importlib.resources
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
import numpy.typing as npt
from PIL import Image

DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo.mp4"
WIDTH, HEIGHT, FPS = 320, 240, 25


@dataclass(frozen=True)
class Photo:
    file: str  # in skimage/data
    credit: str
    subject: tuple[float, float]  # where the camera goes: centre of the subject as fractions of width and height


SUBJECTS = {
    "astronaut": Photo("astronaut.png", "Eileen Collins by NASA, public domain", (0.45, 0.3)),
    "cat": Photo("chelsea.png", "Chelsea by Stefan van der Walt, CC0", (0.5, 0.5)),
    "coffee": Photo("coffee.png", "Coffee by Rachel Michetti, CC0", (0.5, 0.5)),
    "photographer": Photo("camera.png", "Photographer by Lav Varshney, CC0", (0.45, 0.45)),
    "rocket": Photo("rocket.jpg", "Falcon 9 by SpaceX, public domain", (0.5, 0.55)),
}


def film(photo: Photo, count: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.uint8]]:
    """`count` frames, uint8 RGB [240, 320, 3], of a camera that closes in on the photo's subject."""
    with importlib.resources.files("skimage").joinpath("data", photo.file).open("rb") as file:
        picture = Image.open(file).convert("RGB")
    widest = min(picture.width, picture.height * WIDTH / HEIGHT)
    start = np.array([0.5, 0.5]) + rng.uniform(-0.1, 0.1, 2)
    pace = 1 - np.cos(np.pi * np.linspace(0, 1, count))  # eases in and out, 0 to 2
    shake, light = tremor(count, 2, rng), tremor(count, 1, rng)
    for i in range(count):
        width = widest * (0.96 - 0.1 * pace[i])
        size = np.array([width, width * HEIGHT / WIDTH])
        limits = np.array(picture.size) - size
        centre = (start + (photo.subject - start) * pace[i] / 2) * picture.size + 0.008 * width * shake[i]
        left, top = np.clip(centre - size / 2, 0, limits)
        crop = picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=(left, top, left + size[0], top + size[1]))
        grain = rng.normal(0, 3, (HEIGHT, WIDTH, 1)) + rng.normal(0, 1, (HEIGHT, WIDTH, 3))
        exposed = np.asarray(crop) * (1 + 0.03 * light[i]) + grain
        yield exposed.round().clip(0, 255).astype(np.uint8)


def tremor(count: int, axes: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A smooth random motion [count, axes] of about unit size: the slow sway and the quick shake of a hand."""
    seconds = np.arange(count)[:, None, None] / FPS
    hertz = np.array([0.3, 0.7, 1.6, 4.0])[:, None]
    waves = np.sin(2 * np.pi * (hertz * seconds + rng.uniform(0, 1, (4, axes))))
    weighted: npt.NDArray[np.float64] = np.einsum("tha,h->ta", waves, [1.0, 0.7, 0.3, 0.1])
    return weighted


def make_demo_clip(path: Path, subjects: Sequence[str], seconds: float = 12, seed: int = 0) -> None:
    """Write an H.264 clip of 320x240 at 25 fps to `path`: one shot a subject, of `seconds` together."""
    rng = np.random.default_rng(seed)
    count = round(seconds * FPS / len(subjects))
    unfinished = path.with_name(f".{path.name}.part")
    with av.open(unfinished, "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        container.metadata["comment"] = "; ".join(SUBJECTS[name].credit for name in subjects)
        # x264's output depends on how many threads there are and, as it comes, on the processor and on chance.
        options = {"crf": "25", "threads": "1", "x264-params": "cpu-independent=1"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        pictures = (picture for name in subjects for picture in film(SUBJECTS[name], count, rng))
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    unfinished.replace(path)


@click.command()
@click.argument("subject", type=click.Choice(list(SUBJECTS)))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=DEMO, show_default="demo.mp4")
def main(subject: str, output: Path) -> None:
    """Film SUBJECT into the project's demo clip."""
    make_demo_clip(output, [subject])
    click.echo(f"{output}: {output.stat().st_size / 1000:.0f} kB", err=True)


if __name__ == "__main__":
    main()
