"""`training.batch_size=auto`: the batch beyond which nothing is gained, or no memory is left."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import torch

from video_captioning.data.dataset import Batch, CaptionDataset, Draw, collate
from video_captioning.training.module import CaptioningModule

SMALLEST, LARGEST = 8, 1024
"""Clips."""
GAIN = 1.1
"""How many times more clips a second twice the batch must give to be worth it."""


def find_batch_size(module: CaptioningModule, data: CaptionDataset, captions: int) -> int:
    """Doubled as long as it makes training faster by a tenth, on the items that need the most memory.

    Raises torch.OutOfMemoryError where even the smallest batch does not fit.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device)
    order = np.argsort([-frames for frames in data.frames], kind="stable")
    size, best = SMALLEST, 0.0
    while size <= min(LARGEST, len(data)):
        draws = [Draw(int(item), tuple(range(len(data.captions[item]))[:captions]), False, 0) for item in order[:size]]
        try:
            rate = size / seconds(module, collate(data.__getitems__(draws)).to(device))
        except torch.OutOfMemoryError:
            if size == SMALLEST:
                raise
            break
        if rate < GAIN * best:
            break
        best, size = rate, 2 * size
    module.zero_grad()
    return max(1, min(size // 2, len(data)))


def seconds(module: CaptioningModule, batch: Batch) -> float:
    """Of a step on the batch, after one that warms up."""
    for _ in range(2):
        start = perf_counter()
        module.loss(batch, batch.features, 0.0).backward()
        if batch.features.is_cuda:
            torch.cuda.synchronize()
    return perf_counter() - start
