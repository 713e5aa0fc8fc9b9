"""PixArt-Sigma (Chen et al. 2024): a transformer with a T5 encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from text23d.prior.hub.condition import Said
from text23d.prior.hub.family import Family, t5
from text23d.prior.hub.parts import Parts

LONGEST = 300
"""Tokens of the T5 encoder."""


def encode(parts: Parts, prompts: Sequence[str]) -> Said:
    """PixArt was trained with prompts in lower case."""
    said = [prompt.lower().strip() for prompt in prompts]
    states, mask = t5(parts["tokenizer"], parts["text_encoder"], said, LONGEST, masked=True)
    return {"text": states, "mask": mask}


def predict(transformer: Any, x: Tensor, t: Tensor, said: Said) -> Tensor:
    """The noise, and beside it the variance."""
    return transformer(
        x,
        encoder_hidden_states=said["text"],
        encoder_attention_mask=said["mask"],
        timestep=t,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        return_dict=False,
    )[0]


FAMILY = Family(
    pipelines=("PixArtSigmaPipeline",),
    encoders={"tokenizer": "T5Tokenizer", "text_encoder": "T5EncoderModel"},
    network=("transformer", "PixArtTransformer2DModel"),
    encode=encode,
    predict=predict,
)
