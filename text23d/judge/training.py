"""Training of the judge: worn pictures in, kind and colour out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from text23d.judge.network import Classifier


def wear(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [B, 4, 64, 64] as a NeRF might show them: moved, scaled, blurred, faded and noisy, each at random.

    The judge must know a blurred car for a car, or it would score sharpness and not the thing.
    """
    b, device = len(x), x.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(b, *shape, generator=generator)).to(device)

    scale, turn = uniform(0.85, 1.2), uniform(-0.1, 0.1)
    move = uniform(-0.12, 0.12, 2)
    affine = torch.stack([turn.cos() / scale, -turn.sin() / scale, turn.sin() / scale, turn.cos() / scale], -1)
    affine = torch.cat([affine.reshape(b, 2, 2), move[:, :, None]], -1)
    empty = torch.tensor([0.0, 0.0, 0.0, -1.0], device=device)[:, None, None]  # nothing there, in picture space
    x = empty + F.grid_sample(x - empty, F.affine_grid(affine, list(x.shape), align_corners=False), align_corners=False)
    soft = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    x = torch.lerp(x, soft, uniform(0.0, 1.0, 1, 1, 1))
    gain, offset = uniform(0.85, 1.15, 1, 1, 1), uniform(-0.08, 0.08, 3, 1, 1)
    alpha = (x[:, 3:] + 1) / 2
    x = torch.cat([x[:, :3] * gain + offset * alpha, x[:, 3:]], 1)
    noise = torch.randn(x.shape, generator=generator).to(device)
    return x + uniform(0.0, 0.15, 1, 1, 1) * noise


def train_step(network: Classifier, optimiser: torch.optim.Optimizer, x: Tensor, kind: Tensor, colour: Tensor) -> float:
    """One step on the sum of both heads' cross entropies, labels smoothed by 5 %; returns it."""
    kinds, colours = network(x)
    loss = F.cross_entropy(kinds, kind, label_smoothing=0.05) + F.cross_entropy(colours, colour, label_smoothing=0.05)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.item()


@torch.no_grad()
def accuracy(network: Classifier, x: Tensor, kind: Tensor, colour: Tensor) -> dict[str, float]:
    """Share of pictures whose kind and whose colour are named right, in [0, 1]."""
    kinds, colours = network(x)
    return {
        "kind": (kinds.argmax(-1) == kind).float().mean().item(),
        "colour": (colours.argmax(-1) == colour).float().mean().item(),
    }
