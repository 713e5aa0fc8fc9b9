"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): a flow, a transformer, two CLIP encoders and a T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from text23d.prior.hub.condition import Said
from text23d.prior.hub.family import Family, clip, t5
from text23d.prior.hub.parts import Parts

LONGEST = 256
"""Tokens of the T5 encoder."""
STEPS = 1000
"""The network's timestep at the end of the flow."""


def encode(parts: Parts, prompts: Sequence[str]) -> Said:
    """The last states but one of both CLIP encoders side by side, then T5's, and both pooled texts. Where the model has
    no T5, zeros take its place, as in training."""
    found = [clip(parts[f"tokenizer{i}"], parts[f"text_encoder{i}"], prompts) for i in ("", "_2")]
    text = torch.cat([each.hidden_states[-2] for each in found], dim=-1)
    if "text_encoder_3" in parts:
        states, _ = t5(parts["tokenizer_3"], parts["text_encoder_3"], prompts, LONGEST, masked=False)
        text = F.pad(text, (0, states.shape[-1] - text.shape[-1]))
    else:
        states = torch.zeros_like(text[:, :1]).expand(-1, LONGEST, -1)
    return {
        "text": torch.cat([text, states], dim=1),
        "pooled": torch.cat([each.text_embeds for each in found], dim=-1),
    }


def predict(transformer: Any, x: Tensor, t: Tensor, said: Said) -> Tensor:
    """Texts without T5's are narrower than what the network reads."""
    text = F.pad(said["text"], (0, transformer.config.joint_attention_dim - said["text"].shape[-1]))
    return transformer(x, text, said["pooled"], STEPS * t, return_dict=False)[0]


FAMILY = Family(
    pipelines=("StableDiffusion3Pipeline",),
    encoders={
        "tokenizer": "CLIPTokenizer",
        "text_encoder": "CLIPTextModelWithProjection",
        "tokenizer_2": "CLIPTokenizer",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "tokenizer_3": "T5Tokenizer",
        "text_encoder_3": "T5EncoderModel",
    },
    network=("transformer", "SD3Transformer2DModel"),
    encode=encode,
    predict=predict,
)
