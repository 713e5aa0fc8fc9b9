"""The page for people: files that come with the package, of which each is named here."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Response

FOLDER = Path(__file__).parent / "page"
KINDS = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "card.js": "text/javascript; charset=utf-8",
    "mesh.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
PageFile = Literal["index.html", "style.css", "app.js", "card.js", "mesh.js", "icon.svg"]
router = APIRouter(include_in_schema=False)


@cache
def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


@router.get("/")
def index() -> Response:
    return page("index.html")


@router.get("/favicon.ico")
def icon() -> Response:
    return page("icon.svg")


@router.get("/page/{name}")
def page(name: PageFile) -> Response:
    """A file of the page. It is asked for again each time: another version of the server may have another."""
    return Response(read(name), media_type=KINDS[name], headers={"Cache-Control": "no-cache"})
