"""What a pretrained prior is told of each view: encoded prompts, once each, and what is the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Said = Mapping[str, Tensor]
"""A prompt, encoded: what the network takes it as -> the values. "text" [..., L, W] and, with some families, "pooled"
[..., P] and "mask" [..., L]."""


@dataclass(frozen=True)
class TextCondition:
    """said: what each of B pictures is told, each [B, ...]; empty: the encoded prompt that says nothing, each [...].

    `said` may have more than prompts: "time_ids" of SDXL, "scale" of models that are told their guidance, "known" of
    those that complete pictures. All of it stays where a prompt is exchanged.
    """

    said: Said
    empty: Said

    def __len__(self) -> int:
        return len(self.said["text"])

    def rows(self, which: slice | Tensor) -> TextCondition:
        """Some of these conditions."""
        return replace(self, said={name: each[which] for name, each in self.said.items()})

    def to(self, device: torch.device) -> TextCondition:
        """The same on another device."""
        said, empty = ({name: each.to(device) for name, each in told.items()} for told in (self.said, self.empty))
        return TextCondition(said, empty)

    def unconditional(self) -> TextCondition:
        """As many empty prompts: the reference that guidance moves away from."""
        return saying(self.empty, self)

    @staticmethod
    def cat(conditions: Sequence[TextCondition]) -> TextCondition:
        """Join batches that share their empty prompt."""
        first = conditions[0]
        return replace(first, said={name: torch.cat([c.said[name] for c in conditions]) for name in first.said})


def saying(prompt: Said, c: TextCondition) -> TextCondition:
    """As many conditions, each of that prompt, each [...]."""
    return replace(c, said={**c.said, **{name: each.expand_as(c.said[name]) for name, each in prompt.items()}})


def row(said: Said, which: int) -> dict[str, Tensor]:
    """One prompt of those encoded together."""
    return {name: each[which] for name, each in said.items()}
