"""The network F inside the built-in prior: a small UNet over pixel-unshuffled pictures (Song et al. 2021 in spirit,
adaptive group norm after Dhariwal & Nichol 2021). Captions enter twice: summed up, in every block's modulation, and
word by word, in the attention, so that "yellow wheels" can be yellow where the wheels are. And what caption and camera
alone say about the picture, its rough shape and colours, is drawn directly: convolutions that are only modulated would
have to make it up out of noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from text23d.prior.builtin.condition import Condition
from text23d.prior.builtin.text import TextEncoder

SQRT_HALF = math.sqrt(0.5)
SKETCH = 8  # side of the sketch, in features


@dataclass(frozen=True)
class UNetConfig:
    """patch: side of the pixel blocks folded into channels; widths: channels of the levels, each of half the side."""

    words: int
    channels: int = 4
    patch: int = 4
    widths: tuple[int, ...] = (128, 256)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, True)
    embedding: int = 384
    text_width: int = 128
    text_length: int = 24


class ResBlock(nn.Module):
    """norm, SiLU, conv, norm, scale and shift by the embedding, SiLU, conv (starting at zero), plus the input."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(width // 8, width), nn.GroupNorm(width // 8, width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * width)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), scale + 1)))
        return x + h


class Words:
    """A batch of captions as attention reads them: tokens [B, T, text_width], and 0 for the ones that are there or
    -inf for padding, as an additive mask [B, 1, 1, T]."""

    def __init__(self, tokens: Tensor, present: Tensor) -> None:
        self.tokens = tokens
        absent = torch.zeros_like(present, dtype=tokens.dtype).masked_fill(~present, -math.inf)
        self.mask = absent[:, None, None]


class Attention(nn.Module):
    """Attention of the pixels to each other and to the caption's words at once, heads of 64 channels, added to its
    input."""

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.heads = max(1, width // 64)
        self.norm, self.text_norm = nn.GroupNorm(width // 8, width), nn.LayerNorm(text_width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        self.from_text = nn.Linear(text_width, 2 * width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, words: Words) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        said = self.from_text(self.text_norm(words.tokens))
        text_k, text_v = said.reshape(b, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        k, v = torch.cat([k, text_k], 2), torch.cat([v, text_v], 2)
        # Written out: on a CPU, at this size, a tenth of the training's time cheaper than the fused operation.
        weight = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + F.pad(words.mask, (h * w, 0))).softmax(-1)
        y = weight.to(v.dtype) @ v  # [B, heads, h*w, c/heads]
        return x + self.out(y.transpose(-1, -2).reshape(b, c, h, w))


class Level(nn.Module):
    """A residual block and, where asked for, attention."""

    def __init__(self, config: UNetConfig, width: int, attends: bool) -> None:
        super().__init__()
        self.block = ResBlock(width, config.embedding)
        self.attention = Attention(width, config.text_width) if attends else None

    def forward(self, x: Tensor, embedding: Tensor, words: Words) -> Tensor:
        x = self.block(x, embedding)
        return x if self.attention is None else self.attention(x, words)


class UNet(nn.Module):
    """F(x, log sigma / 4, c): x [B, C, H, W], noise [B], a Condition -> [B, C, H, W]."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, e = config, config.embedding
        folded = config.channels * config.patch**2
        self.text = TextEncoder(config.words, config.text_width, config.text_length)
        self.from_text, self.from_camera = nn.Linear(config.text_width, e), nn.Linear(6 * 5, e)
        self.from_noise = nn.Linear(64, e)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.inward = nn.Conv2d(folded, config.widths[0], 3, padding=1)
        self.down, self.up, width = nn.ModuleList(), nn.ModuleList(), config.widths[0]
        for level, (target, attends) in enumerate(zip(config.widths, config.attention, strict=True)):
            if level:
                self.down.append(nn.Conv2d(width, target, 3, stride=2, padding=1))
            self.down.extend(Level(config, target, attends) for _ in range(config.blocks))
            width = target
        self.sketch = nn.Sequential(nn.Linear(e, e), nn.SiLU(), nn.Linear(e, width * SKETCH**2))
        nn.init.zeros_(self.sketch[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.sketch[2].bias)  # type: ignore[arg-type]
        self.middle = nn.ModuleList(Level(config, width, attends) for attends in (True, False))
        for level in reversed(range(len(config.widths))):
            width = config.widths[level]
            self.up.extend(Level(config, width, config.attention[level]) for _ in range(config.blocks))
            if level:
                self.up.append(nn.ConvTranspose2d(width, config.widths[level - 1], 2, stride=2))
        width = config.widths[0]
        self.norm, self.outward = nn.GroupNorm(width // 8, width), nn.Conv2d(width, folded, 3, padding=1)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)  # type: ignore[arg-type]

    def embed(self, noise: Tensor, summary: Tensor, c: Condition) -> Tensor:
        """The vector [B, embedding] that modulates every block: noise level, caption and camera together."""
        angle = noise[:, None] * torch.exp(torch.linspace(0.0, math.log(100.0), 32, device=noise.device))
        waves = torch.cat([angle.sin(), angle.cos()], -1)
        # Low harmonics of the camera's numbers: sin and cos of the azimuth alone would leave sides hard to tell apart.
        harmonics = torch.cat([c.camera, *(f(k * c.camera) for k in (1.5, 3.0) for f in (torch.sin, torch.cos))], -1)
        harmonics = harmonics * c.camera[:, 5:]  # an unknown camera is zero throughout
        return self.mix(self.from_noise(waves) + self.from_text(summary) + self.from_camera(harmonics))

    def forward(self, x: Tensor, noise: Tensor, c: Condition) -> Tensor:
        tokens, present = self.text(c.text)
        e, words = self.embed(noise, tokens[:, 0], c), Words(tokens, present)
        h = self.inward(F.pixel_unshuffle(x, self.config.patch).contiguous(memory_format=torch.channels_last))
        sides = []
        for layer in self.down:
            h = layer(h, e, words) if isinstance(layer, Level) else layer(h)
            if isinstance(layer, Level):
                sides.append(h)
        sketch = self.sketch(e).unflatten(1, (-1, SKETCH, SKETCH))
        h = h + (sketch if h.shape[-1] == SKETCH else F.interpolate(sketch, h.shape[-2:]))
        for layer in self.middle:
            h = layer(h, e, words)
        for layer in self.up:
            # Sides are added, not concatenated: half the work of the way up, which a training on CPUs feels.
            h = layer((h + sides.pop()) * SQRT_HALF, e, words) if isinstance(layer, Level) else layer(h)
        return F.pixel_shuffle(self.outward(F.silu(self.norm(h))), self.config.patch)
