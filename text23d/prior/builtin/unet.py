"""The network F inside the built-in prior: a small UNet over examples of one, two or three dimensions whose patches are
folded into channels (Song et al. 2021 in spirit, adaptive group norm after Dhariwal & Nichol 2021). Captions enter
twice: summed up, in every block's modulation, and word by word, in the attention, so that "yellow wheels" can be yellow
where the wheels are. And what caption and view alone say about the example, its rough shape and colours, is drawn
directly: convolutions that are only modulated would have to make it up out of noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from text23d.errors import UserError
from text23d.prior.builtin.condition import Condition
from text23d.prior.builtin.layers import CONVOLUTION, LAYOUT, TRANSPOSED
from text23d.prior.builtin.light import LightConfig, LightStage
from text23d.prior.builtin.text import TextEncoder
from text23d.settings import Count, Flag, whole

SQRT_HALF = math.sqrt(0.5)
HEAD = 64
"""Channels of a head of attention."""

Width = Annotated[int, whole(8, 8192)]
Few = Annotated[int, whole(1, 64)]


@dataclass(frozen=True)
class UNetConfig:
    """x [B, channels, *S] with `dimensions` extents in S, each a multiple of its patch times 2^(levels - 1).

    features     how many numbers describe a view
    given        channels of what is shown of an example beforehand
    patch        extent of the blocks folded into channels, one for all dimensions or one each
    widths       channels of the levels, each of half the extent of the one before; multiples of 8
    blocks       residual blocks of a level on the way down, and on the way up; one number for all levels or one each
    attention    whether a level's blocks attend
    embedding    width of what modulates every block: noise level, caption and view
    sketch       extent of the sketch, in features
    mask         whether F is m x + r, with factors m and remainders r that the network both tells, instead of r alone:
                 what is noise and nothing else, as in most coefficients of a sound, then need not pass through it
    light        a stage for low noise beside the network, trained after it; None: there is none

    Raises UserError where these do not go together.
    """

    words: Count
    channels: Annotated[int, whole(1, 1024)] = 4
    patch: Few | tuple[Few, ...] = 4
    widths: tuple[Width, ...] = (128, 256)
    blocks: Few | tuple[Few, ...] = 2
    attention: tuple[Flag, ...] = (False, True)
    embedding: Width = 384
    text_width: Width = 128
    text_length: Annotated[int, whole(1, 1024)] = 24
    dimensions: Annotated[int, whole(1, 3)] = 2
    features: Annotated[int, whole(0, 1024)] = 5
    given: Annotated[int, whole(0, 1024)] = 0
    sketch: Few = 8
    mask: Flag = False
    light: LightConfig | None = None

    def __post_init__(self) -> None:
        levels = len(self.widths)
        if not levels or len(self.attention) != levels or len(self.level_blocks) != levels:
            raise UserError(
                f"network: {levels} widths, {len(self.attention)} of attention, {len(self.level_blocks)} of blocks: "
                "expected one of each for every level"
            )
        if len(self.patches) != self.dimensions:
            raise UserError(f"network.patch={self.patch}: expected a number, or {self.dimensions} of them")
        for width in (*self.widths, self.text_width):
            if width % 8 or width % heads(width):
                raise UserError(
                    f"network: a width of {width}: expected a multiple of 8 that {heads(width)} heads share"
                )

    @property
    def patches(self) -> tuple[int, ...]:
        """The patch of every dimension."""
        return (self.patch,) * self.dimensions if isinstance(self.patch, int) else self.patch

    @property
    def level_blocks(self) -> tuple[int, ...]:
        """The blocks of every level."""
        return (self.blocks,) * len(self.widths) if isinstance(self.blocks, int) else self.blocks

    @property
    def multiples(self) -> tuple[int, ...]:
        """What each extent of an example must be a multiple of."""
        return tuple(patch * 2 ** (len(self.widths) - 1) for patch in self.patches)


def heads(width: int) -> int:
    """Heads of attention for so many channels."""
    return max(1, width // HEAD)


def fold(x: Tensor, patches: tuple[int, ...]) -> Tensor:
    """[B, C, *S] -> [B, C prod(patches), *(S / patches)]: pixel unshuffle in any dimension."""
    d = len(patches)
    split = [part for side, patch in zip(x.shape[2:], patches, strict=True) for part in (side // patch, patch)]
    axes = [*range(3, 3 + 2 * d, 2), *range(2, 2 + 2 * d, 2)]  # the places inside a patch, then the patches
    return x.reshape(*x.shape[:2], *split).permute(0, 1, *axes).flatten(1, 1 + d)


def unfold(x: Tensor, patches: tuple[int, ...]) -> Tensor:
    """The inverse of `fold`."""
    d = len(patches)
    x = x.unflatten(1, (-1, *patches))  # [B, C, *patches, *S]
    axes = [axis for place in range(d) for axis in (2 + d + place, 2 + place)]
    shape = [side * patch for side, patch in zip(x.shape[2 + d :], patches, strict=True)]
    return x.permute(0, 1, *axes).reshape(*x.shape[:2], *shape)


class ResBlock(nn.Module):
    """norm, SiLU, conv, norm, scale and shift by the embedding, SiLU, conv (starting at zero), plus the input."""

    def __init__(self, width: int, embedding: int, dimensions: int = 2) -> None:
        super().__init__()
        convolution, self.spread = CONVOLUTION[dimensions], (1,) * dimensions
        self.norm1, self.norm2 = nn.GroupNorm(width // 8, width), nn.GroupNorm(width // 8, width)
        self.conv1, self.conv2 = convolution(width, width, 3, padding=1), convolution(width, width, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * width)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding).unflatten(1, (-1, *self.spread)).chunk(2, 1)
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
    """Attention of the places of x [B, C, *S] to each other and to the caption's words at once, heads of HEAD channels,
    added to its input."""

    def __init__(self, width: int, text_width: int, dimensions: int = 2) -> None:
        super().__init__()
        convolution, self.heads = CONVOLUTION[dimensions], heads(width)
        self.norm, self.text_norm = nn.GroupNorm(width // 8, width), nn.LayerNorm(text_width)
        self.qkv, self.out = convolution(width, 3 * width, 1), convolution(width, width, 1)
        self.from_text = nn.Linear(text_width, 2 * width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, words: Words) -> Tensor:
        b, c, *extents = x.shape
        n = math.prod(extents)
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, n).transpose(-1, -2).unbind(1)
        said = self.from_text(self.text_norm(words.tokens))
        text_k, text_v = said.reshape(b, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        k, v = torch.cat([k, text_k], 2), torch.cat([v, text_v], 2)
        # Written out: on a CPU, at this size, a tenth of the training's time cheaper than the fused operation.
        weight = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + F.pad(words.mask, (n, 0))).softmax(-1)
        y = weight.to(v.dtype) @ v  # [B, heads, n, c/heads]
        return x + self.out(y.transpose(-1, -2).reshape(x.shape))


class Level(nn.Module):
    """A residual block and, where asked for, attention."""

    def __init__(self, config: UNetConfig, width: int, attends: bool) -> None:
        super().__init__()
        self.block = ResBlock(width, config.embedding, config.dimensions)
        self.attention = Attention(width, config.text_width, config.dimensions) if attends else None

    def forward(self, x: Tensor, embedding: Tensor, words: Words) -> Tensor:
        x = self.block(x, embedding)
        return x if self.attention is None else self.attention(x, words)


class UNet(nn.Module):
    """F(x, log sigma / 4, c): x [B, C, *S], noise [B], a Condition -> [B, C, *S].

    light: what corrects it at low noise, applied by `edm.Preconditioned`, which knows D; None: nothing does.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, e = config, config.embedding
        convolution, transposed = CONVOLUTION[config.dimensions], TRANSPOSED[config.dimensions]
        folded = config.channels * math.prod(config.patches)
        self.text = TextEncoder(config.words, config.text_width, config.text_length)
        # Named for the cameras of the first world: the shipped weights know it so.
        self.from_text, self.from_camera = nn.Linear(config.text_width, e), nn.Linear(5 * (config.features + 1), e)
        if not config.features:
            nn.init.zeros_(self.from_camera.weight)  # a view that says nothing
        self.from_noise = nn.Linear(64, e)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        shown = folded + config.given * math.prod(config.patches)
        self.inward = convolution(shown, config.widths[0], 3, padding=1)
        self.down, self.up, width = nn.ModuleList(), nn.ModuleList(), config.widths[0]
        levels = list(zip(config.widths, config.attention, config.level_blocks, strict=True))
        for level, (target, attends, blocks) in enumerate(levels):
            if level:
                self.down.append(convolution(width, target, 3, stride=2, padding=1))
            self.down.extend(Level(config, target, attends) for _ in range(blocks))
            width = target
        sketch = width * config.sketch**config.dimensions
        self.sketch = nn.Sequential(nn.Linear(e, e), nn.SiLU(), nn.Linear(e, sketch))
        nn.init.zeros_(self.sketch[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.sketch[2].bias)  # type: ignore[arg-type]
        self.middle = nn.ModuleList(Level(config, width, attends) for attends in (True, False))
        for level, (width, attends, blocks) in reversed(list(enumerate(levels))):
            self.up.extend(Level(config, width, attends) for _ in range(blocks))
            if level:
                self.up.append(transposed(width, config.widths[level - 1], 2, stride=2))
        width = config.widths[0]
        told = 2 * folded if config.mask else folded
        self.norm, self.outward = nn.GroupNorm(width // 8, width), convolution(width, told, 3, padding=1)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)
        self.light = LightStage(config.light, config.channels, config.dimensions) if config.light else None

    def check(self, x: Tensor, c: Condition | None) -> None:
        """Raises UserError where x or c is not what this network was made for."""
        config, bias = self.config, self.outward.bias  # not its weight, which an adaptation would compute anew
        if x.shape[1:2] != (config.channels,) or not self._fits(x.shape[2:]):
            extents = ", ".join(f"a multiple of {each}" for each in config.multiples)
            raise UserError(f"x is {list(x.shape)}: this prior sees [B, {config.channels}, {extents}]")
        if x.dtype != bias.dtype or x.device != bias.device:
            raise UserError(
                f"x is {x.dtype} on {x.device}: this prior computes in {bias.dtype} on {bias.device}; "
                "move one to the other with .to(...)"
            )
        if not isinstance(c, Condition):
            raise UserError(
                f"c is {type(c).__name__}: expected what the prior's condition(prompt, views) returns; "
                'for no prompt, condition("", views)'
            )
        if len(c) != len(x) or c.views.shape[1] != config.features + 1:
            raise UserError(
                f"c is of {len(c)} views with {c.views.shape[1] - 1} features each, x of {len(x)} examples: expected "
                f"one view an example, with {config.features} features"
            )

        given = torch.Size() if c.given is None else c.given.shape
        if given != (torch.Size([len(x), config.given, *x.shape[2:]]) if config.given else torch.Size()):
            shown = f"{config.given} channels of what is given" if config.given else "nothing given"
            raise UserError(f"c is of {list(given)} given: this prior is shown {shown}, of the same extent as x")

    def _fits(self, extents: torch.Size) -> bool:
        multiples = self.config.multiples
        return len(extents) == len(multiples) and all(
            side and side % each == 0 for side, each in zip(extents, multiples, strict=True)
        )

    def embed(self, noise: Tensor, summary: Tensor, c: Condition) -> Tensor:
        """The vector [B, embedding] that modulates every block: noise level, caption and view together."""
        angle = noise[:, None] * torch.exp(torch.linspace(0.0, math.log(100.0), 32, device=noise.device))
        waves = torch.cat([angle.sin(), angle.cos()], -1)
        # Low harmonics of the view's numbers: sin and cos of an azimuth alone would leave sides hard to tell apart.
        harmonics = torch.cat([c.views, *(f(k * c.views) for k in (1.5, 3.0) for f in (torch.sin, torch.cos))], -1)
        harmonics = harmonics * c.views[:, -1:]  # an unknown view is zero throughout
        return self.mix(self.from_noise(waves) + self.from_text(summary) + self.from_camera(harmonics))

    def forward(self, x: Tensor, noise: Tensor, c: Condition) -> Tensor:
        self.check(x, c)
        layout, patches = LAYOUT[self.config.dimensions], self.config.patches
        tokens, present = self.text(c.text)
        e, words = self.embed(noise, tokens[:, 0], c), Words(tokens, present)
        seen = x if c.given is None else torch.cat([x, c.given.to(x)], 1)
        h = self.inward(fold(seen, patches).contiguous(memory_format=layout))
        sides = []
        for layer in self.down:
            h = layer(h, e, words) if isinstance(layer, Level) else layer(h)
            if isinstance(layer, Level):
                sides.append(h)
        sketch = self.sketch(e).unflatten(1, (-1, *[self.config.sketch] * self.config.dimensions))
        h = h + (sketch if sketch.shape == h.shape else F.interpolate(sketch, h.shape[2:]))
        for layer in self.middle:
            h = layer(h, e, words)
        for layer in self.up:
            # Sides are added, not concatenated: half the work of the way up, which a training on CPUs feels.
            h = layer((h + sides.pop()) * SQRT_HALF, e, words) if isinstance(layer, Level) else layer(h)
        y = unfold(self.outward(F.silu(self.norm(h))), patches)
        if not self.config.mask:
            return y
        factors, remainder = y.chunk(2, 1)
        return torch.addcmul(remainder, factors, x)
