"""The exact denoiser of a folder of pictures as the prior of a run: what a perfectly trained network would do that had
seen those pictures and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.guide import Guide, Request
from text23d.pictures import pictures_in, read_picture
from text23d.prior.analytic import Empirical


def guide(request: Request, folder: str | None) -> Guide:
    """D and D' are one and the same, conditioned on nothing: the pictures in `folder`, each as likely.

    The prompt only names the run. Raises UserError where the folder is missing or without pictures, where one cannot be
    read (see `read_picture`), and where they are not all of one size.
    """
    denoiser = Empirical(read_folder(folder).to(request.device))
    return Guide(denoiser, denoiser, shape=tuple(denoiser.points.shape[2:]))


def read_folder(folder: str | None) -> Tensor:
    """[N, 4, S, S] in picture space, by the files' names."""
    paths = pictures_in(folder, "prior.folder", "one of square pictures of one size")
    pictures = [read_picture(path, "prior.folder") for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise UserError(
                f"prior.folder={folder}: {path.name} is {picture.shape[-1]} pixels wide and {paths[0].name} is "
                f"{pictures[0].shape[-1]}; expected one size: scale or remove one"
            )
    return torch.stack(pictures)
