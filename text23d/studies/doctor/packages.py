"""The packages that text23d stands on: their versions, and whether they can be imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import text23d
from text23d.studies.doctor.finding import Finding

REQUIRED = {
    "torch": "torch",
    "numpy": "numpy",
    "nerfacc": "nerfacc",
    "hydra-core": "hydra",
    "omegaconf": "omegaconf",
    "pyyaml": "yaml",
    "safetensors": "safetensors.torch",
    "trimesh": "trimesh",
    "embreex": "embreex.rtcore_scene",
    "scikit-image": "skimage.measure",
    "fast-simplification": "fast_simplification",
    "xatlas": "xatlas",
    "imageio": "imageio",
    "soundfile": "soundfile",
    "imageio-ffmpeg": "imageio_ffmpeg",
    "pillow": "PIL.Image",
    "tqdm": "tqdm",
    "pydantic": "pydantic",
}
"""Distributions that the main job requires, and a module of each."""
OPTIONAL = {
    "diffusers": ("diffusers", "prior=sd15 and its like", 'pip install -e ".[hub]"'),
    "transformers": ("transformers", "prior=sd15 and its like", 'pip install -e ".[hub]"'),
    "tensorboard": ("tensorboard", "tensorboard=true", 'pip install -e ".[tensorboard]"'),
    "tinycudann": ("tinycudann", "representation=nerf_tinycudann", "install tiny-cuda-nn for your GPU"),
}
"""The same of those that a few settings require, the settings, and how to install them."""


def check(folder: Path) -> Iterator[Finding]:
    yield Finding("text23d", "ok", f"{text23d.__version__} in {Path(text23d.__file__).parent}")
    for name, module in REQUIRED.items():
        yield imported(name, module)
    for name, (module, setting, install) in OPTIONAL.items():
        yield optional(name, module, setting, install)


def imported(name: str, module: str) -> Finding:
    """A package without which there is no run."""
    try:
        import_module(module)
    except BaseException as error:  # whatever a broken build raises, SystemExit too
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(name, "failure", f"{told(name)} cannot be imported ({said})", f"pip install {name}")
    return Finding(name, "ok", told(name), figures={"version": told(name)})


def optional(name: str, module: str, setting: str, install: str) -> Finding:
    """A package that only `setting` requires. To import it takes long: that it is there is enough, but for those whose
    build depends on the machine."""
    if told(name) == "not installed":
        return Finding(name, "ok", f"not installed; {setting} requires it: {install}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import_module(module)
    except BaseException as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(
            name, "warning", f"{told(name)} cannot be imported ({said})", f"{setting} requires it: {install}"
        )
    return Finding(name, "ok", told(name), figures={"version": told(name)})


def told(name: str) -> str:
    """Its version, without importing it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
