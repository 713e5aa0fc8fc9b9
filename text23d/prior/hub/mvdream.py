"""MVDream (Shi et al. 2024): Stable Diffusion that sees four views of one object together, and is told their cameras.

In diffusers' layout it is a UNet of Stable Diffusion and, as the part camera_proj, the layers that embed cameras. Both
are data; the pipelines that are published beside such weights are code, which is neither needed nor run.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from text23d.cameras import GROUP, Cameras
from text23d.contracts import Views
from text23d.errors import UserError
from text23d.prior.hub import sd
from text23d.prior.hub.condition import Said
from text23d.prior.hub.family import Family
from text23d.prior.hub.index import Index, weights
from text23d.prior.hub.parts import unreadable

CAMERA, PART = "camera", "camera_proj"
ENTRIES = 16
"""Of a camera-to-world matrix."""
LAYERS = {"in_channels": ENTRIES, "act_fn": "silu", "post_act_fn": None, "cond_proj_dim": None}
"""Settings of the layers that embed cameras, which are as here."""


class CameraEmbedding(nn.Module):
    """linear_2(silu(linear_1(camera))) [B, W] of cameras [B, ENTRIES], which is added to the embedding of the noise
    level (section 3.2). Of no cameras, [B, 0], it is 0: each picture is seen alone then, as in the part of MVDream's
    training that was on single pictures (section 3.3).

    joined: whether the network that it belongs to sees GROUP views together now.
    """

    joined = False

    def __init__(self, hidden: int, wide: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(ENTRIES, hidden), nn.Linear(hidden, wide)

    def forward(self, camera: Tensor) -> Tensor:
        if not camera.shape[1]:
            return camera.new_zeros(len(camera), self.linear_2.out_features)
        embedded: Tensor = self.linear_2(nn.functional.silu(self.linear_1(camera)))
        return embedded


class Joined:
    """Self-attention over the tokens of GROUP views at once (section 3.1), by the layer's own processor."""

    def __init__(self, alone: Any, cameras: CameraEmbedding) -> None:
        self.alone, self.cameras = alone, cameras

    def __call__(self, attn: Any, hidden_states: Tensor, *rest: Any, **more: Any) -> Tensor:
        """hidden_states [B, L, W] -> the same."""
        if not self.cameras.joined:
            return self.alone(attn, hidden_states, *rest, **more)
        count, length, wide = hidden_states.shape
        every = hidden_states.reshape(count // GROUP, GROUP * length, wide)
        return self.alone(attn, every, *rest, **more).reshape(count, length, -1)


def complete(unet: Any, index: Index) -> None:
    """Have a UNet of Stable Diffusion add cameras to its noise level, and its self-attention see GROUP views.

    Raises UserError where the weights of the embedding are not there, or not those of this network.
    """
    unet.class_embedding = cameras = camera_embedding(index).to(unet.dtype).to(unet.device)
    if cameras.linear_2.out_features != unet.time_embedding.linear_2.out_features:
        raise unreadable(index.folder, PART, "its embedding is as wide as that of another network")
    processors = unet.attn_processors
    unet.set_attn_processor(
        {name: Joined(each, cameras) if ".attn1." in name else each for name, each in processors.items()}
    )


def camera_embedding(index: Index) -> CameraEmbedding:
    """The layers that embed cameras, frozen. Raises UserError where they are damaged, or others than these."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name, ours in LAYERS.items():
        if (theirs := index.config(PART).get(name, ours)) != ours:
            raise unreadable(index.folder, PART, f"{name}={theirs}, which is not known here")
    try:
        (path,) = weights(index, PART)
        tensors = load_file(path)
        made = CameraEmbedding(len(tensors["linear_1.bias"]), len(tensors["linear_2.bias"]))
        made.load_state_dict(tensors)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise unreadable(index.folder, PART, str(error).splitlines()[0] or type(error).__name__) from error
    return made.eval().requires_grad_(False)


def sees(views: Views) -> Said:
    """ "camera" [B, ENTRIES]: camera-to-world matrices with Z up and the front at -Y, row by row, each camera at a
    distance of 1 (as in the authors' camera_utils.py). Raises UserError for views without cameras."""
    if not isinstance(views, Cameras):
        raise UserError("this prior is told cameras: expected an object (representation=nerf_sdf or nerf)")
    pose = views.to_world()
    pose[:, :3, 3] /= pose[:, :3, 3].norm(dim=1, keepdim=True)
    return {CAMERA: pose.flatten(1)}


def predict(unet: Any, x: Tensor, t: Tensor, said: Said) -> Tensor:
    """As Stable Diffusion, told cameras where there are any. Raises UserError for views that are not in groups."""
    camera = said.get(CAMERA)
    if camera is not None and len(x) % GROUP:
        raise UserError(f"this prior sees {GROUP} views together, and was shown {len(x)}: expected a multiple")
    unet.class_embedding.joined = camera is not None
    told = x.new_zeros(len(x), 0) if camera is None else camera
    return unet(x, t, said["text"], class_labels=told, return_dict=False)[0]


FAMILY = Family(
    pipelines=("MVDreamPipeline",),
    encoders=sd.FAMILY.encoders,
    network=sd.FAMILY.network,
    encode=sd.encode,
    predict=predict,
    channels=sd.FAMILY.channels,
    sees=sees,
    group=GROUP,
    more=(PART,),
    complete=complete,
)
