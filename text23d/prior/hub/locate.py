"""Where a pretrained model lies: a local diffusers folder, or a repository of the Hugging Face hub and its mirrors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from text23d.errors import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"
# What a run needs, and nothing else: no safety checker, no second copy of the weights, no pickles.
FILES = [
    "model_index.json",
    "scheduler/*.json",
    "tokenizer/*",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    *(f"{part}/{name}" for part in ("unet", "vae") for name in ("config.json", WEIGHTS)),
]
OTHERWISE = "or give prior.path=<a local diffusers folder>, or use prior=builtin, which needs no download"


def locate(path: str | None, mirrors: Sequence[str], pipeline: str) -> Path:
    """The local folder of a model whose pipeline is of the class named `pipeline`, downloaded first if need be.

    path: a folder, a hub repository as owner/name, or None: the first of `mirrors` that can be had.
    Raises UserError where there is none, it cannot be fetched, or it is another kind of model.
    """
    if path is not None:
        folder = Path(path).expanduser()
        if folder.exists():
            return checked(folder, pipeline)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
            raise UserError(f"no folder {path}: expected a diffusers folder, or a hub repository as owner/name")
    return checked(download(mirrors if path is None else [path]), pipeline)


def download(repositories: Sequence[str]) -> Path:
    """The first of these repositories that the hub, or the hub's cache on this machine, has. Raises UserError."""
    from huggingface_hub import snapshot_download

    failures = []
    for repository in repositories:
        try:
            return Path(snapshot_download(repository, allow_patterns=FILES))
        except Exception as error:  # what the hub's client raises differs between its versions and its transports
            failures.append(f"{repository} {reason(error)}")
    raise UserError(f"cannot fetch the model: {'; '.join(failures)}; {OTHERWISE}")


def reason(error: BaseException) -> str:
    """Why a repository could not be had, and what helps."""
    causes = list(chain(error))
    if any(type(cause).__name__ == "GatedRepoError" for cause in causes):
        return "is gated: accept its licence on huggingface.co and log in with `hf auth login`"
    statuses = [getattr(getattr(cause, "response", None), "status_code", None) for cause in causes]
    status = next((status for status in statuses if status is not None), None)
    if status in (401, 403):
        return f"is missing or needs a login ({status}): check its name, or accept its licence and `hf auth login`"
    if status == 404:
        return "is not there (404): check its name"
    if status is not None:
        return f"is refused by the hub ({status}): try again later"
    if isinstance(error, OSError) or any(isinstance(cause, OSError) for cause in causes):
        return "is not in the cache and the hub cannot be reached: check the network and HF_HUB_OFFLINE"
    return f"failed ({type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}): try again"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and everything that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def checked(folder: Path, pipeline: str) -> Path:
    """`folder`, if its model_index.json names this class of pipeline. Raises UserError otherwise."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise UserError(
            f"no model_index.json in {folder}: expected a folder in diffusers' layout; "
            "convert a single-file checkpoint with diffusers' `save_pretrained` first"
        )
    try:
        found = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    except (ValueError, AttributeError, OSError) as error:
        raise UserError(f"cannot read {index} ({error}): download the model again") from error
    if found != pipeline:
        raise UserError(f"{folder} holds a {found}: expected a {pipeline}; choose a model of that kind")
    return folder
