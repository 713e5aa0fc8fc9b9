"""What the interface takes and gives, as its OpenAPI document describes it."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

State = Literal["queued", "running", "done", "failed", "cancelled"]
FILES = {
    "mesh.glb": "model/gltf-binary",
    "mesh.obj": "text/plain; charset=utf-8",
    "mesh.mtl": "text/plain; charset=utf-8",
    "mesh.png": "image/png",
    "mesh.ply": "application/octet-stream",
    "turntable.mp4": "video/mp4",
    "pan.mp4": "video/mp4",
    "video.mp4": "video/mp4",
    "audio.wav": "audio/wav",
    "contact.png": "image/png",
    "image.png": "image/png",
    "panorama.png": "image/png",
    "audio.png": "image/png",
    "strip.png": "image/png",
    "summary.json": "application/json",
    "metrics.jsonl": "application/x-ndjson",
}
"""The files of a job that may be fetched, and what they are."""
FileName = Literal[
    "mesh.glb", "mesh.obj", "mesh.mtl", "mesh.png", "mesh.ply", "turntable.mp4", "pan.mp4", "video.mp4", "audio.wav",
    "contact.png", "image.png", "panorama.png", "audio.png", "strip.png", "summary.json", "metrics.jsonl",
]  # fmt: skip


def _is_prose(text: str) -> str:
    if any(unicodedata.category(each) in ("Cc", "Cs") for each in text):
        raise ValueError("expected text without control characters, in valid Unicode")
    if not text.strip():
        raise ValueError('expected words, such as "a red car"')
    return text


class Asked(BaseModel):
    """A job to make."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"prompt": "a red car", "seed": 3}]}
    )
    prompt: Annotated[str, AfterValidator(_is_prose)] = Field(
        min_length=1, max_length=10_000, description="What to make, in words that the medium understands."
    )
    medium: str = Field(
        default="object", pattern=r"^[a-z][a-z0-9_]{0,30}$", description="One of those that `/api/media` lists."
    )
    seed: int = Field(default=0, ge=0, le=2**53 - 1, description="The same seed gives the same result.")
    iterations: int | None = Field(default=None, ge=1, le=100_000, description="null is the medium's own number.")
    guidance: float | None = Field(
        default=None, ge=0, le=100, allow_inf_nan=False, description="The scale of guidance; null is the medium's own."
    )


class File(BaseModel):
    """A file of a job."""

    name: FileName
    bytes: int = Field(ge=0)
    type: str = Field(description="Its media type.")
    url: str


class Progress(BaseModel):
    """How far a job has come that runs."""

    stage: Literal["starting", "iterating", "exporting"]
    iteration: int = Field(ge=0)
    iterations: int | None = Field(default=None, description="In all.")
    seconds_left: float | None = Field(default=None, ge=0, description="Of the iterations, about; null: not known.")
    figures: dict[str, float] = Field(default_factory=dict, description="Of the last iteration, as in metrics.jsonl.")


class Job(BaseModel):
    """A job as it is now. Times are in seconds since 1970."""

    id: str = Field(pattern="^[0-9a-f]{16}$")
    state: State
    prompt: str
    medium: str
    seed: int
    iterations: int | None = Field(description="As asked for.")
    guidance: float | None = Field(description="As asked for.")
    created: float
    started: float | None
    ended: float | None
    cancelling: bool = Field(description="It has been told to stop, and is about to.")
    place: int | None = Field(description="In the queue, from 1; null where it does not wait.")
    progress: Progress | None = Field(description="null where it has not begun.")
    picture: str | None = Field(description="The URL of its latest picture, another for each picture.")
    failure: str | None = Field(description="Why it failed, or why the last attempt did, in one line.")
    files: list[File] = Field(description="What can be fetched now.")


class Jobs(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[Job]
    next: str | None = Field(description="What to give as `after` for the next page; null: there is none.")


class Medium(BaseModel):
    """What may be asked for."""

    name: str
    iterations: int = Field(description="Of a job that does not say.")
    words: list[str] = Field(description="All that its prompts may use; empty: anything.")
    examples: list[str]
    settings: list[str] = Field(description="What may be set beside the prompt.")


class Media(BaseModel):
    """All that may be asked for, and the limits."""

    media: list[Medium]
    longest_prompt: int
    most_iterations: int


class Health(BaseModel):
    """Whether the server works."""

    status: Literal["ok", "no workers"]
    version: str
    workers: int = Field(description="That are alive.")
    jobs: dict[State, int]
    free_mb: int = Field(description="On the disk of the jobs' folder.")


class Problem(BaseModel):
    """What went wrong, in one line for a person."""

    detail: str


class Session(BaseModel):
    """Who asks."""

    client: str
    token_required: bool


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How a route's answers of these statuses are described."""
    told = {
        401: "No token was given, or none that is known.",
        403: "The request comes from another site's page.",
        404: "There is no such job, or no such file of it yet.",
        409: "The job is running: cancel it first.",
        413: "The request is too large.",
        422: "What was asked for cannot be made; the detail says why.",
        429: "There is no room for it now. `Retry-After` says when to try again, in seconds.",
    }
    return {status: {"model": Problem, "description": told[status]} for status in statuses}
