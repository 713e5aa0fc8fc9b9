"""What a dataset is made of, and what is told of mistakes in that before anything is made."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from text23d import rng
from text23d.cameras import Cameras
from text23d.errors import UserError
from text23d.files import read_json, write_json
from text23d.paths import slug
from text23d.representation.views import CameraSampler, Range
from text23d.settings import Count, Flag, Seed, Share, Text, number, whole
from text23d.studies.overrides import Override, check_overrides
from text23d.studies.records import Name, check_settings
from text23d.worlds.objects.caption import parse

UNIT = 1e-3
"""Scene units of one level of a depth's 16 bits: nerfstudio's default, by which a metre is a scene unit."""
FARTHEST = 60.0
"""Scene units: beyond this a depth would not fit into 16 bits."""
PROMPTS = "prompts.json"
SPLITS = ("train", "val", "test")
Map = Literal["mask", "depth", "normal"]
MAPS: tuple[Map, ...] = ("mask", "depth", "normal")


@dataclass(frozen=True)
class Rig:
    """`count` cameras for each object, drawn from `seed` and its name as `representation.views.CameraSampler` draws
    them within these ranges: one in each count-th part of the circle, at heights that are equally likely."""

    count: Annotated[int, whole(1, 100_000)] = 64
    seed: Seed = 0
    elevation: Range = (-10.0, 60.0)
    distance: Range = (2.8, 3.2)
    fov: Range = (40.0, 40.0)

    def __post_init__(self) -> None:
        CameraSampler(self.elevation, self.distance, self.fov)
        if self.distance[1] > FARTHEST:
            raise UserError(
                f"cameras.distance={list(self.distance)}: depths of more than {FARTHEST:g} scene units do not fit into "
                "16 bits; come nearer"
            )

    def cameras(self, name: str) -> Cameras:
        """Those of an object, in float64, so that files tell them as exactly as they were."""
        sampler = CameraSampler(self.elevation, self.distance, self.fov)
        drawn = sampler.sample(self.count, rng.generator(self.seed, 0, 0, f"dataset {name}"))
        return Cameras(*(each.double() for each in (drawn.azimuth, drawn.elevation, drawn.distance, drawn.fov)))


@dataclass(frozen=True)
class Split:
    """The shares of each object's views that are held out, at least one view each unless the share is 0."""

    val: Share = 0.1
    test: Share = 0.1

    def of(self, rig: Rig, name: str) -> list[str]:
        """The split of each view. Raises UserError where none is left to train on."""
        import torch

        val, test = (max(1, round(share * rig.count)) if share else 0 for share in (self.val, self.test))
        if val + test >= rig.count:
            raise UserError(
                f"split.val={self.val:g} and split.test={self.test:g} of cameras.count={rig.count} leave no view for "
                "training: ask for more views or smaller shares"
            )
        order = torch.randperm(rig.count, generator=rng.generator(rig.seed, 0, 0, f"split {name}")).tolist()
        held = {index: "val" for index in order[:val]} | {index: "test" for index in order[val : val + test]}
        return [held.get(index, "train") for index in range(rig.count)]


@dataclass(frozen=True)
class Shards:
    """The most that a tar holds: views, and millions of bytes, of which one view may have more."""

    samples: Count = 512
    megabytes: Annotated[float, number(above=0, most=1e6)] = 256.0


@dataclass(frozen=True)
class Runs:
    """The runs of each prompt, one for each of `seeds`, `workers` at a time, with `settings` of their own. reuse: a
    folder; finished runs below it that have a prompt and a seed that are asked for are taken as they are."""

    seeds: Annotated[list[Seed], Field(min_length=1, description="whole numbers, as in runs.seeds=[0,1]")] = field(
        default_factory=lambda: [0]
    )
    workers: Count = 2
    reuse: Text | None = None
    settings: list[Override] = field(default_factory=list)


@dataclass(frozen=True)
class Thing:
    """An object of the dataset: its name, which names its folder and the keys of its samples, and what makes it."""

    name: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """`conf/dataset.yaml`, with the prompts themselves for their file. Raises UserError for what cannot be made."""

    prompts: list[Text]
    folder: Name
    size: Annotated[int, whole(8, 4096)] = 256
    background: Share | tuple[Share, Share, Share] | None = None
    maps: list[Map] = field(default_factory=lambda: list(MAPS))
    depth: Literal["png", "npy"] = "png"
    meshes: Flag = True
    licence: Text = "Apache-2.0"
    device: str = "auto"
    cameras: Rig = field(default_factory=Rig)
    split: Split = field(default_factory=Split)
    shards: Shards | None = field(default_factory=Shards)
    runs: Runs = field(default_factory=Runs)

    def __post_init__(self) -> None:
        check_overrides(self.runs.settings, "runs.settings")
        if not self.prompts:
            raise UserError("prompts: there is none; expected a text file with one prompt a line, or a list")
        for one, other in combinations(self.things, 2):
            if one.name == other.name:
                raise UserError(
                    f"the prompts {one.prompt!r} and {other.prompt!r} would share the name {one.name}: remove or "
                    "reword one"
                )
        self.split.of(self.cameras, "any")
        if self.captions:
            for prompt in self.prompts:
                parse(prompt)

    @cached_property
    def things(self) -> list[Thing]:
        """In the order of the prompts; what is asked for twice is made once."""
        asked = [(prompt, seed) for prompt in dict.fromkeys(self.prompts) for seed in dict.fromkeys(self.runs.seeds)]
        return [Thing(f"{slug(prompt)}-{seed}", prompt, seed) for prompt, seed in asked]

    @property
    def overrides(self) -> list[str]:
        """The settings of all runs: the mesh is made here, in the axes and units of the cameras."""
        return ["outputs=minimal", *self.runs.settings]

    @property
    def captions(self) -> bool:
        """Whether prompts are captions of the toy box, as the built-in prior reads them."""
        keys = [re.split("[@=]", each.lstrip("+"))[0] for each in self.runs.settings]
        return not {"prior", "world"} & set(keys)

    @property
    def root(self) -> Path:
        return Path(self.folder)

    def place(self, thing: Thing) -> Path:
        """The folder of an object."""
        return self.root / "objects" / thing.name

    @property
    def made_with(self) -> dict[str, Any]:
        """All that the bytes of an object depend on, beside its prompt, seed and run."""
        said = asdict(self)
        kept = ("size", "background", "maps", "depth", "meshes", "cameras", "split")
        return {name: said[name] for name in kept} | {"seeds": self.runs.seeds, "runs": self.overrides}

    def claim(self) -> None:
        """Note in the folder what is made there. Raises UserError where it holds a dataset of other settings, or of
        prompts that are not the first of these: those that are new come last."""
        note, now = self.root / PROMPTS, list(dict.fromkeys(self.prompts))
        before = read_json(note).get("prompts") if note.exists() else []
        if not isinstance(before, list) or now[: len(before)] != before:
            raise UserError(
                f"{self.root} holds a dataset of other prompts: keep those of its {PROMPTS} and add new ones after "
                "them, or choose another folder="
            )
        check_settings(self.root, self.made_with)
        if now != before:
            write_json(note, {"prompts": now})
