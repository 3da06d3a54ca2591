"""CaptionTokenizer: a byte-pair tokenizer trained on the captions of a training set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

PADDING = 0  # token id
_REMEMBERED = 65_536  # captions whose token ids are kept


class CaptionTokenizer:
    """Captions to token ids. Byte-level, so that every script can be encoded.

    Case, commas, surrounding spaces and Unicode compatibility forms (NFKC) make no difference.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids = lru_cache(_REMEMBERED)(self._new_ids)  # in training, the same captions come again and again

    @classmethod
    def learn(cls, captions: Iterable[str], vocabulary: int) -> CaptionTokenizer:
        """A tokenizer of at most `vocabulary` tokens, but at least the 256 bytes and the padding.

        Byte-pair encoding: Sennrich et al. 2015 (arXiv 1508.07909).
        """
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
        """The inverse of `to_json`. The tokenizers library raises a bare Exception for other text."""
        return cls(Tokenizer.from_str(text))

    def to_json(self) -> str:
        """The tokenizer as the text of a Hugging Face `tokenizer.json`."""
        return self._tokenizer.to_str()

    @property
    def vocabulary(self) -> int:
        """The number of tokens, padding included."""
        return self._tokenizer.get_vocab_size()

    def count(self, text: str) -> int:
        """The number of tokens in `text`."""
        return len(self._ids(text))

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """Token ids [len(texts),length] int64, truncated to `length` or padded with PADDING."""
        tokens = np.full((len(texts), length), PADDING, np.int64)
        for row, text in zip(tokens, texts, strict=True):
            ids = self._ids(text)[:length]
            row[: len(ids)] = ids
        return torch.from_numpy(tokens)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """For each token that `encode` gives for a text: the first of its characters, and the one after the last."""
        found = self._tokenizer.encode(text)
        return [span for token, span in zip(found.ids, found.offsets, strict=True) if token != PADDING]

    def extended(self, captions: Iterable[str], most: int, fewest_uses: int = 2) -> CaptionTokenizer:
        """The same tokenizer with up to `most` new tokens, for the words that are frequent in `captions`.

        The merges that build a new word from its tokens are appended, after all others: known words stay what they are.
        """
        values = json.loads(self.to_json())
        vocabulary: dict[str, int] = values["model"]["vocab"]
        merges: list[list[str]] = values["model"]["merges"]
        known = {(first, second) for first, second in merges}
        room = len(vocabulary) + most
        words = Counter(word for caption in captions for word in self._words(caption))
        for word, uses in sorted(words.items(), key=lambda item: (-item[1], item[0])):
            if uses < fewest_uses:
                break
            built, *parts = [token.value for token in self._tokenizer.model.tokenize(word)]
            if len(vocabulary) + len(parts) > room:
                continue
            for part in parts:
                if (built, part) not in known:
                    known.add((built, part))
                    merges.append([built, part])
                    vocabulary.setdefault(built + part, len(vocabulary))
                built += part
        return CaptionTokenizer.from_json(json.dumps(values))

    def parts_of(self, token: int, other: CaptionTokenizer) -> list[int]:
        """The tokens of this tokenizer that make up a token of another."""
        return [part.id for part in self._tokenizer.model.tokenize(other._tokenizer.id_to_token(token))]

    def _words(self, text: str) -> list[str]:
        normal = self._tokenizer.normalizer.normalize_str(text)
        return [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normal)]

    def _new_ids(self, text: str) -> NDArray[np.int32]:
        """The ids [N] as an array: a tuple of as many integers would take ten times the memory."""
        return np.array([token for token in self._tokenizer.encode(text).ids if token != PADDING], np.int32)
