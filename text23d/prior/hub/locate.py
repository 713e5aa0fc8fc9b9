"""Where a pretrained model lies: a local diffusers folder, or a repository of the Hugging Face hub and its mirrors."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from text23d.errors import UserError
from text23d.prior.hub.families import FAMILIES, family_of
from text23d.prior.hub.index import INDEX, Index, read_index
from text23d.prior.hub.parts import require_whole

REPOSITORY = r"[\w.-]+/[\w.-]+(@[\w.-]+)?"
TEXTS = sorted({name for family in FAMILIES for name, kind in family.encoders.items() if "Tokenizer" in kind})
NETWORKS = sorted({name for family in FAMILIES for name in family.networks})
WEIGHTS = ("model", "diffusion_pytorch_model")
# What a run needs, and nothing else: no safety checker, no second copy of the weights, no pickles, no code.
FILES = [
    INDEX,
    "README.md",
    "scheduler/*.json",
    *(f"{part}/{name}" for part in TEXTS for name in ("*.json", "*.txt", "*.model")),
    *(f"{part}/config.json" for part in NETWORKS),
    *(
        f"{part}/{stem}{rest}"
        for part in NETWORKS
        for stem in WEIGHTS
        for rest in (".safetensors", ".safetensors.index.json", "-*-of-*.safetensors")
    ),
]
PATIENCE = 2.5
"""Seconds that the hub has to answer at all."""
OTHERWISE = "or give prior.path=<a local diffusers folder>, or use prior=builtin, which needs no download"


def locate(path: str | None, mirrors: Sequence[str], revision: str | None) -> Index:
    """The index of a model that is whole, downloaded first if need be.

    path: a folder, a hub repository as owner/name or owner/name@revision, or None: the first of `mirrors` that can be
    had. revision: a branch, tag or commit, in place of what these say; None: that, or the newest.
    Raises UserError where there is none, it cannot be fetched, is damaged, or of a kind that cannot be read.
    """
    if path is None and not mirrors:
        raise UserError("prior.path is missing: give a local diffusers folder, or a hub repository as owner/name")
    if path is not None:
        folder = Path(path).expanduser()
        if folder.exists():
            return whole(folder)
    for each in mirrors if path is None else [path]:
        if not re.fullmatch(REPOSITORY, each):
            raise UserError(f"no folder {each}: expected a diffusers folder, or a hub repository as owner/name")
    return whole(download([pinned(each, revision) for each in (mirrors if path is None else [path])]))


def pinned(repository: str, revision: str | None) -> tuple[str, str | None]:
    """owner/name@revision in its two halves, where `revision` comes first."""
    name, _, own = repository.partition("@")
    return name, revision or own or None


def download(repositories: Sequence[tuple[str, str | None]]) -> Path:
    """The first of these repositories, each with its revision, that the hub's cache on this machine or else the hub
    has. Raises UserError."""
    require_hub()
    from huggingface_hub import constants

    failures = list[str]()
    offline: bool | None = constants.HF_HUB_OFFLINE or None
    for name, revision in repositories:
        there = cached(name, revision)
        if there is not None:
            return there
        offline = not reachable(constants.ENDPOINT) if offline is None else offline
        try:
            return snapshot(name, revision, local_files_only=offline)
        except Exception as error:  # what the hub's client raises differs between its versions and its transports
            failures.append(f"{name} {reason(error, revision)}")
    raise UserError(f"cannot fetch the model: {'; '.join(failures)}; {OTHERWISE}")


def require_hub() -> None:
    """Raises UserError without the hub's client, which the other packages bring."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise UserError(f'a download needs huggingface_hub ({error}): pip install "text23d[hub]"') from error


def reachable(url: str) -> bool:
    """Whether somebody answers there within PATIENCE; the hub's client would try for a minute. What is asked through a
    proxy is taken to be there."""
    parts = urlsplit(url)
    if getproxies().get(parts.scheme):
        return True
    answered: list[bool] = []

    def knock() -> None:
        place = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
        with suppress(OSError), socket.create_connection(place, timeout=PATIENCE):
            answered.append(True)

    thread = Thread(target=knock, daemon=True)  # looking up a name knows no timeout
    thread.start()
    thread.join(PATIENCE)
    return bool(answered)


def snapshot(name: str, revision: str | None, **settings: Any) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision, allow_patterns=FILES, **settings))


def cached(name: str, revision: str | None) -> Path | None:
    """A repository's folder in the cache where all of it is there, so that nobody has to be asked; else None."""
    try:
        folder = snapshot(name, revision, local_files_only=True)
        whole(folder)
    except Exception:  # not there, or not all of it: the download goes on with what is there, and says what fails
        return None
    return folder


def whole(folder: Path) -> Index:
    """The index of a folder all of whose weights are there, by their names and lengths. Raises UserError otherwise."""
    index = read_index(folder)
    require_whole(index, family_of(index).networks)
    return index


def reason(error: BaseException, revision: str | None = None) -> str:
    """Why a repository could not be had, and what helps."""
    causes = list(chain(error))
    names = {type(cause).__name__ for cause in causes}
    if "GatedRepoError" in names:
        return "is gated: accept its licence on huggingface.co, then log in with `hf auth login` or set HF_TOKEN"
    if "RevisionNotFoundError" in names:
        return f"has no revision {revision}: check prior.revision"
    if "IncompleteSnapshotError" in names:
        return "is only in part in the cache, and the hub cannot be reached: check the network and HF_HUB_OFFLINE"
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
