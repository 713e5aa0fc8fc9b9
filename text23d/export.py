"""python -m text23d.export run=<folder> format=glb,obj,ply: the mesh of a finished run, again or in other formats."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("export")  # which imports what follows once the command line is read

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from text23d.engine.resume import read_config
from text23d.engine.saved import read_nerf
from text23d.kernels.backend import select
from text23d.settings import read
from text23d.tasks.lighting import light_of
from text23d.tasks.meshing import MeshSettings, export, record


def run(cfg: DictConfig) -> None:
    folder, settings = Path(cfg.run), read(MeshSettings, cfg)
    out = Path(cfg.out or folder)
    own = out.resolve() == folder.resolve()
    device = cli.device(cfg.device)
    select(cfg.backend)
    nerf, made = read_nerf(folder, device), read_config(folder)
    stem = None if own else folder.resolve().name
    report = export(nerf, str(made.get("prompt") or folder.name), out, settings, device, stem, light_of(made))
    if own:
        record(report, folder)
    for line in lines(report):
        print(f"text23d: {line}", file=sys.stderr)
    print(f"text23d: see {out}", file=sys.stderr)


def lines(report: dict[str, Any]) -> list[str]:
    """What a person should know: a line for each file, and the notes."""
    told = [
        f"{name}: {found['faces']} faces, {'closed' if found['watertight'] else 'NOT closed'}, "
        f"colour {found['colour']}, silhouette IoU {found['iou']:.3f}, colours {found['psnr']:.1f} dB, "
        f"bodies {found['bodies']}, genus {found['genus']}, roughness {found['roughness']:.1f} degrees, "
        f"{found['bytes'] / 1e6:.1f} MB"
        for name, found in report["files"].items()
    ]
    return [*told, *report["notes"]]
