"""A prior small enough to train in a test, of five words and pictures of 16 pixels, and batches for it."""

from __future__ import annotations

import torch

from text23d.cameras import orbit
from text23d.prior.builtin import edm
from text23d.prior.builtin.condition import Condition, known
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.training import Batch
from text23d.prior.builtin.unet import UNet, UNetConfig

WORDS = Vocabulary(("a", "blue", "car", "red", "tree"), 4)
TINY = UNetConfig(len(WORDS.words), widths=(16, 24), blocks=1, embedding=32, text_length=4)
SIDE = 16


def perturbed(config: UNetConfig = TINY) -> edm.Preconditioned:
    """A tiny prior whose every weight counts: as it is made, its last layers are zero and hide the others."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(config)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return edm.Preconditioned(network).eval().requires_grad_(False)


def batch(seed: int, size: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = 0.5 * torch.randn(size, 4, SIDE, SIDE, generator=generator)
    text = WORDS.encode([["a", ("red", "blue")[i % 2], ("car", "tree")[i // 2 % 2]] for i in range(size)])
    return x, Condition(text, known(orbit(size)))
