"""FLUX.1 (Black Forest Labs, 2024): a flow, a transformer over packed latents, a CLIP encoder and a T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from text23d.prior.hub.condition import Said
from text23d.prior.hub.family import Family, clip, t5
from text23d.prior.hub.parts import Parts

LONGEST = 512
"""Tokens of the T5 encoder."""
PATCH = 2
"""Latents along a side of a token."""
SIDE = 128
"""Latents along a side of a picture of 1024 x 1024, which the models were trained for; their files do not say."""


def encode(parts: Parts, prompts: Sequence[str]) -> Said:
    """T5's last states, and the pooled text of CLIP."""
    pooled = clip(parts["tokenizer"], parts["text_encoder"], prompts).pooler_output
    return {
        "text": t5(parts["tokenizer_2"], parts["text_encoder_2"], prompts, LONGEST, masked=False)[0],
        "pooled": pooled,
    }


def predict(transformer: Any, x: Tensor, t: Tensor, said: Said) -> Tensor:
    """2 x 2 latents are one token; its place is told as (0, row, column), that of all words as (0, 0, 0)."""
    high, wide = (side // PATCH for side in x.shape[-2:])
    tokens = F.pixel_unshuffle(x, PATCH).flatten(2).transpose(1, 2)
    places = torch.zeros(high, wide, 3, device=x.device, dtype=x.dtype)
    places[..., 1] = torch.arange(high, device=x.device)[:, None]
    places[..., 2] = torch.arange(wide, device=x.device)
    found = transformer(
        hidden_states=tokens,
        timestep=t.to(x),
        guidance=said["scale"].float() if "scale" in said else None,
        pooled_projections=said["pooled"],
        encoder_hidden_states=said["text"],
        txt_ids=places.new_zeros(said["text"].shape[1], 3),
        img_ids=places.reshape(-1, 3),
        return_dict=False,
    )[0]
    return F.pixel_shuffle(found.transpose(1, 2).unflatten(2, (high, wide)), PATCH)


FAMILY = Family(
    pipelines=("FluxPipeline",),
    encoders={
        "tokenizer": "CLIPTokenizer",
        "text_encoder": "CLIPTextModel",
        "tokenizer_2": "T5Tokenizer",
        "text_encoder_2": "T5EncoderModel",
    },
    network=("transformer", "FluxTransformer2DModel"),
    encode=encode,
    predict=predict,
    embeds=lambda config: bool(config.get("guidance_embeds")),
    channels=lambda config: int(config["in_channels"]) // PATCH**2,
    sides=lambda config: SIDE,
)
