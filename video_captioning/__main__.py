"""`python -m video_captioning` is `vidcap`."""

from video_captioning.cli import main

main()
