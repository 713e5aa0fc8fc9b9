"""Stable Diffusion 1.x and 2.x (Rombach et al. 2022), their inpainting models, and LCMs made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from text23d.prior.hub.condition import Said
from text23d.prior.hub.family import Family, clip
from text23d.prior.hub.image import IMAGE
from text23d.prior.hub.parts import Parts


def encode(parts: Parts, prompts: Sequence[str]) -> Said:
    """The last states of the text encoder."""
    return {"text": clip(parts["tokenizer"], parts["text_encoder"], prompts).last_hidden_state}


def predict(unet: Any, x: Tensor, t: Tensor, said: Said) -> Tensor:
    """An inpainting model sees beside x what is known, see `extras`."""
    if "known" in said:
        x = torch.cat([x, said["known"]], dim=1)
    scale = embedded(said["scale"], unet.config.time_cond_proj_dim).to(x) if "scale" in said else None
    return unet(x, t, said["text"], timestep_cond=scale, added_cond_kwargs=shown(said), return_dict=False)[0]


def shown(said: Said) -> dict[str, list[Tensor]]:
    """The picture of an adapter, see `hub.image`, where there is one."""
    return {"image_embeds": [said[IMAGE]]} if IMAGE in said else {}


def embedded(scale: Tensor, width: int) -> Tensor:
    """A guidance scale [B] as latent consistency models are told it, [B, width]: sines, then cosines, of
    1000 (scale - 1) 10000^(-k / (width / 2 - 1)) (Luo et al. 2023; the code of Kingma et al. 2021)."""
    half = width // 2
    rates = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half, device=scale.device, dtype=torch.float32))
    angles = 1000 * (scale.float() - 1)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos(), angles.new_zeros(len(scale), width % 2)], dim=1)


@torch.no_grad()
def extras(unet: Any, vae: Any, pixels: int) -> Said:
    """Of an inpainting model: a mask, 1 where nothing is known, and the latents of what is known, where grey takes the
    place of the rest. Here nothing is known."""
    if unet.config.in_channels == unet.config.out_channels:
        return {}
    grey = next(vae.parameters()).new_zeros(1, 3, pixels, pixels)
    latents = vae.encode(grey).latent_dist.mean[0] * vae.config.scaling_factor
    return {"known": torch.cat([torch.ones_like(latents[:1]), latents])}


FAMILY = Family(
    pipelines=("StableDiffusionPipeline", "StableDiffusionInpaintPipeline", "LatentConsistencyModelPipeline"),
    encoders={"tokenizer": "CLIPTokenizer", "text_encoder": "CLIPTextModel"},
    network=("unet", "UNet2DConditionModel"),
    encode=encode,
    predict=predict,
    extras=extras,
    embeds=lambda config: config.get("time_cond_proj_dim") is not None,
    channels=lambda config: int(config["out_channels"]),
)
