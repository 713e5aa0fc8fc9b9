"""The views of all objects as WebDataset shards: plain tars, a view's files after one another under one key.

The format is POSIX ustar, with no time, owner or other thing of this machine in it: the same files give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from text23d.files import atomic, plain
from text23d.meter import Meter
from text23d.studies.dataset.plan import SPLITS, Plan, Shards, Thing
from text23d.studies.dataset.scene import CAPTION, MESH, files_of_view, read_scene, sample_facts

FOLDER = "shards"
ENDS = {"image": "", "mask": "mask.", "depth": "depth.", "normal": "normal."}
BLOCK = tarfile.BLOCKSIZE


class Sink(Protocol):
    """What a tar is written to."""

    def write(self, data: bytes, /) -> Any: ...


@dataclass(frozen=True)
class Sample:
    """A key, and its files by what follows the key's dot: bytes, or where they lie."""

    key: str
    files: dict[str, bytes | Path]

    @property
    def bytes(self) -> int:
        """What it takes in a tar."""
        lengths = [len(each) if isinstance(each, bytes) else each.stat().st_size for each in self.files.values()]
        return sum(BLOCK + -(-length // BLOCK) * BLOCK for length in lengths)


def samples(plan: Plan, things: Sequence[Thing]) -> Iterator[tuple[str, Sample]]:
    """The views of these objects, each with its split, and their meshes, under "mesh"; in a fixed order."""
    for thing in things:
        folder = plan.place(thing)
        meta, about = read_scene(folder)
        text = (folder / CAPTION).read_bytes()
        for index, frame in enumerate(meta["frames"]):
            files: dict[str, bytes | Path] = {}
            for kind, name in files_of_view(plan, index).items():
                files[ENDS[kind] + name.rpartition(".")[2]] = folder / name
            files |= {"json": encoded(sample_facts(meta, index, about)), "txt": text}
            yield frame["split"], Sample(f"{thing.name}-{index:05d}", files)
        if (folder / MESH).is_file():
            yield "mesh", Sample(thing.name, {"glb": folder / MESH, "json": encoded(about), "txt": text})


def encoded(value: Any) -> bytes:
    return (json.dumps(plain(value), ensure_ascii=False) + "\n").encode()


def write_shards(plan: Plan, how: Shards, things: Sequence[Thing]) -> dict[str, list[dict[str, Any]]]:
    """Cut the samples of each split into shards, and write those that are not there with these very bytes; returns what
    lies in the folder, by split. Raises UserError where a shard cannot be written."""
    found: dict[str, list[dict[str, Any]]] = {split: [] for split in (*SPLITS, "mesh")}
    meter, done, total = Meter(), 0, len(things) * (plan.cameras.count + plan.meshes)
    for split, group in cut(samples(plan, things), how):
        name = f"{split}-{len(found[split]):06d}.tar"
        path, digest = plan.root / FOLDER / name, Digest()
        pack(group, digest)
        if not path.is_file() or digest_of(path) != digest.hex:
            with atomic(path) as temporary, open(temporary, "wb") as file:
                pack(group, file)
        about = {"file": f"{FOLDER}/{name}", "samples": len(group), "bytes": path.stat().st_size, "sha256": digest.hex}
        found[split].append(about)
        done += len(group)
        meter("samples in shards", done, total)
    meter.close()
    return found


def cut(stream: Iterator[tuple[str, Sample]], how: Shards) -> Iterator[tuple[str, list[Sample]]]:
    """(split, samples) of each shard, full ones as they fill, then the last of each split."""
    most = how.megabytes * 1e6 - tarfile.RECORDSIZE  # what ends a tar, and fills its last record
    groups: dict[str, list[Sample]] = {}
    sizes: dict[str, int] = {}
    for split, sample in stream:
        group, size = groups.setdefault(split, []), sample.bytes
        if group and (len(group) >= how.samples or sizes[split] + size > most):
            yield split, group
            group = groups[split] = []
        group.append(sample)
        sizes[split] = size + (sizes[split] if len(group) > 1 else 0)
    yield from groups.items()


def pack(group: Sequence[Sample], sink: Sink) -> None:
    """Write the samples as a tar."""
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
        for sample in group:
            for end, source in sample.files.items():
                data = source if isinstance(source, bytes) else source.read_bytes()
                entry = tarfile.TarInfo(f"{sample.key}.{end}")
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))


class Digest:
    """A sink that keeps the SHA-256 alone."""

    def __init__(self) -> None:
        self.state = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        self.state.update(data)

    @property
    def hex(self) -> str:
        return self.state.hexdigest()


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    found = Digest()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            found.write(part)
    return found.hex
