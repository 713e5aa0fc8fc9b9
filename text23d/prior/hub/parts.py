"""The modules of a pretrained model, read from a local diffusers folder: safetensors only, and nothing that is code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from text23d.errors import UserError
from text23d.prior.hub.index import Index, lacking

Parts = Mapping[str, Any]
"""Part -> module or tokenizer."""
PACKAGES = ("diffusers", "transformers")


def require_packages() -> None:
    """Raises UserError where diffusers or transformers is not installed; neither is imported for it."""
    for name in PACKAGES:
        try:
            there = find_spec(name) is not None
        except ValueError:  # it failed to load before
            there = False
        if not there:
            raise needs(f"there is no {name}")


def needs(why: object) -> UserError:
    return UserError(
        f'this prior needs diffusers and transformers ({why}): pip install "text23d[hub]", or use prior=builtin'
    )


def require_diffusers() -> None:
    """Import diffusers and transformers, and keep their progress bars and advice to developers off the screen.

    Raises UserError where one is not installed or does not load.
    """
    try:
        import diffusers
        import transformers
    except ImportError as error:
        raise needs(error) from error
    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def load(index: Index, classes: Mapping[str, str], dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Those of these parts that the model has, on `device`; networks are frozen and in `dtype`.

    classes: part -> its class, in transformers or diffusers. Raises UserError where one is damaged.
    """
    found: dict[str, Any] = {}
    for name, kind in classes.items():
        if name not in index.parts:
            continue
        if "Tokenizer" in kind:
            found[name] = tokenizer(index.folder, name, resolved(kind))
        else:
            found[name] = network(index, name, resolved(kind), dtype).to(device)
    return found


def resolved(kind: str) -> Any:
    """A class of transformers or of diffusers by its name."""
    packages = [import_module(name) for name in PACKAGES]
    return next(getattr(each, kind) for each in reversed(packages) if hasattr(each, kind))


def tokenizer(folder: Path, name: str, kind: Any) -> Any:
    """Raises UserError where it has no vocabulary: transformers would go on with one of a few tokens, and every prompt
    would say nothing."""
    words = {path.name for path in (folder / name).glob("*")}
    if not words & {"tokenizer.json", "spiece.model"} and not {"vocab.json", "merges.txt"} <= words:
        raise unreadable(folder, name, "no vocabulary")
    return read(folder, name, kind)


def network(index: Index, name: str, kind: Any, dtype: torch.dtype) -> Any:
    """A network, frozen. Raises UserError as `read`, and where the file lacks some of its weights, which would be left
    to chance."""
    why = lacking(index, name)
    if why is not None:
        raise unreadable(index.folder, name, why)
    settings = {"use_safetensors": True, "output_loading_info": True, "torch_dtype": dtype}
    if kind.__module__.startswith("transformers."):
        settings["dtype"] = settings.pop("torch_dtype")
    found, loaded = read(index.folder, name, kind, **settings)
    if loaded["missing_keys"]:
        raise unreadable(index.folder, name, f"no weights for {min(loaded['missing_keys'])}")
    return found.eval().requires_grad_(False)


def read(folder: Path, name: str, kind: Any, **settings: Any) -> Any:
    """One part of a model by its class's `from_pretrained`. Raises UserError where it is missing or damaged."""
    from safetensors import SafetensorError

    try:
        return kind.from_pretrained(str(folder), subfolder=name, local_files_only=True, **settings)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise unreadable(folder, name, (str(error).strip() or type(error).__name__).splitlines()[0]) from error


def require_whole(index: Index, networks: Iterable[str]) -> None:
    """Raises UserError where a file of these networks is missing or cut short, which takes milliseconds to see."""
    for name in networks:
        if name in index.parts and (why := lacking(index, name)) is not None:
            raise unreadable(index.folder, name, why)


def unreadable(folder: Path, name: str, why: str) -> UserError:
    return UserError(
        f"cannot read {name} of {folder} ({why}): expected a whole diffusers folder with .safetensors weights; "
        "download it again or choose another model"
    )
