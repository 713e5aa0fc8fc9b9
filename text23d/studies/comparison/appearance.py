"""What guidance exaggerates: saturation and contrast of what pictures show."""

from __future__ import annotations

import torch
from torch import Tensor

from text23d.spaces import from_picture

OPAQUE = 0.5
LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])
"""Of red, green and blue (Rec. ITU-R BT.709)."""


def appearance(pictures: Tensor) -> dict[str, float]:
    """Means over pictures [V, 4, H, W] in picture space, each over its pixels of coverage above OPAQUE. A picture
    without such pixels is left out; if all are, both are NaN.

    saturation   of HSV, (max - min) / max, in [0, 1]
    contrast     standard deviation of the luminance, in [0, 1/2]
    """
    colour, alpha = (each.clamp(0, 1) for each in from_picture(pictures))
    colour, opaque = (colour / alpha.clamp(min=OPAQUE)).clamp(0, 1), (alpha > OPAQUE).flatten(1)
    high, low = colour.amax(1).flatten(1), colour.amin(1).flatten(1)
    saturation = torch.where(high > 0, (high - low) / high.clamp(min=1e-6), torch.zeros_like(high))
    luminance = torch.einsum("bchw,c->bhw", colour, LUMINANCE.to(colour)).flatten(1)
    rows = [
        (s[inside].mean(), y[inside].std(correction=0))
        for s, y, inside in zip(saturation, luminance, opaque, strict=True)
        if inside.any()
    ]
    if not rows:
        return {"saturation": torch.nan, "contrast": torch.nan}
    means = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
    return dict(zip(("saturation", "contrast"), means, strict=True))
