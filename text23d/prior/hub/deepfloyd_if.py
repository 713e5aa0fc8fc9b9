"""DeepFloyd IF, first stage (Saharia et al. 2022; Shonenkov et al. 2023): pixels, and a T5 encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from text23d.prior.hub.condition import Said
from text23d.prior.hub.family import Family, t5
from text23d.prior.hub.parts import Parts

LONGEST = 77
"""Tokens that it was trained with."""


def encode(parts: Parts, prompts: Sequence[str]) -> Said:
    """IF was trained with prompts in lower case."""
    said = [prompt.lower().strip() for prompt in prompts]
    return {"text": t5(parts["tokenizer"], parts["text_encoder"], said, LONGEST, masked=True)[0]}


def predict(unet: Any, x: Tensor, t: Tensor, said: Said) -> Tensor:
    """The noise, and beside it the variance."""
    return unet(x, t, said["text"], return_dict=False)[0]


FAMILY = Family(
    pipelines=("IFPipeline",),
    encoders={"tokenizer": "T5Tokenizer", "text_encoder": "T5EncoderModel"},
    network=("unet", "UNet2DConditionModel"),
    encode=encode,
    predict=predict,
    latents=False,
)
