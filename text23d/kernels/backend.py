"""The one place where the compiled library is found, loaded and chosen over the torch twins."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

from text23d.contracts import UserError

ABI_VERSION = 1
CHOICES = ("auto", "native", "torch")
HOW_TO_BUILD = "install a C++ compiler (g++ or clang++), then `pip install -e .` in the checkout again"

_chosen: str | None = None


def backend() -> str:
    """The backend in use, "native" or "torch": what `select` chose, else what TEXT23D_BACKEND says, else "auto"."""
    return _chosen if _chosen is not None else select(os.environ.get("TEXT23D_BACKEND", "auto"))


def select(name: str) -> str:
    """Choose the backend of this process: "auto" (the compiled library if it is there), "native" or "torch".

    Returns the backend now in use. Raises UserError for another name, and for "native" where nothing was compiled.
    """
    global _chosen
    if name not in CHOICES:
        raise UserError(f"kernel backend {name!r}: expected one of {', '.join(CHOICES)} (see TEXT23D_BACKEND)")
    library, problem = _load()
    if name == "native" and library is None:
        raise UserError(f"kernel backend native: {problem}; {HOW_TO_BUILD}, or choose torch")
    _chosen = "torch" if name == "torch" or library is None else "native"
    return _chosen


def describe() -> str:
    """One line for a person: which backend computes, and what would make it faster."""
    problem = _load()[1]
    if backend() == "native":
        return f"native ({_find()})"
    return f"torch ({problem}; for speed, {HOW_TO_BUILD})" if problem else "torch (chosen; a compiled library is there)"


def library() -> ctypes.CDLL:
    """The compiled library. Raises UserError where there is none."""
    loaded, problem = _load()
    if loaded is None:
        raise UserError(f"compiled kernels: {problem}; {HOW_TO_BUILD}")
    return loaded


def _find() -> Path | None:
    folder = Path(__file__).parent
    return next((path for path in sorted(folder.glob("_native*")) if path.suffix in (".so", ".dll", ".dylib")), None)


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """The library, or None and the reason in words."""
    path = _find()
    if path is None:
        return None, "no compiled library was found"
    try:
        loaded = ctypes.CDLL(str(path))
        version = loaded.text23d_abi_version()
    except (OSError, AttributeError) as error:
        return None, f"{path.name} does not load ({error})"
    if version != ABI_VERSION:
        return None, f"{path.name} has interface version {version}, expected {ABI_VERSION}"
    return loaded, ""
