"""What a prior is conditioned on for each example: a caption, and the view that it is seen or heard from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from text23d.contracts import Views

PAD = 0
"""Token id that stands for no word; a caption of nothing but PAD is the unconditional one."""


@dataclass(frozen=True)
class Condition:
    """A batch of B conditions.

    text   [B, L] int64 word ids, right-padded with PAD; all PAD: no caption.
    views  [B, F + 1] float: the features of the view and a last 1; all zero: the view is unknown.
    """

    text: Tensor
    views: Tensor

    def __len__(self) -> int:
        return self.text.shape[0]

    def rows(self, which: slice) -> Condition:
        """Some of these conditions."""
        return Condition(self.text[which], self.views[which])

    def unconditional(self) -> Condition:
        """The same views without the captions: the reference that guidance on text moves away from."""
        return replace(self, text=torch.full_like(self.text, PAD))

    def saying(self, text: Tensor) -> Condition:
        """The same views with one caption [L] for all."""
        return replace(self, text=text.to(self.text).expand_as(self.text))

    def without_views(self) -> Condition:
        """The same captions, seen from nobody knows where."""
        return replace(self, views=torch.zeros_like(self.views))

    def to(self, device: torch.device | str) -> Condition:
        return Condition(self.text.to(device), self.views.to(device))

    def dropped(self, text: Tensor, views: Tensor) -> Condition:
        """Forget the caption where `text` [B] is true and the view where `views` [B] is true."""
        return Condition(self.text.masked_fill(text[:, None], PAD), self.views.masked_fill(views[:, None], 0.0))

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Join batches; captions must be padded to one length."""
        return Condition(torch.cat([c.text for c in conditions]), torch.cat([c.views for c in conditions]))


def known(views: Views) -> Tensor:
    """The rows [B, F + 1] of a Condition for views that are known."""
    features = views.features().float()
    return torch.cat([features, torch.ones_like(features[:, :1])], -1)
