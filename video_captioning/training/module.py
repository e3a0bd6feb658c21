"""The Lightning module: label-smoothed cross-entropy on every caption, warm-up and cosine, any of the models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from video_captioning.data.dataset import Batch, world
from video_captioning.decoding import Decoding, decode
from video_captioning.errors import ConfigError
from video_captioning.export.runtime import SPECIAL, Stepper
from video_captioning.models.advanced import Advanced, Shown
from video_captioning.models.interface import CaptioningModel
from video_captioning.tokenizer import Tokenizer
from video_captioning.training.judge import Judge
from video_captioning.training.optimizer import scheduled_adamw
from video_captioning.training.sentences import Sentences

GREEDY = Decoding(beam=1, no_repeat_ngram=3)


@dataclass(frozen=True)
class Optimization:
    """How weights are changed."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.08
    """Share of the steps over which the learning rate rises."""
    label_smoothing: float = 0.1
    feature_dropout: float = 0.1
    """Share of the places whose features are hidden while training."""
    feature_mixing: float = 0.0
    """Up to how much of another clip is mixed into each clip's features while training. A backbone that knows its own
    training pictures better than others makes a decoder too sure of what it sees; this takes that away."""
    ema: float = 0.995
    """How much of the moving average of the weights, which is what is kept, each step leaves."""
    samples: int = 5
    """Of each clip, in self-critical training."""
    temperature: float = 1.0
    """Of these samples, and of the model that learns from them: below 1 what label smoothing made possible is rare."""
    bleu_reward: float = 0.0
    """How much BLEU-4 counts beside CIDEr-D, in self-critical training."""
    unfounded_penalty: float = 0.0
    """How much the share of a caption's words counts against it that no reference has: what is not there costs."""
    concept_noise: float = 0.0
    """Deviation of the noise on the logits of the concepts that a decoder is shown: it must not trust them more than it
    can on clips that nobody trained on."""
    text: float = 0.0
    """Sentences of `dataset.text` for each clip of a batch; they need no picture, where a model has concepts."""
    cross_entropy: float = 0.0
    """How much the cross-entropy of references counts beside the reward, in self-critical training: what is rewarded
    stays English (Paulus et al. 2018, equation 16)."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"training.{name} must be above 0, not {getattr(self, name)}")
        for name in ("weight_decay", "bleu_reward", "unfounded_penalty", "cross_entropy", "concept_noise", "text"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"training.{name} must be at least 0, not {getattr(self, name)}")
        for name in ("warmup", "label_smoothing", "feature_dropout", "feature_mixing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"training.{name} must be from 0 to below 1, not {getattr(self, name)}")
        if self.samples < 2:
            raise ConfigError(f"training.samples must be at least 2, to be compared, not {self.samples}")


class CaptioningModule(lightning.LightningModule):
    """A captioner under training.

    Attributes:
        hypotheses: what it said of each validation item, by id, the last time.
    """

    def __init__(
        self,
        model: CaptioningModel,
        optimization: Optimization,
        judge: Judge,
        seed: int = 0,
        sentences: Sentences | None = None,
    ) -> None:
        super().__init__()
        self.sentences = sentences
        self.model = model
        self.optimization = optimization
        self.judge = judge
        self.seed = seed
        self.said: dict[int, str] = {}
        self.hypotheses: dict[str, str] = {}

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        """Chance depends on where a run is, not on how it came there: a resumed run goes on as if never stopped."""
        place = [self.seed, self.current_epoch, index, world()[0]]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def disturbed(self, batch: Batch) -> Tensor:
        """Features, mixed with another clip's and without those of some places, so that none is relied upon."""
        features = mixed(batch.features, batch.frame_mask, self.optimization.feature_mixing)
        kept = torch.rand(batch.features.shape[:3], device=self.device) >= self.optimization.feature_dropout
        return features * kept[..., None]

    def loss(self, batch: Batch, features: Tensor, smoothing: float, **shown: Shown) -> Tensor:
        """Mean cross-entropy per token, weighted by caption; padding counts for nothing and is not computed."""
        outputs = self.model(features, batch.frame_mask, batch.tokens[:, :, :-1], **shown)
        targets = batch.tokens[:, :, 1:]
        real = targets != Tokenizer.pad
        logits = self.model.logits(outputs[real])
        each = functional.cross_entropy(logits, targets[real], label_smoothing=smoothing, reduction="none")
        weights = batch.weights[:, :, None].expand(real.shape)[real]
        return (each * weights).sum() / weights.sum()

    def noisy(self, batch: Batch) -> dict[str, Shown]:
        """The concepts that the decoder is shown, where there is noise on them."""
        model, noise = self.model, self.optimization.concept_noise
        if not noise or not isinstance(model, Advanced) or not model.config.concepts:
            return {}
        logits = model.concepts(batch.features[:, :, 0]).detach()
        return {"shown": model.concepts.likeliest(logits + noise * torch.randn_like(logits[:, :1]), batch.frame_mask)}

    def spoken(self, batch: Batch, index: int) -> Tensor:
        """The loss on sentences alone."""
        assert self.sentences is not None
        rng = np.random.default_rng([self.seed, self.current_epoch, index, world()[0]])
        count = max(1, round(self.optimization.text * len(batch.tokens)))
        tokens, shown = self.sentences.draw(count, rng)
        features = batch.features.new_zeros(count, 1, *batch.features.shape[2:])
        blind = torch.zeros(count, 1, dtype=torch.bool)
        text = Batch(features, blind, tokens, torch.ones(count, 1), torch.zeros(count)).to(self.device)
        return self.loss(
            text, features, self.optimization.label_smoothing, shown=Shown(*(part.to(self.device) for part in shown))
        )

    def training_step(self, batch: Batch, index: int) -> Tensor:
        features = self.disturbed(batch)
        loss = self.loss(batch, features, self.optimization.label_smoothing, **self.noisy(batch))
        if self.sentences is not None:
            loss = loss + self.optimization.text * self.spoken(batch, index)
        self.log("loss", loss, prog_bar=True, batch_size=len(batch.tokens))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        count = int((batch.tokens[:, :, 1:] != Tokenizer.pad).sum())
        self.log("val_loss", self.loss(batch, batch.features, 0.0), prog_bar=True, batch_size=count)
        stepper = Stepper(self.model)
        memory, state = stepper.start(batch.features, batch.frame_mask)
        for item, [best] in zip(
            batch.items.tolist(), decode(stepper.step, state, memory, GREEDY, SPECIAL), strict=True
        ):
            self.said[item] = self.judge.tokenizer.decode(best.tokens)

    def on_validation_epoch_end(self) -> None:
        self.hypotheses = {self.judge.items[number].id: text for number, text in self.said.items()}
        self.log_dict(self.judge.scores(self.said))
        self.said = {}

    def configure_optimizers(self) -> Any:
        options = self.optimization
        total = int(self.trainer.estimated_stepping_batches)
        warmup = max(1, round(options.warmup * total))

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))

        return scheduled_adamw(self.model, options.learning_rate, options.weight_decay, rate)


def mixed(features: Tensor, frame_mask: Tensor, most: float) -> Tensor:
    """Features `[B, T, P, D]` with a share, drawn up to `most`, of the clip before in the batch where that has frames.

    What differs from the batch's mean is mixed as a rotation, cos and sin of one angle: a mean would be shorter, and
    tell that it is one. A clip that is alone in its batch stays as it is.
    """
    if not most or len(features) == 1:
        return features
    share = most * torch.rand(len(features), 1, 1, 1, device=features.device) * frame_mask.roll(1, 0)[..., None, None]
    mean = features[frame_mask].mean(0)
    own = features - mean
    return mean + (1 - share**2).sqrt() * own + share * own.roll(1, 0)
