"""A small text encoder, trained together with the prior: closed vocabulary, two transformer layers, one vector out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from text23d.errors import UserError
from text23d.prior.builtin.condition import PAD
from text23d.words import split


@dataclass(frozen=True)
class Vocabulary:
    """The words a prior knows, in the order of their ids (id 0 is PAD)."""

    words: tuple[str, ...]
    length: int = 24

    def encode(self, captions: Iterable[str | Sequence[str]]) -> Tensor:
        """Captions, as text or as the words of it, -> ids [B, length], padded. Raises UserError for unknown words or
        too many of them."""
        ids = {word: index + 1 for index, word in enumerate(self.words)}
        rows = []
        for given in captions:
            caption = split(given) if isinstance(given, str) else given
            unknown = [word for word in caption if word not in ids]
            if unknown:
                raise UserError(
                    f"the prior's weights do not know the word {unknown[0]!r}: known are {', '.join(self.words)}"
                )
            if len(caption) > self.length:
                raise UserError(
                    f"the prompt has {len(caption)} words, this prior reads at most {self.length}: shorten it"
                )
            rows.append([ids[word] for word in caption] + [PAD] * (self.length - len(caption)))
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.length)


class TextEncoder(nn.Module):
    """Word ids [B, L] -> tokens [B, 1 + L, width] of a two-layer transformer and which of them are there [B, 1 + L].

    The first token sums the caption up; where there are no words it is the only one. Before the transformer each word
    hears its neighbours, and their sum begins the summary: which colour belongs to which noun ("green car", "yellow
    wheels") is a matter of neighbouring words, and two layers of attention would have to find that out from pixels.
    """

    def __init__(self, words: int, width: int = 128, length: int = 24) -> None:
        super().__init__()
        self.word = nn.Embedding(words + 1, width, padding_idx=PAD)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        self.nothing = nn.Parameter(0.02 * torch.randn(width))
        self.neighbours = nn.Conv1d(width, 2 * width, 3, padding=1)
        self.phrase = nn.Linear(2 * width, width)
        nn.init.zeros_(self.phrase.weight)
        nn.init.zeros_(self.phrase.bias)  # type: ignore[arg-type]
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        # A first, always present slot holds a learned vector: rows without a word stay well defined.
        there = (ids != PAD)[..., None]
        words = self.word(ids) * there
        phrases = self.phrase(F.silu(self.neighbours(words.transpose(1, 2)).transpose(1, 2))) * there
        summary = self.nothing + phrases.sum(1, keepdim=True)
        tokens = torch.cat([summary, words + phrases + self.place[: ids.shape[1]]], 1)
        present = torch.cat([torch.ones_like(ids[:, :1], dtype=torch.bool), ids != PAD], 1)
        return self.layers(tokens, src_key_padding_mask=~present), present
