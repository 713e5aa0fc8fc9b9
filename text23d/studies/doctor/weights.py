"""The shipped weights: present, and intact by their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from text23d.errors import UserError
from text23d.files import load_tensors
from text23d.paths import weights_dir
from text23d.studies.doctor.finding import Finding, State

WORLDS = ("landscapes", "clips", "sounds")
FILES: dict[str, tuple[str, State]] = {
    "prior": ("prior", "failure"),
    "prior_fine": ("prior", "failure"),
    "judge": ("judge", "failure"),
    "prior_small": ("prior", "warning"),
    **{f"{kind}_{world}": (kind, "warning") for world in WORLDS for kind in ("prior", "judge")},
}
"""By name: their kind, and how bad it is to be without them; the last ones serve only where they are asked for."""


def check(folder: Path) -> Iterator[Finding]:
    for name, (kind, state) in FILES.items():
        path = weights_dir() / f"{name}.safetensors"
        try:
            tensors, _ = load_tensors(path, kind)
        except UserError as error:
            yield Finding(f"weights {name}", state, str(error), "restore it: install text23d again")
            continue
        numbers = sum(each.numel() for each in tensors.values())
        yield Finding(f"weights {name}", "ok", f"{numbers / 1e6:.1f} million numbers, as their checksum says")
