"""Words to ids and back: SentencePiece (Kudo & Richardson 2018), byte pairs (Sennrich et al. 2016) or whole words."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

import sentencepiece

from video_captioning.errors import ConfigError, DataError

PAD, UNK, BOS, EOS = 0, 1, 2, 3
SPECIALS = 4
SPACE = "\u2581"

Kind = Literal["bpe", "word"]


def clean(text: str) -> str:
    """A caption as the models see it: lower case, one space between words, no full stop at the end."""
    return " ".join(text.lower().split()).rstrip(" .")


class Tokenizer:
    """Ids are ints; `pad`, `unk`, `bos` and `eos` are the same in every vocabulary."""

    pad, unk, bos, eos = PAD, UNK, BOS, EOS

    def __init__(self, model: bytes) -> None:
        self.model = model
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a SentencePiece model. Raises DataError where the file is missing, empty or damaged."""
        try:
            model = Path(path).read_bytes()
            if not model:  # SentencePiece would take it for "no model yet"
                raise RuntimeError("the file is empty")
            return cls(model)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(path, f"no SentencePiece model ({reason})", "train one or name another file") from error

    @classmethod
    def train(cls, captions: Iterable[str], size: int, kind: Kind = "bpe", min_count: int = 1) -> Tokenizer:
        """Learn a vocabulary of `size` pieces of words, or words, or of as many as the captions hold.

        Args:
            min_count: words that occur less often are left out of a vocabulary of words.

        Raises:
            ConfigError: `size` is too small to hold every letter, there is no text, or no such kind.
        """
        if kind not in get_args(Kind):
            raise ConfigError(f"model.tokenizer must be one of {', '.join(get_args(Kind))}, not {kind}")
        lines = [cleaned for caption in captions if (cleaned := clean(caption))]
        if kind == "word":
            counts = Counter(word for line in lines for word in line.split())
            size = min(size, SPECIALS + sum(count >= min_count for count in counts.values()))
        try:
            return cls(learn_pieces(lines, size, kind))
        except RuntimeError as error:
            if largest := re.search(r"value <= (\d+)", str(error)):
                return cls(learn_pieces(lines, int(largest[1]), kind))
            least = re.search(r"required_chars. \d+ vs (\d+)", str(error))
            way_out = f"give at least {least[1]}" if least else "give captions and a size above 0"
            raise ConfigError(f"no vocabulary of {size} pieces can be learnt from the captions; {way_out}") from error

    def __len__(self) -> int:
        return int(self.processor.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """Ids of a caption, without `bos` and `eos`."""
        return list(self.processor.encode(clean(text)))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.processor.decode(list(ids)))

    def piece(self, token: int) -> str:
        """What an id stands for: letters, after a low line where a word begins, or the name of a special token."""
        return str(self.processor.id_to_piece(token))

    def words(self, ids: Sequence[int]) -> list[tuple[str, list[int]]]:
        """The words of a sequence, each with the places of its pieces in `ids`."""
        words: list[list[int]] = []
        for place, piece in enumerate(ids):
            if not words or self.piece(int(piece)).startswith(SPACE):
                words.append([])
            words[-1].append(place)
        named = [(self.decode([ids[place] for place in places]).strip(), places) for places in words]
        return [(text, places) for text, places in named if text]


def learn_pieces(lines: list[str], size: int, kind: Kind) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=kind,
        vocab_size=size,
        character_coverage=0.9999,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=PAD,
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        minloglevel=2,
    )
    return model.getvalue()
