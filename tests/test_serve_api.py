"""The interface of a server, without its workers: what it takes, what it refuses, and what it never says or touches."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
from fastapi.openapi.utils import get_openapi
from PIL import Image
from starlette.testclient import TestClient

from text23d.errors import UserError
from text23d.service.server import options
from text23d.service.server.app import Desk, make_app
from text23d.service.server.database import sqlite
from text23d.service.server.figures import Figures
from text23d.service.server.guard import name_of
from text23d.service.server.media import Medium, read_media
from text23d.service.server.models import FILES
from text23d.service.server.options import LimitOptions, ServerOptions, Tokens, parsed, read_tokens
from text23d.service.server.sending import opened, ranged
from text23d.service.server.store import Store

TOKENS = {"anna": "a" * 24, "ben": "b" * 24}
CAR = {"prompt": "a red car"}
MEDIA: dict[str, list[str]] = {"object": [], "image": ["representation=image"]}


class Nobody:
    """Implements `Workers`, and makes nothing."""

    alive = 1

    def start(self) -> None: ...

    def stop(self) -> None: ...


@cache
def offered() -> dict[str, Medium]:
    return read_media(MEDIA)


def desk_in(folder: Path, tokens: dict[str, str] | None = None, **given: Any) -> Desk:
    (folder / "jobs").mkdir()
    asked = ServerOptions(folder=str(folder), media=MEDIA, **given)
    store = Store(sqlite(folder / "jobs.sqlite"), asked.limits.of_store)
    return Desk(asked, offered(), Tokens(tokens or {}), store, folder / "jobs", Nobody())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return desk_in(tmp_path, limits=LimitOptions(unfinished=4, prompt=60, iterations=50, body=1024))


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(make_app(desk), base_url="http://127.0.0.1:8023") as client:
        yield client


def finished(desk: Desk, client: TestClient, **files: bytes) -> str:
    """A job that is done, with these files."""
    identity = str(client.post("/api/jobs", json=CAR).json()["id"])
    claim = desk.store.claim("w")
    assert claim is not None and claim.id == identity
    (desk.root / identity).mkdir()
    for name, data in files.items():
        (desk.root / identity / name.replace("_", ".")).write_bytes(data)
    desk.store.end(claim, "done")
    return identity


def test_a_job_is_taken_told_listed_cancelled_and_forgotten(client: TestClient) -> None:
    answer = client.post("/api/jobs", json={**CAR, "seed": 3, "medium": "image", "iterations": 9, "guidance": 2.5})
    job = answer.json()
    assert answer.status_code == 202 and answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert (job["state"], job["place"], job["seed"], job["guidance"]) == ("queued", 1, 3, 2.5) and job["files"] == []
    second = client.post("/api/jobs", json=CAR).json()
    assert second["place"] == 2 and client.get(f"/api/jobs/{job['id']}").json() == job
    assert [each["id"] for each in client.get("/api/jobs").json()["jobs"]] == [second["id"], job["id"]]
    page = client.get("/api/jobs?limit=1").json()
    assert page["next"] == second["id"] and client.get(f"/api/jobs?after={page['next']}").json()["next"] is None
    assert client.post(f"/api/jobs/{job['id']}/cancel").json()["state"] == "cancelled"
    assert client.get(f"/api/jobs/{second['id']}").json()["place"] == 1
    assert [each["id"] for each in client.get("/api/jobs?state=cancelled").json()["jobs"]] == [job["id"]]
    assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
    assert (
        client.get(f"/api/jobs/{job['id']}").status_code == 404 == client.delete(f"/api/jobs/{job['id']}").status_code
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "prompt: Field required"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "  "}, "expected words"),
        ({"prompt": "a red\x00car"}, "control characters"),
        ({"prompt": "a red car\x1b[2J"}, "control characters"),
        ({"prompt": "a red zebra"}, "zebra"),
        ({"prompt": "a car " * 20}, "60 at most"),
        ({"prompt": 3}, "prompt"),
        ({**CAR, "medium": "opera"}, "no opera here; ask for one of object, image"),
        ({**CAR, "medium": "../../etc"}, "medium"),
        ({**CAR, "seed": -1}, "seed"),
        ({**CAR, "seed": 2**60}, "seed"),
        ({**CAR, "seed": True}, "seed"),
        ({**CAR, "iterations": 51}, "50 at most"),
        ({**CAR, "iterations": 0}, "iterations"),
        ({**CAR, "guidance": 1e9}, "guidance"),
        ({**CAR, "_target_": "os.system"}, "_target_: Extra inputs"),
        ({**CAR, "method.views": 3}, "method.views"),
        ([CAR], "dictionary"),
    ],
)
def test_mistakes_are_told_in_one_line(client: TestClient, asked: Any, said: str) -> None:
    answer = client.post("/api/jobs", json=asked)
    detail = answer.json()["detail"]
    assert answer.status_code == 422 and said in detail and "\n" not in detail
    assert client.get("/api/jobs").json()["jobs"] == []


def test_a_prompt_that_is_not_understood_is_told_as_to_one_without_a_command_line(client: TestClient) -> None:
    detail = client.post("/api/jobs", json={"prompt": "a red zebra"}).json()["detail"]
    assert "python -m" not in detail and "prior=" not in detail and "/api/media lists all words" in detail


@pytest.mark.parametrize("body", [b"", b"{", b'{"prompt": "\\ud800"}', b"\xff\xfe", b"[" * 900, b'{"prompt": NaN}'])
def test_bodies_that_are_none(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422) and isinstance(answer.json()["detail"], str)


def test_bodies_that_are_too_long(client: TestClient) -> None:
    long = b'{"prompt": "' + b"a" * 2000 + b'"}'
    told = {"Content-Type": "application/json"}
    assert client.post("/api/jobs", content=long, headers=told).status_code == 413
    assert client.post("/api/jobs", content=iter([long[:900], long[900:]]), headers=told).status_code == 413, (
        "in pieces"
    )
    assert client.post("/api/jobs", content=b"{}", headers={**told, "Content-Length": "9" * 30}).status_code == 413
    assert client.post("/api/jobs", data={"prompt": "a red car"}).status_code == 422, "a form of another site's"


def test_a_full_queue_says_when_to_come_again(client: TestClient) -> None:
    for _ in range(4):
        assert client.post("/api/jobs", json=CAR).status_code == 202
    answer = client.post("/api/jobs", json=CAR)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0 and "4 jobs" in answer.json()["detail"]
    other = client.post("/api/jobs", json=CAR, headers={"X-Client": "somebody-else"})
    assert other.status_code == 202, "others have their own room"


def test_files_are_a_closed_list_in_the_jobs_own_folder(desk: Desk, client: TestClient, tmp_path: Path) -> None:
    job = finished(desk, client, mesh_glb=b"glTF" + bytes(range(200)), config_yaml=b"a: b", log_txt=b"x")
    folder = desk.root / job
    (tmp_path / "secret").write_text("secret")
    (folder / "image.png").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pan.mp4")
    (folder / "mesh.obj").mkdir()
    told = client.get(f"/api/jobs/{job}").json()["files"]
    assert [(each["name"], each["bytes"]) for each in told] == [("mesh.glb", 204)]
    answer = client.get(told[0]["url"])
    assert answer.status_code == 200 and answer.headers["content-type"] == "model/gltf-binary"
    assert answer.content == (folder / "mesh.glb").read_bytes()
    for name in ("image.png", "pan.mp4", "mesh.obj", "audio.wav"):
        assert client.get(f"/api/jobs/{job}/files/{name}").status_code == 404, name
    for name in ("config.yaml", "log.txt", "..%2Fsecret", "%2e%2e/secret", ".running", "mesh.glb%00.png", "mesh.glb/"):
        answer = client.get(f"/api/jobs/{job}/files/{name}")
        assert answer.status_code in (404, 422) and b"secret" not in answer.content, name
    for identity in ("..", "%2e%2e", "../jobs", "0" * 15, "0" * 17, "G" * 16, f"{job}%2f..", "0" * 16):
        assert client.get(f"/api/jobs/{identity}/files/mesh.glb").status_code in (404, 422), identity


def test_ranges_against_slices() -> None:
    data = bytes(range(50))
    for first in ("", "0", "7", "49", "50", "999"):
        for last in ("", "0", "7", "49", "200"):
            found = ranged(f"bytes={first}-{last}", len(data))
            if not first:
                expected = data if not last else data[max(0, len(data) - int(last)) :] if int(last) else b""
            else:
                expected = data[int(first) : int(last) + 1] if last else data[int(first) :]
            assert (b"" if found == () else data[slice(*(found or [None]))]) == expected, (first, last)
    assert ranged("bytes=1-2,4-5", 50) is None and ranged("lines=1-2", 50) is None and ranged(None, 50) is None


def test_a_range_of_a_file(desk: Desk, client: TestClient) -> None:
    job = finished(desk, client, turntable_mp4=bytes(range(100)))
    answer = client.get(f"/api/jobs/{job}/files/turntable.mp4", headers={"Range": "bytes=10-19"})
    assert answer.status_code == 206 and answer.content == bytes(range(10, 20))
    assert answer.headers["content-range"] == "bytes 10-19/100"
    assert client.get(f"/api/jobs/{job}/files/turntable.mp4", headers={"Range": "bytes=100-"}).status_code == 416


def test_no_descriptor_stays_open(desk: Desk, client: TestClient) -> None:
    job = finished(desk, client, mesh_glb=b"x" * 300_000)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        client.get(f"/api/jobs/{job}/files/mesh.glb")
        client.get(f"/api/jobs/{job}/files/mesh.glb", headers={"Range": "bytes=900000-"})
        assert opened(desk.root / job) is None
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_the_picture_and_the_progress_are_what_the_run_noted(desk: Desk, client: TestClient) -> None:
    job = finished(desk, client)
    assert client.get(f"/api/jobs/{job}/picture").status_code == 404
    Image.new("RGB", (4, 4), "red").save(desk.root / job / "preview.png")
    said = {"stage": "iterating", "iteration": 3, "iterations": 8, "figures": {"loss": 0.5}, "pictures": 1}
    (desk.root / job / "progress.json").write_text(json.dumps(said))
    told = client.get(f"/api/jobs/{job}").json()
    assert told["progress"]["iteration"] == 3 and told["progress"]["figures"] == {"loss": 0.5}
    answer = client.get(told["picture"])
    assert answer.content[:4] == b"\x89PNG" and answer.headers["cache-control"] == "no-store"
    for damaged in ("", "{", "[]", '{"stage": "x"}', '{"iteration": "y"}', '{"iteration": -5}'):
        (desk.root / job / "progress.json").write_text(damaged)
        assert client.get(f"/api/jobs/{job}").json()["progress"]["stage"] == "starting", damaged


def test_deleting_takes_the_folder_away_and_nothing_else(desk: Desk, client: TestClient) -> None:
    first, second = finished(desk, client, mesh_glb=b"1"), finished(desk, client, mesh_glb=b"2")
    assert client.delete(f"/api/jobs/{first}").status_code == 204
    assert [each.name for each in desk.root.iterdir()] == [second]
    running = client.post("/api/jobs", json=CAR).json()["id"]
    desk.store.claim("w")
    answer = client.delete(f"/api/jobs/{running}")
    assert answer.status_code == 409 and "cancel it first" in answer.json()["detail"]


def test_other_names_and_other_sites_are_refused(client: TestClient) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example:8023", "", "localhost.evil"):
        assert client.get("/api/jobs", headers={"Host": host}).status_code == 421, host
    for host in ("localhost:8023", "127.0.0.1", "[::1]:8023", "LOCALHOST"):
        assert client.get("/api/jobs", headers={"Host": host}).status_code == 200, host
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "http://[", "https://localhost"):
        answer = client.post("/api/jobs", json=CAR, headers={"Origin": origin})
        assert answer.status_code == 403, origin
    assert client.post("/api/jobs", json=CAR, headers={"Origin": "http://127.0.0.1:8023"}).status_code == 202
    answer = client.options("/api/jobs", headers={"Origin": "http://x", "Access-Control-Request-Method": "POST"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert name_of("[::1]:80") == "::1" and name_of("a:b") == "a:b"


def test_what_browsers_are_told(client: TestClient) -> None:
    for path in ("/", "/page/app.js", "/api/jobs", "/nothing", "/health"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"] and "unsafe" not in str(headers), path
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert client.get("/page/../app.py").status_code == 404 and client.get("/page/pages.py").status_code == 422


def test_the_page_fetches_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/").text
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert name.startswith("/") and client.get(name).status_code == 200, name
    for name in ("app.js", "card.js", "mesh.js", "style.css", "index.html"):
        text = client.get(f"/page/{name}").text
        assert not re.findall(r"https?://(?!www\.w3\.org)\S+", text), name
        assert "innerHTML" not in text and " style=" not in text and " onclick=" not in text.replace(" onclick = ", "")


def test_tokens_tell_clients_apart(tmp_path: Path) -> None:
    desk = desk_in(tmp_path, TOKENS)
    with TestClient(make_app(desk), base_url="http://127.0.0.1") as client:
        anna, ben = ({"Authorization": f"Bearer {TOKENS[name]}"} for name in ("anna", "ben"))
        for headers in (
            {},
            {"Authorization": "Bearer nonsense"},
            {"Authorization": "Basic " + "a" * 24},
            {"Cookie": "text23d_token=x"},
        ):
            answer = client.get("/api/jobs", headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        job = client.post("/api/jobs", json=CAR, headers=anna).json()["id"]
        assert client.get(f"/api/jobs/{job}", headers=anna).status_code == 200
        for method, path in (("GET", ""), ("POST", "/cancel"), ("DELETE", ""), ("GET", "/picture"), ("GET", "/events")):
            assert client.request(method, f"/api/jobs/{job}{path}", headers=ben).status_code == 404, path
        assert client.get("/api/jobs", headers=ben).json()["jobs"] == []
        answer = client.post("/api/session", headers=anna)
        assert answer.json() == {"client": "anna", "token_required": True}
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/api/session").json()["client"] == "anna", "by the cookie"
        assert client.get("/health").status_code == 200 == client.get("/").status_code, "which tell nothing of jobs"


def test_a_file_of_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# who\n\nanna {'a' * 24}\nben {'b' * 30}\n")
    tokens = read_tokens(ServerOptions(host="0.0.0.0", tokens=str(path)))
    assert [tokens.client(each) for each in ("a" * 24, "b" * 30, "a" * 23, "", "ä")] == [
        "anna",
        "ben",
        None,
        None,
        None,
    ]
    for text, said in (
        ("", "no token in it"),
        ("anna", "line 1: expected <name> <token>"),
        ("an/na " + "a" * 24, "line 1: expected"),
        ("anna short", "too short"),
        ("anna " + "ä" * 24, "no ASCII"),
        (f"anna {'a' * 24}\nben {'a' * 24}", "line 2: ben"),
    ):
        with pytest.raises(UserError, match=said):
            parsed("server.tokens=x", text.splitlines())
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org", "127.0.0.1.example.org"):
        with pytest.raises(UserError, match="can be reached from other machines: give"):
            read_tokens(ServerOptions(host=host))
    assert not read_tokens(ServerOptions()) and options.is_loopback("127.0.0.5") and options.is_loopback("::1")


@pytest.mark.parametrize(
    ("media", "said"),
    [
        ({}, "server.media is empty"),
        ({"Object!": []}, "expected a name of small letters"),
        ({"object": ["method=magic"]}, "no method named 'magic'"),
        ({"object": ["nothing=3"]}, "server.media.object"),
        ({"object": ["prompt=x"]}, "the server's own to say"),
        ({"object": ["hydra.run.dir=/"]}, "the server's own to say"),
        ({"object": ["+resume.folder=x"]}, "the server's own to say"),
    ],
)
def test_media_that_do_not_serve(media: dict[str, list[str]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_media(media)


def test_a_request_becomes_the_configuration_that_it_asks_for(tiny_prior: Path) -> None:
    """Against the same on a command line; what looks like a reference to another setting is a text."""
    medium = read_media({"object": [f"prior.weights={tiny_prior}", *tiny.GRID]})["object"]
    asked = {"seed": 7, "iterations": 5, "guidance": 2.5}
    cfg = medium.configured("a red car, ${seed}", asked, 3)
    overrides = ["method.iterations=5", "prior.guidance=2.5", "seed=7", "stages=3"]
    expected = tiny.compose("config", [f"prior.weights={tiny_prior}", *tiny.GRID, "prompt=x", *overrides])
    assert cfg == {**expected, "prompt": "a red car, ${seed}"}
    for each in read_media({"a": [], "p": ["representation=panorama"], "v": ["representation=video"]}).values():
        assert each.words and each.examples, "its prompts are known"


def test_figures_in_prometheus_format(client: TestClient) -> None:
    client.post("/api/jobs", json=CAR), client.get("/nothing"), client.get("/api/jobs/" + "0" * 16)
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    line = re.compile(r'(# (HELP|TYPE) \w+ .+|[a-z0-9_]+(\{(\w+="([^"\\\n]|\\.)*",?)+\})? [0-9.e+-]+)')
    assert all(line.fullmatch(each) for each in answer.text.splitlines()), answer.text
    for each in (
        'text23d_jobs{state="queued"} 1',
        'text23d_submitted_total{medium="object"} 1',
        'text23d_requests_total{method="GET",route="/api/jobs/{identity}",status="404"} 1',
        'text23d_requests_total{method="GET",route="none",status="404"} 1',
        "text23d_request_seconds_count 3",
    ):
        assert each in answer.text, each
    figures = Figures()
    for seconds in (0.001, 0.02, 0.02, 99):
        figures.requested("GET", "/", 200, seconds)
    text = figures.text({}, 0)
    assert 'bucket{le="0.005"} 1' in text and 'bucket{le="0.025"} 3' in text and 'bucket{le="+Inf"} 4' in text


def test_the_access_log_has_a_line_for_each_request_and_no_token(tmp_path: Path) -> None:
    with TestClient(make_app(desk_in(tmp_path, TOKENS)), base_url="http://127.0.0.1") as client:
        client.get("/api/jobs", headers={"Authorization": f"Bearer {TOKENS['anna']}"})
        client.get("/nothing/\u2028{}%0aforged", headers={"Authorization": f"Bearer {TOKENS['anna']}"})
        client.get("/", headers={"Host": "evil"})
    text = (tmp_path / "access.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(each["method"], each["status"], each["client"]) for each in lines] == [
        ("GET", 200, "anna"), ("GET", 404, None), ("GET", 421, None),
    ]  # fmt: skip
    assert TOKENS["anna"] not in text and "forged" in lines[1]["path"]
    logging.shutdown()


def test_the_openapi_document_describes_every_route_and_every_answer(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/api/session", "/api/media", "/api/jobs", "/api/jobs/{identity}", "/api/jobs/{identity}/cancel",
        "/api/jobs/{identity}/picture", "/api/jobs/{identity}/files/{name}", "/api/jobs/{identity}/events",
        "/api/events", "/health", "/metrics",
    }  # fmt: skip
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            assert each["summary"] and each["description"], f"{method} {path} is not explained"
            assert all(answer["description"] for answer in each["responses"].values()), (method, path)
    names = document["paths"]["/api/jobs/{identity}/files/{name}"]["get"]["parameters"][1]["schema"]["enum"]
    assert names == list(FILES) and get_openapi(title="x", version="1", routes=[])["openapi"] == document["openapi"]


def test_health(desk: Desk, client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "ok"
    desk.workers.alive = 0  # type: ignore[misc]
    told = client.get("/health").json()
    assert told["status"] == "no workers" and told["free_mb"] > 0 and told["jobs"]["queued"] == 0
