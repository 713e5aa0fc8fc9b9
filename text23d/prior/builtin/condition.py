"""What a prior is conditioned on for each example: a caption, and the view that it is seen or heard from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from text23d.contracts import Shape, Views

PAD = 0
"""Token id that stands for no word; a caption of nothing but PAD is the unconditional one."""


@dataclass(frozen=True)
class Condition:
    """A batch of B conditions.

    text   [B, L] int64 word ids, right-padded with PAD; all PAD: no caption.
    views  [B, F + 1] float: the features of the view and a last 1; all zero: the view is unknown.
    given  [B, K, *S] float: what is shown of the example beforehand, at every place; None: nothing.
    """

    text: Tensor
    views: Tensor
    given: Tensor | None = None

    def __len__(self) -> int:
        return self.text.shape[0]

    def rows(self, which: slice) -> Condition:
        """Some of these conditions."""
        return Condition(self.text[which], self.views[which], None if self.given is None else self.given[which])

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
        given = None if self.given is None else self.given.to(device)
        return Condition(self.text.to(device), self.views.to(device), given)

    def dropped(self, text: Tensor, views: Tensor) -> Condition:
        """Forget the caption where `text` [B] is true and the view where `views` [B] is true."""
        text, views = self.text.masked_fill(text[:, None], PAD), self.views.masked_fill(views[:, None], 0.0)
        return replace(self, text=text, views=views)

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Join batches; captions must be padded to one length, and all or none be given something."""
        given = [c.given for c in conditions if c.given is not None]
        joined = torch.cat(given) if given else None
        return Condition(torch.cat([c.text for c in conditions]), torch.cat([c.views for c in conditions]), joined)


def on_views(text: Tensor, views: Views, shape: Shape) -> Condition:
    """Captions [B, L] of examples of `shape`, from known views."""
    given = views.given(shape)
    return Condition(text, known(views), None if given is None else given.float())


def known(views: Views) -> Tensor:
    """The rows [B, F + 1] of a Condition for views that are known."""
    features = views.features().float()
    return torch.cat([features, features.new_ones(len(features), 1)], -1)
