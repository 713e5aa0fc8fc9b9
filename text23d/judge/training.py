"""Training of the judge: worn pictures in; kind, colour, the parts' colours and the azimuth out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from text23d.judge.network import AZIMUTHS, Classifier, Opinion

NOTHING = torch.tensor([0.0, 0.0, 0.0, -1.0])[:, None, None]
"""An empty pixel in picture space."""
BROKEN_SHARE = 0.12
NOT_TOLD = -100
"""Cross entropy's own mark for a class that is not to be learned."""


@dataclass(frozen=True)
class Labels:
    """What B pictures show: class indices kind [B], colour [B], part [B, part words] (NOT_TOLD for parts without a
    colour of their own), azimuth [B] in degrees (NaN for kinds without a front)."""

    kind: Tensor
    colour: Tensor
    part: Tensor
    azimuth: Tensor


def wear(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [B, 4, 64, 64] as a NeRF might show them: moved, scaled, blurred, faded, noisy, and before other
    backgrounds, each at random.

    The judge must know a blurred car for a car, or it would score sharpness and not the thing.
    """
    b, device = len(x), x.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(b, *shape, generator=generator)).to(device)

    scale, turn = uniform(0.85, 1.2), uniform(-0.1, 0.1)
    move = uniform(-0.12, 0.12, 2)
    affine = torch.stack([turn.cos() / scale, -turn.sin() / scale, turn.sin() / scale, turn.cos() / scale], -1)
    affine = torch.cat([affine.reshape(b, 2, 2), move[:, :, None]], -1)
    empty = NOTHING.to(device)
    x = empty + F.grid_sample(x - empty, F.affine_grid(affine, list(x.shape), align_corners=False), align_corners=False)
    soft = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    x = torch.lerp(x, soft, uniform(0.0, 1.0, 1, 1, 1))
    gain, offset = uniform(0.85, 1.15, 1, 1, 1), uniform(-0.08, 0.08, 3, 1, 1)
    alpha = (x[:, 3:] + 1) / 2
    ground = uniform(-0.7, 0.7, 3, 1, 1) * (uniform(0.0, 1.0, 1, 1, 1) < 0.4)
    x = torch.cat([x[:, :3] * gain + offset * alpha + ground * (1 - alpha), x[:, 3:]], 1)
    noise = torch.randn(x.shape, generator=generator).to(device)
    return x + uniform(0.0, 0.15, 1, 1, 1) * noise


def broken(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [B, 4, 64, 64] cut in 16 or 64 tiles and put together at random: its pieces, and not the thing."""
    tiles = 4 if torch.rand((), generator=generator) < 0.5 else 8
    b, c, h, w = x.shape
    cut = x.reshape(b, c, tiles, h // tiles, tiles, w // tiles).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = torch.rand(b, tiles**2, generator=generator).argsort(-1).to(x.device)
    cut = cut.gather(1, order[:, :, None, None, None].expand_as(cut)).unflatten(1, (tiles, tiles))
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


def loss(opinion: Opinion, labels: Labels) -> Tensor:
    """The heads' cross entropies, summed; labels smoothed by 5 %, azimuths by a bin to each side."""
    total = F.cross_entropy(opinion.kind, labels.kind, label_smoothing=0.05)
    total = total + F.cross_entropy(opinion.colour, labels.colour, label_smoothing=0.05, ignore_index=NOT_TOLD)
    if (labels.part != NOT_TOLD).any():
        total = total + F.cross_entropy(
            opinion.part.flatten(0, 1), labels.part.flatten(), label_smoothing=0.05, ignore_index=NOT_TOLD
        )
    front = ~labels.azimuth.isnan()
    if front.any():
        centres = torch.arange(AZIMUTHS, device=labels.azimuth.device) * (360.0 / AZIMUTHS)
        apart = (labels.azimuth[front, None] - centres + 180) % 360 - 180
        target = (-0.5 * (apart / 15.0).square()).softmax(-1)
        total = total + 0.5 * F.cross_entropy(opinion.azimuth[front], target)
    return total


def train_step(
    network: Classifier,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    labels: Labels,
    generator: torch.Generator,
    precision: torch.dtype = torch.float32,
) -> float:
    """One step on worn pictures, the first BROKEN_SHARE of them broken and labelled as none of the kinds; returns the
    loss."""
    count = int(BROKEN_SHARE * len(x))
    x = wear(torch.cat([broken(x[:count], generator), x[count:]]), generator)
    none = torch.full_like(labels.kind[:count], network.kind.out_features - 1)
    told = Labels(
        torch.cat([none, labels.kind[count:]]),
        torch.cat([torch.full_like(none, NOT_TOLD), labels.colour[count:]]),
        torch.cat([torch.full_like(labels.part[:count], NOT_TOLD), labels.part[count:]]),
        torch.cat([torch.full_like(labels.azimuth[:count], torch.nan), labels.azimuth[count:]]),
    )
    with torch.autocast(x.device.type, precision, enabled=precision != torch.float32):
        value = loss(network(x), told)
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    optimiser.step()
    return value.item()


@torch.no_grad()
def accuracy(opinion: Opinion, labels: Labels) -> dict[str, float]:
    """Share of pictures whose kind, colour and parts' colours are named right and whose azimuth is found within 30
    degrees, in [0, 1], each over the pictures that have one; none has: left out."""
    told, front = labels.part != NOT_TOLD, ~labels.azimuth.isnan()
    azimuth = opinion.azimuth.argmax(-1) * (360.0 / AZIMUTHS)
    apart = ((azimuth - labels.azimuth + 180) % 360 - 180).abs()
    right = {
        "kind": opinion.kind.argmax(-1) == labels.kind,
        "colour": opinion.colour.argmax(-1) == labels.colour,
        "part": (opinion.part.argmax(-1) == labels.part)[told],
        "azimuth": apart[front] <= 30,
    }
    return {name: each.float().mean().item() for name, each in right.items() if each.numel()}
