"""What a folder in diffusers' layout says of itself: read as text, before anything heavy is imported."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from text23d.errors import UserError

INDEX = "model_index.json"
STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"
"""Names of weights: those of diffusers, and of what others made of its classes; and those of transformers."""


@dataclass(frozen=True)
class Index:
    """folder: where the model lies. pipeline: the class of its pipeline. parts: part -> (library, class), without those
    that are left out. settings: all else that its model_index.json says."""

    folder: Path
    pipeline: str
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def config(self, part: str) -> dict[str, Any]:
        """The settings of a part. Raises UserError where they cannot be read."""
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        return read_json(self.folder / part / name)

    @property
    def licence(self) -> str | None:
        """The licence by the model's card, the front matter of README.md; None where that does not say."""
        try:
            text = (self.folder / "README.md").read_text(encoding="utf-8")
            front = yaml.safe_load(text.split("---", 2)[1]) if text.startswith("---") else None
        except (OSError, ValueError, IndexError, yaml.YAMLError):
            return None
        if not isinstance(front, dict) or not front.get("license"):
            return None
        return str(front.get("license_name") or front["license"] if front["license"] == "other" else front["license"])


def read_index(folder: Path) -> Index:
    """The index of a local folder. Raises UserError where there is none, or one that is damaged."""
    path = folder / INDEX
    if not path.is_file():
        raise UserError(
            f"no {INDEX} in {folder}: expected a folder in diffusers' layout; "
            "convert a single-file checkpoint with diffusers' `save_pretrained` first"
        )
    found = read_json(path)
    parts = {
        name: (str(value[0]), str(value[1]))
        for name, value in found.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)
    }
    settings = {name: value for name, value in found.items() if not isinstance(value, list)}
    return Index(folder, str(found.get("_class_name")), parts, settings)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a file. Raises UserError where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no mapping")
    except (ValueError, OSError) as error:
        said = "it is not there" if isinstance(error, FileNotFoundError) else str(error)
        raise UserError(f"cannot read {path} ({said}): download the model again") from error
    return found


def lacking(index: Index, part: str) -> str | None:
    """What is wrong with the files of a network, by their names and headers alone; None: nothing.

    Weights are one .safetensors file, or several with an index of their names; nothing else is looked at.
    """
    files = weights(index, part)
    if not files:
        return "no .safetensors weights"
    if not (index.folder / part / "config.json").is_file():
        return "no config.json"
    return next((why for why in map(damaged, files) if why is not None), None)


def weights(index: Index, part: str) -> list[Path]:
    """The files of a part's weights, whether they are there or not; none: it has no .safetensors."""
    folder = index.folder / part
    stem = TRANSFORMERS_STEM if index.parts[part][0] == "transformers" else STEM
    whole, listed = (folder / f"{stem}.safetensors{more}" for more in ("", ".index.json"))
    if whole.is_file() or not listed.is_file():
        return [whole] if whole.is_file() else []
    names = read_json(listed).get("weight_map")
    if not isinstance(names, dict):
        raise UserError(f"cannot read {listed}: it names no files; download the model again")
    return [folder / Path(str(name)).name for name in sorted(set(names.values()))]


def header(path: Path) -> dict[str, Any]:
    """What a .safetensors file says of its tensors. Raises ValueError, OSError or struct.error where it is none."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if 8 + length > path.stat().st_size:
            raise ValueError("the header ends early")
        found: dict[str, Any] = json.loads(file.read(length))
    return found


def damaged(path: Path) -> str | None:
    """What is wrong with a .safetensors file by its header: 8 bytes of length, the header, and what that points to."""
    if not path.is_file():
        return f"{path.name} is not there"
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
        told = header(path)
        end = max((each["data_offsets"][1] for name, each in told.items() if name != "__metadata__"), default=0)
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, MemoryError):
        return f"{path.name} is cut short or no .safetensors file"
    if size != 8 + length + end:
        return f"{path.name} is cut short: {size} bytes of {8 + length + end}"
    return None
