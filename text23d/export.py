"""python -m text23d.export run=<folder> format=glb,obj,ply: the mesh of a finished run, again or in other formats."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("export")  # which imports what follows once the command line is read

import json
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from text23d.engine.saved import read_nerf
from text23d.files import write_json
from text23d.kernels.backend import select
from text23d.tasks.meshing import export, read_settings


def run(cfg: DictConfig) -> None:
    folder, settings = Path(cfg.run), read_settings(cfg)
    out = Path(cfg.out) if cfg.out else folder
    device = cli.device(cfg.device)
    select(cfg.backend)
    nerf = read_nerf(folder, device)
    prompt = OmegaConf.select(OmegaConf.load(folder / "config.yaml"), "prompt")
    report = export(nerf, str(prompt or folder.name), out, settings, device)
    if out == folder:
        update_summary(folder / "summary.json", report)
    for line in lines(report):
        print(f"text23d: {line}", file=sys.stderr)
    print(f"text23d: see {out}", file=sys.stderr)


def lines(report: dict[str, Any]) -> list[str]:
    """What a person should know: a line for each file, and the notes."""
    told = [
        f"{name}: {found['faces']} faces, {'closed' if found['watertight'] else 'NOT closed'}, "
        f"colour {found['colour']}, silhouette IoU {found['iou']:.3f}, colours {found['psnr']:.1f} dB, "
        f"{found['bytes'] / 1e6:.1f} MB"
        for name, found in report["files"].items()
    ]
    return [*told, *report["notes"]]


def update_summary(path: Path, report: dict[str, Any]) -> None:
    """Put the mesh's report into a run's summary.json; an interrupted run has none, and gets none."""
    if not path.is_file():
        return
    try:
        summary = json.loads(path.read_text())
        write_json(path, {**summary, "mesh": report})
    except (ValueError, TypeError):
        print(f"text23d: {path} is damaged and stays as it is", file=sys.stderr)
