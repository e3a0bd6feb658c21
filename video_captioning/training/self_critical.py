"""Self-critical sequence training: captions that people would agree with become likelier (Rennie et al. 2017).

Each sample is compared with the mean of the other samples of its clip (Luo 2020, arXiv 2003.09971, equation 6).
"""

from __future__ import annotations

import torch
from torch import Tensor

from video_captioning.data.dataset import Batch
from video_captioning.decoding import Decoding, Hypothesis, decode
from video_captioning.export.runtime import SPECIAL, Stepper
from video_captioning.models.interface import CaptioningModel
from video_captioning.tokenizer import BOS, EOS, PAD, UNK, Tokenizer
from video_captioning.training.judge import Judge, Reward
from video_captioning.training.module import CaptioningModule, Optimization

NEVER = [BOS, PAD, UNK]
"""Tokens that decoding never generates."""


class SelfCriticalModule(CaptioningModule):
    """Samples captions and learns from what they are worth. No dropout: samples are of the model that learns."""

    def __init__(
        self, model: CaptioningModel, optimization: Optimization, judge: Judge, seed: int, reward: Reward
    ) -> None:
        super().__init__(model, optimization, judge, seed)
        self.reward = reward

    def on_train_epoch_start(self) -> None:
        self.model.eval()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        features = self.disturbed(batch)
        sampled = self.sample(batch, features)
        captions = [
            (self.judge.tokenizer.decode(hypothesis.tokens), hypothesis.finished)
            for hypotheses in sampled
            for hypothesis in hypotheses
        ]
        count = self.optimization.samples
        items = batch.items.repeat_interleave(count).tolist()
        rewards = torch.from_numpy(self.reward(items, captions)).float().view(-1, count).to(self.device)
        advantage = rewards - (rewards.sum(1, keepdim=True) - rewards) / (count - 1)
        tokens = padded(sampled, self.model.config.max_tokens).to(self.device)
        outputs = self.model(features, batch.frame_mask, tokens[:, :, :-1])
        targets = tokens[:, :, 1:]
        real = targets != Tokenizer.pad
        logits = self.model.logits(outputs[real]).float() / self.optimization.temperature
        logits[:, NEVER] = -torch.inf  # or what is never drawn would take in all that is bad
        logprobs = logits.log_softmax(1).gather(1, targets[real][:, None])[:, 0]
        loss = -(advantage[:, :, None].expand(real.shape)[real] * logprobs).mean()
        if self.optimization.cross_entropy:
            spoken = self.loss(batch, features, self.optimization.label_smoothing)
            loss = loss + self.optimization.cross_entropy * spoken
        self.log_dict({"loss": loss, "reward": rewards.mean()}, prog_bar=True, batch_size=len(rewards))
        return loss

    def sample(self, batch: Batch, features: Tensor) -> list[list[Hypothesis]]:
        """Some captions of each clip, as likely as the model finds them at the temperature."""
        count, longest = self.optimization.samples, self.model.config.max_tokens - 2
        seed = self.seed * 1_000_000 + self.global_step
        decoding = Decoding(
            temperature=self.optimization.temperature, alternatives=count, max_tokens=min(30, longest), seed=seed
        )
        stepper = Stepper(self.model)
        memory, state = stepper.start(features, batch.frame_mask)
        return decode(stepper.step, state, memory, decoding, SPECIAL, keys=batch.items.tolist())


def padded(sampled: list[list[Hypothesis]], longest: int) -> Tensor:
    """Tokens `[B, C, L]` of C hypotheses of each clip: `bos`, the words, `eos` where it was reached, then `pad`."""
    rows = [
        [[BOS, *hypothesis.tokens, *([EOS] if hypothesis.finished else [])][:longest] for hypothesis in hypotheses]
        for hypotheses in sampled
    ]
    length = max(len(row) for clip in rows for row in clip)
    tokens = torch.full((len(rows), len(rows[0]), length), Tokenizer.pad)
    for clip, hypotheses in enumerate(rows):
        for number, row in enumerate(hypotheses):
            tokens[clip, number, : len(row)] = torch.tensor(row)
    return tokens
