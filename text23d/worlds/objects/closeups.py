"""The toy box from nearby: what the fine stage's prior is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from text23d import closeups
from text23d.cameras import Cameras
from text23d.closeups import Closeups
from text23d.contracts import Example
from text23d.worlds.objects.caption import Caption
from text23d.worlds.objects.render import pictures, render
from text23d.worlds.objects.scene import make
from text23d.worlds.objects.views import cameras_from, to_rows
from text23d.worlds.objects.world import Objects

NOISE = 0.1
"""The largest deviation of what the whole is disturbed by, in picture space."""


@dataclass(frozen=True)
class ObjectCloseups(Objects):
    """Windows into pictures of the toy box, at twice the resolution of the whole, which is given but not sharp: it is
    blurred and noisy at random, as the rendering of an unfinished object is, so that edges have to be learned.
    Implements `contracts.World`; its fields are those of `Objects`."""

    @property
    def medium(self) -> str:
        wide = round(self.size / closeups.SHARE)
        window = f"{self.size} x {self.size} windows of {wide} x {wide} RGBA pictures"
        return f"{window}, conditioned on a caption, a camera, the window's place and the whole at {self.size}"

    @property
    def arrays(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """images, whole: premultiplied RGBA of the window and of all; corner: the window's left and upper edge."""
        picture = (self.size, self.size, 4)
        return {**super().arrays, "whole": (picture, "uint8"), "corner": ((2,), "float32")}

    def example(self, seed: int, index: int, views: int) -> Example:
        caption, thing, light, cameras, rng = self.scene(seed, index, views)
        corner = torch.from_numpy(rng.uniform(0, 1 - closeups.SHARE, (views, 2)).astype(np.float32))
        whole = softened(render(thing, cameras, light, self.size), rng)
        images = render(thing, Closeups(cameras, corner, pictures(whole)), light, self.size)
        rows = {"images": images, "camera": to_rows(cameras), "whole": whole, "corner": corner.numpy()}
        return Example(caption, rows)

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Closeups]:
        corner = torch.from_numpy(np.array(arrays["corner"]))
        return pictures(arrays["images"]), Closeups(cameras_from(arrays["camera"]), corner, pictures(arrays["whole"]))

    def angles(self, captions: Sequence[Caption], views: Cameras | Closeups) -> Mapping[str, Tensor]:
        return super().angles(captions, views.cameras if isinstance(views, Closeups) else views)

    def showcase(self) -> tuple[list[Caption], Closeups]:
        """Those of `Objects`, made at random, seen through windows in the middle."""
        captions, cameras = super().showcase()
        rng = np.random.default_rng(self.splits["validation"])
        things = [make(caption, rng) for caption in captions]
        rows = [render(each, cameras.rows(slice(i, i + 1)), size=self.size) for i, each in enumerate(things)]
        corner = torch.full((len(captions), 2), (1 - closeups.SHARE) / 2)
        return captions, Closeups(cameras, corner, pictures(np.concatenate(rows)))

    def facts(self) -> list[str]:
        return [*super().facts(), f"the whole that it is given is blurred and noisy, up to {NOISE:g}"]


def softened(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Pictures [B, H, W, 4] between as they are and means of 5 x 5 of their pixels, and noisy, each by chance."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    blur, noise = (torch.from_numpy(rng.uniform(0, most, (len(x), 1, 1, 1))).float() for most in (1.0, NOISE / 2))
    x = torch.lerp(x, F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, stride=1), blur)
    x = x + noise * torch.from_numpy(rng.standard_normal(tuple(x.shape), dtype=np.float32))
    return (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
