"""What a dataset says of itself: a card for people, the same for programs, and one picture to look at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from text23d import __version__
from text23d.artifact.media import contact_sheet
from text23d.files import write_json, write_text
from text23d.studies.dataset.plan import SPLITS, UNIT, Plan, Thing
from text23d.studies.dataset.scene import files_of_view, read_scene
from text23d.studies.markdown import escaped, table

SHOWN, SIDES, CELL = 40, 4, 128
"""Objects on the sheet at most, sides of each, and pixels along a side of a picture."""
CONVENTIONS = {
    "world": "right-handed, Z up; an object that has a front faces -Y; it lies in the ball of radius 1",
    "unit": "1 scene unit, the radius of that ball; no true size is known",
    "transform_matrix": "camera to world, OpenGL axes: +X right, +Y up, the camera looks along -Z",
    "pixels": "row 0 at the top; the centre of the first is at (0.5, 0.5); x = cx + fl_x X / -Z, y = cy - fl_y Y / -Z",
    "images": "display (sRGB) colours with the toy box's light in them; RGBA with straight alpha unless a background "
    "was asked for",
    "masks": "255 where alpha is 128 or more, else 0",
    "depths": f"z along the camera's axis, not along the ray, expected over the ray, in {UNIT:g} scene units, as 16 "
    "bits (png) or float32 (npy); 0 is unknown",
    "normals": "outward, in the world's axes, of unit length; a level is 127.5 (n + 1), and (0, 0, 0) is unknown",
    "meshes": "GLB in the same units; glTF has Y up, so that (x, y, z) of the world is (x, z, -y) there, and importers "
    "such as Blender's turn it back",
}


def write_card(plan: Plan, things: Sequence[Thing], shards: Mapping[str, Any], missing: Sequence[str]) -> None:
    """dataset.json and README.md."""
    views: Counter[str] = Counter()
    objects = []
    for thing in things:
        meta, about = read_scene(plan.place(thing))
        views.update({split: len(meta[f"{split}_filenames"]) for split in SPLITS})
        objects.append({**about, "folder": f"objects/{thing.name}"})
    card = {
        "licence": plan.licence,
        "made_by": f"text23d {__version__}",
        "counts": {"objects": len(things), "views": {split: views[split] for split in SPLITS}},
        "missing": list(missing),
        "settings": plan.made_with,
        "conventions": CONVENTIONS,
        "objects": objects,
        "shards": shards,
    }
    write_json(plan.root / "dataset.json", card)
    write_text(plan.root / "README.md", readme(plan, card))


def readme(plan: Plan, card: Mapping[str, Any]) -> str:
    """The card for people, with the head that hubs of datasets read."""
    counts, shards = card["counts"], card["shards"]
    packed = sum(len(each) for each in shards.values())
    named = [
        [each["name"], escaped(each["prompt"]), str(each["seed"]), str(each["mesh"].get("faces", "-"))]
        for each in card["objects"]
    ]
    lines = [
        *("---", f"license: {json.dumps(plan.licence)}", "pretty_name: posed views of generated objects"),
        *("tags: [3d, nerf, depth, normals, synthetic]", "---", "", "# Posed views of generated objects", ""),
        f"{counts['objects']} objects, {sum(counts['views'].values())} views of {plan.size} x {plan.size} pixels: "
        + ", ".join(f"{number} {split}" for split, number in counts["views"].items())
        + f". Licence: {plan.licence}.",
        "",
        f"Made by {card['made_by']}: each object is a NeRF that was optimised for its prompt until a diffusion prior "
        "found its views likely. Pictures, masks, depths and normals are renderings of that NeRF, and the mesh is its "
        "surface. Nothing here was photographed, and what a prompt asks for may be missing or wrong.",
        "",
        "| where | what |",
        "|---|---|",
        "| `objects/<name>/transforms.json` | one object as nerfstudio reads it, with its splits |",
        "| `objects/<name>/images`, `masks`, `depths`, `normals` | its views |",
        "| `objects/<name>/mesh.glb`, `caption.txt`, `object.json` | its mesh, its prompt, and what made it |",
        f"| `shards/<split>-<number>.tar` | the same as WebDataset samples, in {packed} tars |",
        "| `dataset.json` | this card for programs, with every setting |",
        "",
        "## Conventions",
        "",
        *(f"- **{name.replace('_', ' ')}**: {text}." for name, text in CONVENTIONS.items()),
        "",
        "## Objects",
        "",
        *(f"- missing: {escaped(line)}" for line in card["missing"]),
        *table(["name", "prompt", "seed", "faces of the mesh"], named),
    ]
    return "\n".join(lines).rstrip() + "\n"


def write_sheet(plan: Plan, things: Sequence[Thing]) -> None:
    """sheet.png: of each object some sides, and of the first of them its maps."""
    rows = []
    for thing in things[:SHOWN]:
        indices = [index * plan.cameras.count // SIDES for index in range(min(SIDES, plan.cameras.count))]
        cells = [picture(plan, thing, index, "image") for index in indices]
        cells += [picture(plan, thing, indices[0], kind) for kind in ("mask", "depth", "normal") if kind in plan.maps]
        rows.append((thing.name, cells))
    columns = [f"view {index * plan.cameras.count // SIDES}" for index in range(min(SIDES, plan.cameras.count))]
    columns += [f"{kind} of it" for kind in ("mask", "depth", "normal") if kind in plan.maps]
    contact_sheet(rows, plan.root / "sheet.png", columns)


def picture(plan: Plan, thing: Thing, index: int, kind: str) -> np.ndarray:
    """A file of a view as a person looks at it, [CELL, CELL, 3] uint8: on white, what is near brighter."""
    from PIL import Image

    path = plan.place(thing) / files_of_view(plan, index)[kind]
    if kind == "depth":
        shown = brightness(np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path)))
        image = Image.fromarray(shown)
    else:
        image = Image.open(path).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB").resize((CELL, CELL), Image.Resampling.BOX))


def brightness(depth: np.ndarray) -> np.ndarray:
    """Depths [H, W] as grey levels, uint8: 255 for the nearest, 64 for the farthest, 0 where none is known."""
    depth = depth.astype(np.float64)
    known = depth > 0
    if not known.any():
        return np.zeros(depth.shape, np.uint8)
    near, far = depth[known].min(), depth[known].max()
    return np.where(known, 255 - 191 * (depth - near) / max(far - near, 1e-9), 0).astype(np.uint8)
