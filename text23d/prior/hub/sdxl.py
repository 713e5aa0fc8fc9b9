"""Stable Diffusion XL (Podell et al. 2023): two text encoders, a pooled prompt, and the size of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from text23d.prior.hub import sd
from text23d.prior.hub.condition import Said
from text23d.prior.hub.family import Family, clip
from text23d.prior.hub.index import Index
from text23d.prior.hub.parts import Parts


def encode(parts: Parts, prompts: Sequence[str]) -> Said:
    """The last states but one of both encoders side by side, and the pooled text of the second."""
    pairs = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
    found = [clip(parts[words], parts[encoder], prompts) for words, encoder in pairs if encoder in parts]
    return {"text": torch.cat([each.hidden_states[-2] for each in found], dim=-1), "pooled": found[-1].text_embeds}


def unsaid(index: Index, empty: Said) -> Said:
    """Zeros, unless the model says otherwise."""
    if not index.settings.get("force_zeros_for_empty_prompt", True):
        return empty
    return {name: torch.zeros_like(each) for name, each in empty.items()}


def extras(unet: Any, vae: Any, pixels: int) -> Said:
    """The size of a picture before it was cropped, where from, and its size afterwards: whole, and as it is."""
    sizes = torch.tensor([pixels, pixels, 0, 0, pixels, pixels], dtype=torch.float32)
    return {**sd.extras(unet, vae, pixels), "time_ids": sizes}


def predict(unet: Any, x: Tensor, t: Tensor, said: Said) -> Tensor:
    if "known" in said:
        x = torch.cat([x, said["known"]], dim=1)
    scale = sd.embedded(said["scale"], unet.config.time_cond_proj_dim).to(x) if "scale" in said else None
    more = {"text_embeds": said["pooled"], "time_ids": said["time_ids"], **sd.shown(said)}
    return unet(x, t, said["text"], timestep_cond=scale, added_cond_kwargs=more, return_dict=False)[0]


FAMILY: Family = replace(
    sd.FAMILY,
    pipelines=("StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"),
    encoders={
        "tokenizer": "CLIPTokenizer",
        "text_encoder": "CLIPTextModel",
        "tokenizer_2": "CLIPTokenizer",
        "text_encoder_2": "CLIPTextModelWithProjection",
    },
    encode=encode,
    predict=predict,
    unsaid=unsaid,
    extras=extras,
)
