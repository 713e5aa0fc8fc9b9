"""The one place where the compiled libraries are found, loaded and chosen over the torch twins."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import torch

from text23d.errors import UserError

ABI_VERSION = 5
CHOICES = ("auto", "native", "torch")
LIBRARIES = {"cpu": "_native", "cuda": "_cuda"}
LEVELS = {"AVX512": ("_v4", "_v3"), "AVX2": ("_v3",)}
"""What the processor can do, in torch's word -> the libraries that are faster there, in the order of preference."""
HOW_TO_BUILD = {
    "cpu": "install a C++ compiler (g++ or clang++), then `pip install -e .` in the checkout again",
    "cuda": "install CUDA's nvcc beside a C++ compiler, then `pip install -e .` in the checkout again",
}

_choice: str | None = None
_meanwhile: ContextVar[str | None] = ContextVar("_meanwhile", default=None)
"""What `using` chose, for its own thread."""


def select(name: str) -> str:
    """Choose the backend of this process: "auto" (the compiled library if it is there), "native" or "torch".

    Returns the backend now in use on the CPU. Raises UserError for another name, and for "native" where nothing was
    compiled. "native" on a GPU without the CUDA library is refused by `backend`, when it is first asked.
    """
    global _choice
    _choice = _checked(name)
    return backend()


@contextmanager
def using(name: str) -> Iterator[None]:
    """`select` for this thread alone, and for a while: then the choice is what it was before."""
    token = _meanwhile.set(_checked(name))
    try:
        yield
    finally:
        _meanwhile.reset(token)


def choice() -> str:
    """What `using` chose here, else what `select` was given, else what TEXT23D_BACKEND says, else "auto"."""
    return _meanwhile.get() or _choice or _checked(os.environ.get("TEXT23D_BACKEND", "auto"))


def _checked(name: str) -> str:
    if name not in CHOICES:
        raise UserError(f"kernel backend {name!r}: expected one of {', '.join(CHOICES)} (see TEXT23D_BACKEND)")
    if name == "native":
        library()
    return name


def backend(device: str = "cpu") -> str:
    """The backend in use for tensors on `device`, a torch device type: "native" or "torch".

    Raises UserError where "native" was chosen and this device's library is not there.
    """
    if choice() == "torch" or (choice() == "auto" and _load(device)[0] is None):
        return "torch"
    library(device)
    return "native"


def describe(device: str = "cpu") -> str:
    """One line for a person: which backend computes on `device`, and what would make it faster."""
    if backend(device) == "native":
        return f"native ({_find(device)})"
    problem = _load(device)[1]
    return f"torch ({problem})" if problem else "torch (chosen; a compiled library is there)"


def problem(device: str = "cpu") -> str:
    """Why the compiled library for `device` is not there, and what to do; empty: it is."""
    return _load(device)[1]


def library(device: str = "cpu") -> ctypes.CDLL:
    """The compiled library for `device`. Raises UserError where there is none."""
    loaded, problem = _load(device)
    if loaded is None:
        raise UserError(f"kernel backend native: {problem}, or choose torch")
    return loaded


def _find(device: str) -> Path | None:
    """The library for `device`; on the CPU the one for the most that this processor can do, always the same."""
    levels = LEVELS.get(torch.backends.cpu.get_cpu_capability(), ()) if device == "cpu" else ()
    names = (f"{LIBRARIES[device]}{level}{kind}" for level in (*levels, "") for kind in (".so", ".dll", ".dylib"))
    return next((path for path in map(Path(__file__).parent.joinpath, names) if path.exists()), None)


@cache
def _load(device: str) -> tuple[ctypes.CDLL | None, str]:
    """The library for `device`, or None and in words why not and what to do."""
    if device not in LIBRARIES:
        return None, f"there are no compiled kernels for {device}; use cpu or cuda"
    path = _find(device)
    if path is None:
        return None, f"no compiled library for {device} was found; {HOW_TO_BUILD[device]}"
    try:
        loaded = ctypes.CDLL(str(path))
        version = loaded.text23d_abi_version()
    except (OSError, AttributeError) as error:
        return None, f"{path.name} does not load ({error}); {HOW_TO_BUILD[device]}"
    if version != ABI_VERSION:
        return None, f"{path.name} has interface version {version}, expected {ABI_VERSION}; {HOW_TO_BUILD[device]}"
    loaded.text23d_error.restype = ctypes.c_char_p
    return loaded, ""
