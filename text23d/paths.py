"""Where the files that come with the package lie, in a checkout and in an installed copy, and how folders are named."""

from __future__ import annotations

import os
import re
from pathlib import Path

from text23d.errors import UserError

PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The folder of the Hydra configuration: text23d/conf in an installed copy, conf/ beside text23d/ in a checkout.

    Raises UserError if neither is there.
    """
    for folder in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if any(folder.glob("*.yaml")):
            return folder
    raise UserError(f"no configuration: expected YAML files in {PACKAGE / 'conf'}, found none; install text23d again")


def config_of(verb: str) -> Path | None:
    """The configuration file of a verb: conf/<verb>.yaml, or conf/<verb>/<verb>.yaml where the groups of others would
    shadow a key of its own (`views` is a number of the gallery's); None of a verb without one."""
    name = "config" if verb == "run" else verb
    places = (conf_dir() / name / f"{name}.yaml", conf_dir() / f"{name}.yaml")
    return next((path for path in places if path.is_file()), None)


def weights_dir() -> Path:
    """The folder of the weights that come with the package."""
    return PACKAGE / "weights"


def cache_dir() -> Path:
    """The folder of what may be computed again: text23d in XDG_CACHE_HOME, or else in ~/.cache."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "text23d"


def weights_of(what: str, world: str) -> Path:
    """The shipped weights of a world's prior or judge: `what`.safetensors of objects, `what`_<world>.safetensors of
    others."""
    return weights_dir() / (f"{what}.safetensors" if world == "objects" else f"{what}_{world}.safetensors")


def given_file(path: str | os.PathLike[str], setting: str, expected: str, folders: bool = False) -> Path:
    """The path of what a person brings, who set `setting` to it; `expected` says what it should be. folders: whether
    it may be a folder, too. Raises UserError where there is none."""
    found = Path(path)
    if found.is_file() or (folders and found.is_dir()):
        return found
    what = "it is a folder" if found.is_dir() else f"no such file{' or folder' if folders else ''}"
    raise UserError(f"{setting}={path}: {what}; expected {expected}; check the path")


def slug(text: object) -> str:
    """A text as part of a folder's name: its letters and digits joined by dashes, at most 40."""
    return re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-")[:40].rstrip("-") or "untitled"
