"""Snapshots of a run on its way, for a viewer: phi as results would show it now, and what the last iteration saw.

Each is a file of its own, read by another process while the run goes on; nothing of it is a live tensor of the run's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from text23d import checkpoint
from text23d.engine.checkpoints import Checkpoints, CheckpointSettings
from text23d.engine.folder import VIEWER
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.method.average import Average
from text23d.settings import build

SNAPSHOTS = f"{VIEWER}/snapshots"
KIND, PHI, SEEN = "snapshot", "phi.", "seen"
LARGE, HIGHEST = 4096, 6e4
"""Elements from which a tensor is halved, unless it has values near the highest of half precision, 65504."""
UNNEEDED = "occupancy.density"
"""What a rendering does not ask for."""


@dataclass(frozen=True)
class Snapshot:
    """phi after `iteration`, frozen, on the CPU. seen [3, H, W, 3] uint8: what the last iteration rendered, where it
    was to go, and by how much they differed, over mid grey; None: it is not known."""

    iteration: int
    phi: nn.Module
    seen: Tensor | None = None


def path_of(folder: Path, iteration: int) -> Path:
    return folder / SNAPSHOTS / f"{iteration:06d}.safetensors"


def write(folder: Path, iteration: int, phi: nn.Module, representation: Any, seen: Tensor | None) -> None:
    """Write what `read` reads. Raises UserError where it cannot be written, and for values that are not finite."""
    tensors = {PHI + name: halved(each) for name, each in phi.state_dict().items() if name != UNNEEDED}
    if seen is not None:
        tensors[SEEN] = seen
    save_tensors(path_of(folder, iteration), tensors, KIND, {"iteration": iteration, "representation": representation})


def halved(x: Tensor) -> Tensor:
    """A large tensor in half precision: 11 bits of each number, of what is seen through 8."""
    if x.dtype != torch.float32 or x.numel() < LARGE or float(x.abs().amax()) > HIGHEST:
        return x
    return x.half()


def listed(folder: Path) -> dict[int, Path]:
    """All files from which phi can be read, by their iteration, in its order: snapshots and, of iterations that have
    none, checkpoints."""
    checkpoints = Checkpoints(folder, CheckpointSettings())
    found = {iteration: checkpoints.path(iteration) for iteration in checkpoints.iterations()}
    for path in (folder / SNAPSHOTS).glob("*.safetensors"):
        if re.fullmatch(r"\d{6,}", path.stem):
            found[int(path.stem)] = path
    return dict(sorted(found.items()))


def read(path: Path, cfg: Mapping[str, Any]) -> Snapshot:
    """A snapshot, a checkpoint, or the parameters that a finished run left, of a run with this configuration. Raises
    UserError where it is missing or damaged, or of another run."""
    section = cfg["representation"]
    if path.parent.name == "checkpoints":
        return _of_checkpoint(checkpoint.load(path), path, cfg)
    kind = KIND if path.parent.name == "snapshots" else path.stem
    tensors, facts = load_tensors(path, kind)
    if facts.get("representation", section) != section or not isinstance(facts.get("iteration"), int):
        raise UserError(f"{path} is of a run with another representation than config.yaml beside it says")
    own = {name.removeprefix(PHI): each for name, each in tensors.items() if kind != KIND or name.startswith(PHI)}
    seen = tensors.get(SEEN)
    if seen is not None and not (seen.dtype == torch.uint8 and seen.dim() == 4 and seen.shape[::3] == (3, 3)):
        raise UserError(f"{path} is damaged: its pictures are none")
    return Snapshot(facts["iteration"], _loaded(section, own, path), seen)


def _of_checkpoint(contents: Mapping[str, Any], path: Path, cfg: Mapping[str, Any]) -> Snapshot:
    try:
        state, averaged = contents["state"], contents["state"]["average"]
        phi = _loaded(cfg["representation"], state["phi"], path)
        if averaged:
            average = Average(phi.parameters(), 0.0)
            average.load(averaged)
            phi = average.view(phi)
        return Snapshot(int(state["counts"]["iteration"]), phi)
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} is no checkpoint of this run") from error


def _loaded(section: Any, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """phi of this section of a configuration, with these values. Raises UserError where they do not fit."""
    phi: nn.Module = build({**section, **({"start": None} if "start" in section else {})}, "representation", nn.Module)
    own = phi.state_dict()
    full = {name: tensors[name].to(each.dtype) if name in tensors else each for name, each in own.items()}
    fits = all(full[name].shape == each.shape for name, each in own.items())
    if not fits or tensors.keys() - own.keys() or own.keys() - tensors.keys() - {UNNEEDED}:
        raise UserError(f"{path} does not fit the representation in config.yaml beside it")
    phi.load_state_dict(full)
    return phi.eval().requires_grad_(False)
