"""The Python interface: `text23d.generate` and `text23d.load_prior`."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import trimesh
from torch import Tensor

from text23d.artifact.formats import WRITERS
from text23d.compose import compose
from text23d.contracts import Denoiser, Shape
from text23d.devices import find_device
from text23d.door.overrides import check_passed_on
from text23d.engine.events import OnEvent, unheard
from text23d.engine.job import SHEET, execute
from text23d.engine.resume import read_config
from text23d.engine.saved import read_nerf
from text23d.errors import UserError
from text23d.files import write_bytes
from text23d.prior.builtin import prior as builtin
from text23d.prior.wrappers.guidance import Guided
from text23d.representation.nerf import Nerf
from text23d.representation.views import FixedCamera
from text23d.settings import NonNegative, checked, read
from text23d.tasks.lighting import light_of
from text23d.tasks.meshing import MeshSettings, export
from text23d.worlds.objects.world import Objects

VIDEOS, PICTURES = ("turntable.mp4", "pan.mp4"), ("image.png", "panorama.png", "audio.png")
PARAMETERS = ("nerf.safetensors", "image.safetensors", "panorama.safetensors", "audio.safetensors")
"""What runs leave, one of each at most."""


@dataclass(frozen=True)
class Result:
    """What a run made: the files in `folder`, and `summary`, which is its summary.json.

    The folder of a run that was given none is removed with its result: `save` what is to stay.
    """

    folder: Path
    summary: Mapping[str, Any]
    _keeper: TemporaryDirectory[str] | None = None

    @cached_property
    def nerf(self) -> Nerf:
        """The NeRF, frozen, on the CPU: `nerf.render_image(cameras, size)`, `nerf.query(points)`. Raises UserError for
        the run of a picture."""
        return read_nerf(self.folder)

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """The mesh, as its GLB has it: Y up, in metres, textured. Raises UserError where the run wrote none."""
        loaded = trimesh.load(self._file("mesh.glb"), force="mesh")
        assert isinstance(loaded, trimesh.Trimesh)
        return loaded

    def turntable(self) -> Path:
        """The video of one turn, around an object or of a panorama. Raises UserError where the run wrote none."""
        return self._file(self._first(VIDEOS))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write what the suffix of `path` names: .glb, .obj or .ply the mesh, .mp4 the video, .wav the sound, .png the
        picture or, of an object, the contact sheet; .safetensors phi's parameters. Returns the path.

        Raises UserError for another suffix, for what this run has not made, and where it cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower().lstrip(".")
        if kind == "obj" or (kind in WRITERS and not (self.folder / f"mesh.{kind}").is_file()):
            return self._convert(path, kind)
        names = {
            **{name: f"mesh.{name}" for name in WRITERS},
            "mp4": self._first(VIDEOS),
            "png": self._first((*PICTURES, SHEET)),
            "wav": "audio.wav",
            "safetensors": self._first(PARAMETERS),
        }
        if kind not in names:
            raise UserError(f"cannot save {path}: expected a name that ends in one of .{', .'.join(names)}")
        write_bytes(path, self._file(names[kind]).read_bytes())
        return path

    def _convert(self, path: Path, kind: str) -> Path:
        """The mesh in a format that the run did not write, or with files beside it that are named after `path`."""
        cfg = read_config(self.folder)
        settings, light = read(MeshSettings, {**cfg["mesh"], "format": kind}, "mesh."), light_of(cfg)
        export(self.nerf, str(self.summary["prompt"]), path, settings, torch.device("cpu"), light=light)
        return path

    def _first(self, names: Sequence[str]) -> str:
        """The one of these files that this run wrote; the first one where it wrote none of them."""
        return next((name for name in names if (self.folder / name).is_file()), names[0])

    def _file(self, name: str) -> Path:
        if not (self.folder / name).is_file():
            raise UserError(f"this run wrote no {name}: it made {', '.join(sorted(self._written()))}")
        return self.folder / name

    def _written(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if path.is_file() and not path.name.startswith(".")]

    def _repr_html_(self) -> str:
        """The contact sheet, or the picture, under the prompt and the score: what a notebook shows."""
        shown = self.folder / self._first((*PICTURES, SHEET))
        data = base64.b64encode(shown.read_bytes()).decode()
        score = ", ".join(f"{name} {value:.2f}" for name, value in (self.summary["score"] or {}).items())
        title = html.escape(f"{self.summary['prompt']} ({score})" if score else self.summary["prompt"])
        return (
            f'<figure><img src="data:image/png;base64,{data}" alt="{title}"/><figcaption>{title}</figcaption></figure>'
        )


def generate(
    prompt: str,
    *overrides: str,
    folder: str | os.PathLike[str] | None = None,
    on_event: OnEvent = unheard,
    **settings: Any,
) -> Result:
    """Make what `prompt` says: the main job of `python -m text23d.run`.

    overrides   as on the command line: "method=sds", "method.iterations=200", "representation=image".
    settings    the same by name: seed=3, method="sds", **{"mesh.faces": 5000}.
    folder      where its files go; None: a temporary one that lasts as long as the result.
    on_event    is called with each of `text23d.engine.events.Event`, such as the figures of each iteration.

    With resume="auto" a run that lies in `folder`, and was broken off, goes on.

    Raises UserError for mistakes, in one line. The same seed on the same machine gives the same bytes.
    """
    if overrides:
        check_passed_on([overrides])  # in our words, with near misses
    cfg = compose("config", ["prompt=prompt", *overrides], prompt=prompt, **settings)
    keeper = TemporaryDirectory(prefix="text23d-") if folder is None else None
    where = Path(keeper.name if keeper else folder)  # type: ignore[arg-type]
    summary = execute(cfg, where, on_event)
    return Result(where, json.loads(json.dumps(summary, default=str)), keeper)


@dataclass(frozen=True)
class Conditioned:
    """D(x; sigma), conditioned on what it was loaded with; implements `contracts.Denoiser`.

    conditions   how many -> the conditions of a batch of as many
    shape        of what it denoises, (C, H, W)
    """

    denoiser: Denoiser
    conditions: Callable[[int], Any]
    shape: Shape

    def __call__(self, x: Tensor, sigma: Tensor | float, c: Any = None) -> Tensor:
        """x [B, *shape] and sigma, a number, [] or [B], above 0 -> E[x0 | x] as x. c: other conditions than its own.
        Raises UserError for another shape, and for another number of conditions."""
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        return self.denoiser(x, level, self.conditions(len(x)) if c is None else c)


def load_prior(
    words: str = "",
    *,
    azimuth: float | None = None,
    elevation: float = 15.0,
    guidance: float = 1.0,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> Conditioned:
    """The built-in prior's denoiser, conditioned on a prompt ("": on none) and on the camera at this azimuth and
    elevation in degrees (None: on none). Its pictures are those of `text23d.spaces`.

    guidance: scale of classifier-free guidance; 1 is none. weights: a file of `text23d.train_prior`; None: the shipped
    ones. Raises UserError for words and numbers that do not serve, and for weights that are missing or damaged.
    """
    where = find_device(device)
    prior = builtin.load(None if weights is None else Path(weights), where, builtin.fast_precision(where))
    tokens = Objects().tokens(words, "words") if words else ()
    scale = checked(guidance, NonNegative, "guidance")
    camera = FixedCamera(azimuth=0.0 if azimuth is None else azimuth, elevation=elevation)

    def conditions(count: int) -> Any:
        told = prior.condition(tokens, camera.sample(count))
        return told.without_views() if azimuth is None else told

    denoiser = prior.denoiser if scale == 1 else Guided(prior.denoiser, scale)
    return Conditioned(denoiser, conditions, (4, *prior.shape))
