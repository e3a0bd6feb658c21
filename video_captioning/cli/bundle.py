"""`vidcap bundle`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from video_captioning.cli.extras import needs, tell_warnings_plainly


@click.group()
def bundle() -> None:
    """Share a model on the Hugging Face hub, or fetch one.

    \b
    vidcap bundle push models/mine OWNER/NAME
    vidcap bundle pull OWNER/NAME models/theirs
    """


@bundle.command()
@click.argument("folder", type=click.Path(readable=False), metavar="BUNDLE")
@click.argument("repo", metavar="REPO_ID")
@click.option("--private", is_flag=True, help="Only you, or the organization, can see it.")
def push(folder: str, repo: str, private: bool) -> None:
    """Upload a bundle, with a model card made from it.

    \b
    vidcap bundle push models/mine OWNER/NAME
    vidcap bundle push models/mine OWNER/NAME --private

    The repository is made where there is none. What the hub has already is not
    sent again. A token that may write is read from HF_TOKEN or from what
    `hf auth login` keeps.
    """
    with needs("vidcap bundle", "hub"):
        from video_captioning.export import hub
    hush()
    click.echo(hub.push(folder, repo, private).commit_url)


@bundle.command()
@click.argument("repo", metavar="REPO_ID")
@click.argument("out", type=click.Path(readable=False, path_type=Path))
@click.option("--revision", default="main", show_default=True, help="A branch or tag, or a commit, to be exact.")
def pull(repo: str, out: Path, revision: str) -> None:
    """Download a bundle to the folder OUT, which must not exist.

    \b
    vidcap bundle pull OWNER/NAME models/theirs
    vidcap caption --model models/theirs clip.mp4

    A download that was stopped goes on where it was. Each file is held to the
    SHA-256 that bundle.json states before OUT appears.
    """
    with needs("vidcap bundle", "hub"):
        from video_captioning.export import hub
    from video_captioning.data.claim import claim

    hush()
    with claim(hub.partial_folder(out)):
        found = hub.pull(repo, out, revision)
    click.echo(f"{out}: {found.name} {found.version}, {found.bytes / 1e6:.1f} MB")


def hush() -> None:
    """The hub's client tells of each of its tries; only the last one's failure is of interest."""
    from huggingface_hub.utils import disable_progress_bars, logging  # type: ignore[attr-defined]  # not re-exported

    tell_warnings_plainly()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if not sys.stderr.isatty():
        disable_progress_bars()
