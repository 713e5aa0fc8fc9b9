"""The priors' networks on their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from text23d.prior.hub.parts import require_diffusers
from text23d.studies.benchmark.replay import Replay
from text23d.studies.benchmark.timing import Call


@dataclass(frozen=True)
class Network:
    """call evaluates it once, which takes so many FLOPs; most of its arithmetic is in `dtype`."""

    name: str
    dtype: torch.dtype
    call: Call
    flops: int


def flops(call: Call) -> int:
    """FLOPs of the matrix products and convolutions in a call; a multiplication and an addition count as two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def builtin(replay: Replay, dtype: torch.dtype) -> Network:
    """D' on the pictures of an iteration."""
    call = replay.network()
    return Network(f"built-in prior, {replay.views} pictures", dtype, call, flops(call))


def stable_diffusion(batch: int, device: torch.device, dtype: torch.dtype) -> Network:
    """The UNet of Stable Diffusion 1.x with random weights, on latents 64 x 64.

    860 million parameters: 3.4 GB as float32, half as float16. Raises UserError without diffusers.
    """
    unet = architecture()
    count = flops(lambda: evaluate(unet, batch))
    randomise(unet, device, dtype)
    return Network(f"UNet of Stable Diffusion, {batch} latents", dtype, lambda: evaluate(unet, batch), count)


def architecture() -> Any:
    """The UNet of Stable Diffusion 1.x as its configuration describes it, without memory for its weights."""
    require_diffusers()
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    return unet.eval()


def randomise(unet: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Give a network without weights small random ones."""
    unet.requires_grad_(False).to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in unet.parameters():
        parameter.uniform_(-0.02, 0.02, generator=generator)


@torch.no_grad()
def evaluate(unet: Any, batch: int) -> Tensor:
    """One prediction, for noise and words of a fixed value: speed does not depend on it."""
    like, side, width = next(unet.parameters()), unet.config.sample_size, unet.config.cross_attention_dim
    x, text = like.new_full((batch, unet.config.in_channels, side, side), 0.5), like.new_full((batch, 77, width), 0.5)
    found: Tensor = unet(x, torch.full((batch,), 500.0, device=like.device), text).sample
    return found
