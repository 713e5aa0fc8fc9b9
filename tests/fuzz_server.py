"""Requests that nobody meant, for a server: drawn from an OpenAPI document by schemathesis, and written by hand."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

Request = tuple[str, str, dict[str, str], bytes | None, set[int] | None]
"""Method, path, headers, body, and the statuses that the document has for it; None: it knows no such request."""
Send = Callable[[str, str, dict[str, str], "bytes | None"], tuple[int, str, bytes]]
TELLTALE = (b"Traceback", b'File "/', b"site-packages", b"sqlalchemy", b"a secret text", b"root:x:0")
ALWAYS = {400, 404, 405, 408, 411, 413, 414, 415, 421, 431}
"""Statuses that servers answer to any request that is none."""

ODD: tuple[dict[str, str], ...] = (
    {"Host": "evil"},
    {"Range": "bytes=" + "9" * 50},
    {"Origin": "http://["},
    {"X-Client": "a b/../c"},
    {"Last-Event-ID": "x" * 30},
    {"Authorization": "Bearer " + "x" * 5000},
    {"Cookie": "a=" + "b" * 5000},
    {"Content-Length": "-1"},
    {"Content-Type": "multipart/form-data; boundary="},
)


@dataclass
class Fuzzer:
    """Sends requests, and notes what answers should not say."""

    send: Send
    faults: list[str] = field(default_factory=list)
    undocumented: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def run(self, requests: Iterable[Request]) -> None:
        for method, path, headers, body, known in requests:
            said = f"{method} {path[:120]!r} {(body or b'')[:120]!r}"
            try:
                status, kind, answer = self.send(method, path, headers, body)
            except Exception as error:
                self.faults.append(f"{said}: {type(error).__name__}: {str(error)[:300]}")
                continue
            self.statuses[status] += 1
            if status >= 500:
                self.faults.append(f"{said}: status {status}")
            self.faults += [f"{said}: {each!r} in the answer" for each in TELLTALE if each in answer]
            if known is not None and status not in known | ALWAYS:
                self.undocumented.append(f"{said}: status {status}")
            if status >= 400 and answer and kind.startswith("application/json"):
                detail = json.loads(answer).get("detail")
                if not isinstance(detail, str) or "\n" in detail:
                    self.faults.append(f"{said}: the detail is {detail!r}")


def requests_of(document: dict[str, Any], count: int, seed: int) -> Iterator[Request]:
    """`count` requests by the document, valid ones and broken ones, the same for the same seed."""
    import schemathesis

    found: list[Request] = []
    operations: list[Any] = [each.ok() for each in schemathesis.openapi.from_dict(document).get_all_operations()]  # type: ignore[union-attr]
    modes: list[Any] = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    share, turn = -(-count // (len(operations) * len(modes))), 0
    while len(found) < count:  # some operations have little that can be varied, and give fewer
        for operation in operations:
            known = {int(status) for status in operation.definition.raw["responses"] if status.isdigit()}
            for mode in modes:
                found += [
                    written(case, known)
                    for case in drawn(operation.as_strategy(generation_mode=mode), share, seed + turn)
                ]
        turn += 1
    return iter(found[:count])


def drawn(strategy: Any, count: int, seed: int) -> list[Any]:
    """At most so many of a strategy's, the same for the same seed; none where it has none."""
    import hypothesis

    cases: list[Any] = []
    settings = hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    draw = hypothesis.seed(seed)(settings(hypothesis.given(strategy)(lambda case: cases.append(case))))
    with warnings.catch_warnings(), suppress(hypothesis.errors.Unsatisfiable):
        warnings.simplefilter("ignore")
        draw()
    return cases


def written(case: Any, known: set[int]) -> Request:
    """A case of schemathesis' as bytes."""
    path = case.path
    for name, value in (case.path_parameters or {}).items():
        path = path.replace(f"{{{name}}}", quote(str(value), safe="", errors="replace"))
    if case.query:
        path += "?" + urlencode(case.query, doseq=True, errors="replace")
    headers = {}
    for name, value in dict(case.headers or {}).items():
        text = str(value)
        if text.isprintable() and text.isascii() and text == text.strip():
            headers[name] = text
    body = None
    if isinstance(case.body, bytes):
        body = case.body
    elif not isinstance(case.body, type(None)) and type(case.body).__name__ != "NotSet":
        body = json.dumps(case.body).encode("utf-8", "replace")
    if body is not None:
        headers["Content-Type"] = "application/json"
    return str(case.method).upper(), path, headers, body, known


def hostile() -> Iterator[Request]:
    """Requests by hand: ways out of the folder, odd numbers, texts that are none, methods and headers of no use."""
    ways = (
        "../secret",
        "..%2fsecret",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "....//secret",
        "/etc/passwd",
        "%00",
        "..%5csecret",
    )
    zeros = "0" * 16
    for way in ways:
        for path in (f"/api/jobs/{way}", f"/api/jobs/{zeros}/files/{way}", f"/page/{way}", f"/api/jobs/{way}/picture"):
            yield "GET", path, {}, None, None
        yield "DELETE", f"/api/jobs/{way}", {}, None, None
        yield "POST", "/api/jobs", {"Content-Type": "application/json"}, json.dumps({"prompt": way}).encode(), None
    for query in (
        "limit=0",
        "limit=1e9",
        "limit=" + "9" * 400,
        "after=../..",
        "after=' OR 1=1--",
        "state=x",
        "limit=%ff",
    ):
        yield "GET", f"/api/jobs?{query}", {}, None, None
    for seed in ("1e400", "-1", "9" * 400, "0.5", '"1"', "[]", "{}", "true", "null", "NaN", "-0"):
        body = f'{{"prompt": "a red car", "seed": {seed}}}'.encode()
        yield "POST", "/api/jobs", {"Content-Type": "application/json"}, body, None
    for text in (
        "\ud800",
        "\x00",
        "'; DROP TABLE jobs;--",
        "${oc.env:HOME}",
        "$(id)",
        "<script>",
        "\u202e",
        "a" * 9000,
        "🚗" * 60,
    ):
        yield "POST", "/api/jobs", {"Content-Type": "application/json"}, json.dumps({"prompt": text}).encode(), None
    for body in (b"", b"\xff", b"[" * 10_000, b'{"a":' * 2000, b"\x00" * 100, b'{"prompt"', b"null", b"0", b'"x"'):
        yield "POST", "/api/jobs", {"Content-Type": "application/json"}, body, None
    for method in ("PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "A" * 50):
        yield method, "/api/jobs", {}, None, None
    for headers in ODD:
        yield "GET", f"/api/jobs/{zeros}/files/mesh.glb", headers, None, None
        yield "POST", f"/api/jobs/{zeros}/cancel", headers, None, None


def snapshot(folder: Path, but: str) -> dict[str, int]:
    """The files below a folder with their sizes, without what lies in its folder `but`."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != but
    }
