"""Settings that are texts: prompts, names of files and folders, choices. Hydra's grammar never sees what they hold."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from text23d.errors import UserError
from text23d.quoting import QUOTED, quoted

PROSE = ("prompt", "prior.negative")
"""Texts that are read as they were typed, quotes and all, and that may be empty."""
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
"""The texts among Hydra's own settings; they may refer to others, as in ${now:%H-%M} and ${seed}."""
CAMERA = ("azimuth", "elevation", "distance", "fov")
NO_TEXTS = (
    *CAMERA,
    "threshold",
    "seed",
    "threads",
    "seconds",
    "stable_diffusion",
    "embedded",
    "resolution",
    "optimizer",
    "regions",
    "size",
    "told",
    "whole",
    "window",
    "stride",
    "norm",
    "perp_neg",
    "rule",
    "tile",
    "background",
    "cores",
    "gpu_share",
)
"""The last names of the settings that are null or have to be given, and else a number, a list or a section."""


def is_text(key: str, default: Any) -> bool:
    """Whether a setting is a text: what has a text for its default, or none and is no number."""
    if key.startswith("hydra."):
        return key in FOLDERS
    if key.rpartition(".")[2] in NO_TEXTS:
        return False
    return default is None or (isinstance(default, str) and not default.startswith("${"))  # computed: of numbers


def text_value(key: str, value: str, default: Any, multirun: bool, names: Collection[str] = ()) -> str:
    """The value of a text as Hydra's grammar reads it. In a sweep a comma outside quotes separates several.

    names: the settings that one of FOLDERS may refer to. Raises UserError for an empty value.
    """
    values = [value]
    if multirun and key not in FOLDERS:
        values = re.findall(rf"\s*({QUOTED}|[^,]+)\s*(?:,|$)", value) or values
    told = []
    for text in values:
        if default is None and text.lower() == "null":
            told.append("null")
            continue
        if (multirun or key not in PROSE) and re.fullmatch(QUOTED, text, re.S):  # as a person writes it for Hydra
            text = text[1:-1]
        if not text and key not in PROSE:
            raise UserError(f"{key}= is empty: give it a value, or leave it out")
        told.append(quoted(text, names if key in FOLDERS else None))
    return ",".join(told)
