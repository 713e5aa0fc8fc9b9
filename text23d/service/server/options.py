"""The settings of a server, and who may ask it."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from text23d.errors import UserError
from text23d.loopback import is_loopback
from text23d.service.server.schema import Limits
from text23d.settings import Count, Flag, Natural, NonNegative, Positive, Text, number, whole

NAME, LEAST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"), 20
"""Of who may ask; and the characters that a token has at least."""


@dataclass(frozen=True)
class RayOptions:
    """What `server.ray` in conf/serve.yaml explains."""

    address: Text | None = None
    workers: Count = 2
    cores: Positive = 1
    gpus: NonNegative = 0


@dataclass(frozen=True)
class LimitOptions:
    """What `server.limits` explains."""

    prompt: Annotated[int, whole(1, 10_000)] = 300
    iterations: Count = 400
    body: Annotated[int, whole(1024, 2**24)] = 16_384
    queued: Count = 100
    unfinished: Count = 20
    running: Count = 2
    streams: Annotated[int, whole(5)] = 200
    seconds: Positive = 3600
    retries: Natural = 3

    @property
    def of_store(self) -> Limits:
        return Limits(self.queued, self.unfinished, self.running, self.retries)


@dataclass(frozen=True)
class ServerOptions:
    """What `server` in conf/serve.yaml explains."""

    host: Text = "127.0.0.1"
    port: Annotated[int, whole(0, 65_535)] = 8023
    hosts: list[Text] = field(default_factory=list)
    tokens: Text | None = None
    folder: Text = "outputs/served"
    database: Text | None = None
    workers: Annotated[int, whole(1, 256)] | Literal["ray"] = 1
    cores: Count | None = None
    gpus: list[int | Text] = field(default_factory=list)
    gpu_share: Annotated[float, number(above=0, most=1)] | None = None
    ready: Flag = True
    ray: RayOptions = field(default_factory=RayOptions)
    media: dict[str, list[Text]] = field(default_factory=lambda: {"object": list[str]()})
    previews: Annotated[int, whole(1, 100)] = 12
    limits: LimitOptions = field(default_factory=LimitOptions)

    @property
    def is_private(self) -> bool:
        """Whether only this machine can ask."""
        return is_loopback(self.host)


class Tokens:
    """Who may ask, by what they say. Of the tokens only digests are kept, which are compared in constant time."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """names: of clients -> token."""
        self._digests = [(name, _digest(token)) for name, token in names.items()]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def client(self, token: str) -> str | None:
        """Whose token it is; None: nobody's. Takes as long whichever it is."""
        given, found = _digest(token), None
        for name, digest in self._digests:
            if hmac.compare_digest(given, digest):
                found = name
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def read_tokens(options: ServerOptions) -> Tokens:
    """The tokens of the file that `server.tokens` names. Raises UserError where it is none, where a token is short, and
    where a server that others can reach has none."""
    if options.tokens is None:
        if options.is_private:
            return Tokens({})
        raise UserError(
            f"server.host={options.host} can be reached from other machines: give server.tokens=<file>, with a line "
            "<name> <token> for each who may ask, or leave server.host at 127.0.0.1"
        )
    path, said = Path(options.tokens), f"server.tokens={options.tokens}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"{said}: {why}; expected a file with one <name> <token> a line") from error
    return Tokens(parsed(said, lines))


def parsed(said: str, lines: Sequence[str]) -> dict[str, str]:
    """Name -> token of lines; empty ones, and those that begin with #, are left out. Raises UserError."""
    found: dict[str, str] = {}
    for number_, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        if len(words) != 2 or not NAME.fullmatch(words[0]):
            raise UserError(f"{said}, line {number_}: expected <name> <token>, the name of letters and digits")
        if len(words[1]) < LEAST or not words[1].isascii():
            raise UserError(
                f"{said}, line {number_}: the token of {words[0]} is too short or no ASCII: expected {LEAST} "
                'characters or more, as python -c "import secrets; print(secrets.token_urlsafe())" makes them'
            )
        if words[0] in found or words[1] in found.values():
            raise UserError(f"{said}, line {number_}: {words[0]}, or its token, is there already; give each its own")
        found[words[0]] = words[1]
    if not found:
        raise UserError(f"{said}: there is no token in it; expected one <name> <token> a line")
    return found
