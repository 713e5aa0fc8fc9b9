"""The exact denoiser of a folder of pictures as the prior of a run: what a perfectly trained network would do that had
seen those pictures and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from text23d.cameras import Cameras
from text23d.contracts import Representation
from text23d.errors import UserError
from text23d.pictures import read_picture
from text23d.prior.analytic import Empirical

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class EmpiricalPair:
    """D and D' are one and the same, and are told nothing; implements `pair.Pair`."""

    main: Empirical
    reference_rms: None = None  # sigma itself, to which it tends where pictures are far apart

    @property
    def auxiliary(self) -> Empirical:
        return self.main

    @property
    def size(self) -> int:
        return int(self.main.points.shape[-1])

    def conditions(self, cameras: Cameras) -> tuple[None, None]:
        return None, None

    def wrap(self, phi: Representation[Cameras]) -> Representation[Cameras]:
        """phi itself: this prior sees picture space."""
        return phi


def empirical_pair(prompt: str, device: torch.device, folder: str | None) -> EmpiricalPair:
    """The pictures in `folder`, each as likely; `prompt` only names the run.

    Raises UserError where the folder is missing or without pictures, where one cannot be read (see `read_picture`), and
    where they are not all of one size.
    """
    return EmpiricalPair(Empirical(read_folder(folder).to(device)))


def read_folder(folder: str | None) -> Tensor:
    """[N, 4, S, S] in picture space, by the files' names."""
    if folder is None or not Path(folder).is_dir():
        raise UserError(f"prior.folder={folder}: no such folder; expected one of square pictures of one size")
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"prior.folder={folder}: no picture there; expected files named {', '.join(SUFFIXES)}")
    pictures = [read_picture(path, "prior.folder") for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise UserError(
                f"prior.folder={folder}: {path.name} is {picture.shape[-1]} pixels wide and {paths[0].name} is "
                f"{pictures[0].shape[-1]}; expected one size: scale or remove one"
            )
    return torch.stack(pictures)
