"""A server under requests that nobody meant: by its own OpenAPI document, and by hand. `python tests/serve_harness.py`
sends thousands."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fuzz_server import Fuzzer, hostile, requests_of, snapshot
from starlette.testclient import TestClient
from test_serve_api import desk_in

from text23d.service.server.app import make_app


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    folder = tmp_path / "served"
    folder.mkdir()
    app = make_app(desk_in(folder))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True) as client:
        yield client


@pytest.fixture
def subnormal() -> Iterator[None]:
    """Numbers as Python has them: runs of this process may have had the smallest ones rounded to 0, which hypothesis
    refuses."""
    flushed = math.ulp(0.0) * 1.0 == 0.0
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(flushed)


@pytest.mark.usefixtures("subnormal")
def test_no_request_breaks_it_or_leaves_its_folder(client: TestClient, tmp_path: Path) -> None:
    """Exceptions are raised here, where a client would see status 500."""
    (tmp_path / "secret").write_text("a secret text")
    before = snapshot(tmp_path, but="served")
    fuzzer = Fuzzer(lambda method, path, headers, body: send(client, method, path, headers, body))
    fuzzer.run(requests_of(client.get("/openapi.json").json(), 110, seed=1))
    fuzzer.run(hostile())
    assert fuzzer.faults == [] and snapshot(tmp_path, but="served") == before
    assert fuzzer.statuses[202] >= 1 <= fuzzer.statuses[200] and fuzzer.statuses[422] > 50, (
        "some got through, and many did not"
    )
    assert not fuzzer.undocumented, fuzzer.undocumented


def send(
    client: TestClient, method: str, path: str, headers: dict[str, str], body: bytes | None
) -> tuple[int, str, bytes]:
    if path.partition("?")[0].endswith("/events") and method == "GET":
        return 200, "text/event-stream", b""  # which would not end: see test_serve_runs.py
    answer = client.request(method, path, headers=headers, content=body)
    return answer.status_code, answer.headers.get("content-type", ""), answer.content


def test_the_fuzzer_finds_what_is_wrong() -> None:
    """It would find no fault in a server that it does not look at."""
    answers = {"/500": (500, "text/plain", b"x"), "/trace": (200, "text/plain", b"Traceback (most recent call last)")}
    fuzzer = Fuzzer(lambda method, path, headers, body: answers[path])
    fuzzer.run([("GET", "/500", {}, None, None), ("GET", "/trace", {}, None, None), ("GET", "/500", {}, None, {200})])
    assert len(fuzzer.faults) == 3 and fuzzer.statuses == Counter({500: 2, 200: 1}) and len(fuzzer.undocumented) == 1
