"""The object of a photograph, cut out by a local model that tells it from its background."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from text23d.errors import UserError
from text23d.spaces import to_picture

MODELS = {
    "SegformerForSemanticSegmentation": "SegformerImageProcessorPil",
    "MobileViTForSemanticSegmentation": "MobileViTImageProcessorPil",
    "MobileNetV2ForSemanticSegmentation": "MobileNetV2ImageProcessorPil",
    "DPTForSemanticSegmentation": "DPTImageProcessorPil",
}
"""Classes of transformers that are used, and what prepares pictures for them. No code of a model's own is run."""
BACKGROUND = "background"


@torch.no_grad()
def cut_out(picture: Tensor, folder: str, setting: str) -> Tensor:
    """A picture that is covered everywhere, [4, H, W] in picture space, covered where the model in `folder` sees no
    background, as far as it is sure. setting: what the person set to `folder`.

    The model has one label, what is in front, or one called background. Raises UserError where it cannot be read, is of
    another kind, or finds nothing or everything.
    """
    model, processor = load(Path(folder).expanduser(), f"{setting}={folder}")
    colour = ((picture[:3].clamp(-1, 1) + 1) / 2).mul(255).round().byte().movedim(0, -1).cpu().numpy()
    logits = model(**processor(colour, return_tensors="pt")).logits.float()
    logits = F.interpolate(logits, size=tuple(picture.shape[1:]), mode="bilinear", align_corners=False)[0]
    alpha = logits.sigmoid() if len(logits) == 1 else 1 - logits.softmax(0)[background(model.config)][None]
    alpha = alpha.to(picture)
    if not (alpha > 0.5).any() or not (alpha < 0.5).any():
        found = "nothing but background" if not (alpha > 0.5).any() else "no background"
        raise UserError(f"{setting}={folder}: it finds {found} in the picture; cut the object out by hand, as a PNG")
    return to_picture((picture[:3] + 1) / 2 * alpha, alpha)


def load(folder: Path, given: str) -> tuple[Any, Any]:
    """A model and what prepares its pictures. Raises UserError."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = [str(each) for each in config["architectures"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{given}: no model of transformers there; expected a folder with its config.json") from error
    kind = next((name for name in names if name in MODELS), None)
    if kind is None:
        raise UserError(f"{given}: it holds a {', '.join(names)}; expected one of {', '.join(MODELS)}")
    if not (folder / "model.safetensors").is_file():
        raise UserError(f"{given}: there is no model.safetensors in it; weights of other kinds are not read")
    try:
        import transformers
    except ImportError as error:
        raise UserError(f'{given}: it needs transformers ({error}): pip install "text23d[hub]"') from error
    try:
        model = getattr(transformers, kind).from_pretrained(folder, local_files_only=True, use_safetensors=True)
        processor = getattr(transformers, MODELS[kind]).from_pretrained(folder, local_files_only=True)
    except Exception as error:  # what transformers raises of a damaged folder is of many kinds
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{given}: it cannot be read ({why}); download the model again") from error
    if model.config.num_labels > 1 and background(model.config) is None:
        raise UserError(f"{given}: none of its labels is {BACKGROUND}; expected a model that tells objects from it")
    return model.eval(), processor


def background(config: Any) -> int | None:
    """Which of a model's labels means background."""
    labels = {str(name).strip().lower(): int(index) for index, name in config.id2label.items()}
    return labels.get(BACKGROUND)
