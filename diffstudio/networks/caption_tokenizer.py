"""The words a network reads: a byte-pair tokenizer learnt from the captions of one folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

PADDING = 0  # the id that stands for no word


class CaptionTokenizer:
    """Captions to word ids. Bytes below the words, so that no script is unknown; case, commas and accents' forms do not count."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def learn(cls, captions: Iterable[str], vocabulary: int) -> CaptionTokenizer:
        """At most `vocabulary` words (at least the 256 bytes and the padding): Sennrich et al. 2016, on bytes."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(",", " "), normalizers.Strip()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(
            captions,
            trainers.BpeTrainer(
                vocab_size=max(vocabulary, 257),
                special_tokens=["<nothing>"],
                show_progress=False,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            ),
        )
        return cls(tokenizer)

    @classmethod
    def from_json(cls, text: str) -> CaptionTokenizer:
        return cls(Tokenizer.from_str(text))

    def to_json(self) -> str:
        return self._tokenizer.to_str()

    @property
    def vocabulary(self) -> int:
        return self._tokenizer.get_vocab_size()

    def count(self, text: str) -> int:
        """How many words `text` takes."""
        return len(self._ids(text))

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """[len(texts),length] int64; cut at `length`, padded with PADDING."""
        rows = [self._ids(text)[:length] for text in texts]
        return torch.tensor([row + [PADDING] * (length - len(row)) for row in rows], dtype=torch.int64).reshape(
            -1, length
        )

    def _ids(self, text: str) -> list[int]:
        return [word for word in self._tokenizer.encode(text).ids if word != PADDING]
