"""Files as answers: opened once, so that a run may replace them meanwhile, and sent in pieces."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from starlette.responses import Response, StreamingResponse

PIECE = 1 << 16
"""Bytes."""


def opened(path: Path) -> int | None:
    """A descriptor of a regular file; None: there is none. A link is not followed: it might lead anywhere."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        return None
    return file


def send(file: int, kind: str, name: str, asked: str | None = None, tag: str | None = None) -> Response:
    """The answer that holds the file of a descriptor, which is closed with it, as it is now. asked: a header `Range`;
    of one with several ranges, or of another kind, the whole is sent. tag: its `ETag`."""
    size = os.fstat(file).st_size
    headers = {"Accept-Ranges": "bytes", "Content-Disposition": f'inline; filename="{name}"'}
    if tag is not None:
        headers["ETag"] = tag
    span = ranged(asked, size)
    if span == ():
        os.close(file)
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    start, end = span or (0, size)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(pieces(file, start, end), 206 if span else 200, headers, kind)


def ranged(asked: str | None, size: int) -> tuple[int, int] | tuple[()] | None:
    """The bytes [start, end) of a header `Range`; () where there are none of them; None: the whole."""
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", asked or "", re.ASCII)
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:  # the last so many
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end) if start < end else ()


async def pieces(file: int, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes from start to end; of a file that became shorter, zeros for what is gone: so many were promised."""
    try:
        while start < end:
            piece = await anyio.to_thread.run_sync(os.pread, file, min(PIECE, end - start), start)
            piece = piece or b"\0" * min(PIECE, end - start)
            start += len(piece)
            yield piece
    finally:
        os.close(file)
