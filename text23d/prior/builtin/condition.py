"""What a text- and camera-conditioned prior is told about each picture."""

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
    camera [B, 6] float: `Cameras.features()` and a last 1; all zero: the camera is unknown.
    """

    text: Tensor
    camera: Tensor

    def __len__(self) -> int:
        return self.text.shape[0]

    def unconditional(self) -> Condition:
        """The same cameras without the captions: the reference that guidance on text moves away from."""
        return replace(self, text=torch.full_like(self.text, PAD))

    def saying(self, text: Tensor) -> Condition:
        """The same cameras with one caption [L] for all."""
        return replace(self, text=text.to(self.text).expand_as(self.text))

    def without_camera(self) -> Condition:
        """The same captions, seen from nobody knows where."""
        return replace(self, camera=torch.zeros_like(self.camera))

    def to(self, device: torch.device | str) -> Condition:
        return Condition(self.text.to(device), self.camera.to(device))

    def dropped(self, text: Tensor, camera: Tensor) -> Condition:
        """Forget the caption where `text` [B] is true and the camera where `camera` [B] is true."""
        return Condition(self.text.masked_fill(text[:, None], PAD), self.camera.masked_fill(camera[:, None], 0.0))

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Join batches; captions must be padded to one length."""
        return Condition(torch.cat([c.text for c in conditions]), torch.cat([c.camera for c in conditions]))


def known(cameras: Views) -> Tensor:
    """The camera rows of a Condition [B, 6] for cameras that are known."""
    features = cameras.features().float()
    return torch.cat([features, torch.ones_like(features[:, :1])], -1)
