"""A picture as part of what a pretrained model is told: IP-Adapter (Ye et al. 2023), loaded by diffusers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.pictures import read_picture
from text23d.prior.hub.condition import Said
from text23d.spaces import from_picture

if TYPE_CHECKING:
    from text23d.prior.hub.model import Model

ENCODER = "image_encoder"
IMAGE = "image"
"""The name of what is said by a picture, [..., N, W]: its N embeddings of one adapter."""


@dataclass(frozen=True)
class Shown:
    """rgba: a picture, as `pictures.read_picture` returns it; adapter: the weights that tell it to a model."""

    rgba: Tensor
    adapter: Path


def adapted(model: Model, told: Shown, scale: float) -> Model:
    """The model, told a picture beside its prompts. scale: how much that counts, 1 as it was trained.

    The network, which `require_adaptable` has seen, is changed. Raises UserError for weights that cannot be read.
    """
    network, device = model.network, model.empty["text"].device
    pipeline = loader(network, told.adapter, device)
    pipeline.set_ip_adapter_scale(scale)
    network.requires_grad_(False)
    shown, nothing = embeddings(pipeline, told.rgba, device)
    return replace(
        model,
        prompts=[{words: beside(each, shown) for words, each in asked.items()} for asked in model.prompts],
        empty=beside(model.empty, nothing),
        unwanted=model.unwanted and beside(model.unwanted, nothing),
    )


def read_shown(picture: str | None, adapter: str | None) -> Shown | None:
    """The picture in a file, and the adapter in a file or folder; None where neither is given. Raises UserError where
    one of the two is not there."""
    if picture is None and adapter is None:
        return None
    if picture is None:
        raise UserError("prior.ip_adapter tells the model a picture: add prior.image=<a picture>, or leave it out")
    weights = adapter_file(adapter)
    return Shown(read_picture(picture, "prior.image", square=False), weights)


def require_adaptable(network: str, group: int) -> None:
    """Raises UserError for a class of networks that has no such adapters, and for one that sees groups."""
    if network != "UNet2DConditionModel" or group > 1:
        raise UserError(
            f"prior.ip_adapter: the {network} of this model takes none here; choose a model of Stable Diffusion or SDXL"
        )


def beside(said: Said, picture: Tensor) -> Said:
    return {**said, IMAGE: picture.to(said["text"])}


def adapter_file(adapter: str | None) -> Path:
    """The file of weights of an adapter, beside which its image encoder lies. Raises UserError."""
    if adapter is None:
        raise UserError(
            "prior.image is told by an adapter: add prior.ip_adapter=<its .safetensors file, or its folder>"
        )
    path = Path(adapter).expanduser()
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(found) != 1 or found[0].suffix != ".safetensors" or not found[0].is_file():
        raise UserError(f"prior.ip_adapter={adapter}: expected a .safetensors file, or a folder with one")
    lacking = [
        name for name in ("config.json", "model.safetensors") if not (found[0].parent / ENCODER / name).is_file()
    ]
    if lacking:
        raise UserError(f"prior.ip_adapter={adapter}: there is no {ENCODER}/{lacking[0]} beside it; add its encoder")
    return found[0]


def loader(network: Any, weights: Path, device: torch.device) -> Any:
    """A pipeline of nothing but the network, wherever that is, and the adapter's encoder on `device`; its own methods
    read the adapter."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionPipeline
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    try:
        encoder = CLIPVisionModelWithProjection.from_pretrained(
            weights.parent / ENCODER, local_files_only=True, use_safetensors=True, dtype=network.dtype
        )
        pipeline: Any = StableDiffusionPipeline(
            vae=None, text_encoder=None, tokenizer=None, unet=network, scheduler=None, safety_checker=None,
            image_encoder=encoder.eval().to(device), requires_safety_checker=False,
            feature_extractor=CLIPImageProcessor(size=encoder.config.image_size, crop_size=encoder.config.image_size),
        )  # fmt: skip
        pipeline.load_ip_adapter(
            str(weights.parent), subfolder="", weight_name=weights.name, local_files_only=True, low_cpu_mem_usage=False
        )
    except Exception as error:  # a damaged or foreign adapter fails in many ways
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"prior.ip_adapter={weights}: it is not for this model ({why}); choose one that is") from error
    return pipeline


def embeddings(pipeline: Any, rgba: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the adapter's encoder sees in a picture over white, and what it is told where nothing is shown, [N, W]."""
    from PIL import Image

    premultiplied, alpha = from_picture(rgba)
    levels = ((premultiplied + 1 - alpha).clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
    (both,) = pipeline.prepare_ip_adapter_image_embeds([Image.fromarray(levels)], None, device, 1, True)
    nothing, shown = both.chunk(2)
    return shown[0], nothing[0]
