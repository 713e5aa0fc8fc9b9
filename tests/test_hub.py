"""Weights from a hub on loopback: mirrors, revisions, the cache, and all that can go wrong on the way."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pipelines
import pytest

from text23d.errors import UserError
from text23d.prior.hub.guide import about
from text23d.prior.hub.index import read_index
from text23d.prior.hub.locate import locate, pinned

ROOT = Path(__file__).resolve().parent.parent
COMMIT, OLDER = "1" * 40, "2" * 40


@dataclass
class Repository:
    """Files of one model; `refuses`: (status, kind of error) instead; `cut`: bytes after which weights break off."""

    folder: Path | None = None
    refuses: tuple[int, str] | None = None
    cut: int | None = None
    revisions: dict[str, str] = field(
        default_factory=lambda: {"main": COMMIT, COMMIT: COMMIT, "v1": OLDER, OLDER: OLDER}
    )


class Hub(http.server.ThreadingHTTPServer):
    """Answers as the Hugging Face hub does to what its client asks: /api/models/owner/name/revision/... for the commit
    of a revision, .../tree/... for what there is, and /owner/name/resolve/... for files. `asked` and `tokens` are what
    was, the tokens of models alone."""

    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        hub: Any = self.server
        hub.asked.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        if len(parts) < 4:
            return self.refuse(404, "")
        hub.tokens.add(self.headers.get("Authorization"))
        owner, name, what, revision, *path = parts[2:] if api else parts
        repository = hub.repositories.get(f"{owner}/{name}", Repository(refuses=(404, "RepoNotFound")))
        if repository.refuses is not None:
            return self.refuse(*repository.refuses)
        commit = repository.revisions.get(revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        files = sorted(
            str(each.relative_to(repository.folder)) for each in repository.folder.rglob("*") if each.is_file()
        )
        if api:
            sizes = {each: (repository.folder / each).stat().st_size for each in files}
            tree = [{"type": "file", "path": each, "size": size, "oid": each} for each, size in sizes.items()]
            told = tree if what == "tree" else {"id": f"{owner}/{name}", "sha": commit}
            return self.send(json.dumps(told).encode(), body, {"Content-Type": "application/json"})
        if "/".join(path) not in files:
            return self.refuse(404, "EntryNotFound")
        content = (repository.folder / "/".join(path)).read_bytes()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        cut = repository.cut if path[-1].endswith(".safetensors") else None
        self.send(content, body, headers, cut)

    def send(self, content: bytes, body: bool, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content[:cut])
            self.close_connection = cut is not None

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the card of a hub's, and with files that no run needs."""
    folder = pipelines.save("sd", tmp_path_factory.mktemp("model"))
    (folder / "README.md").write_text("---\nlicense: creativeml-openrail-m\ntags: [x]\n---\n# A card\n")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"a second copy")
    (folder / "modeling.py").write_text("raise SystemExit")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants._HF_DEFAULT_ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_what_is_downloaded(hub: Hub, model: Path) -> None:
    """What a run reads, once; then the cache serves, and nobody is asked."""
    hub.repositories["someone/model"] = Repository(model)
    index = locate("someone/model", (), None)
    found = {str(each.relative_to(index.folder)) for each in index.folder.rglob("*") if each.is_file()}
    weights = {f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae")}
    assert weights | {"model_index.json", "README.md", "text_encoder/model.safetensors"} <= found
    assert {each for each in found if not each.endswith((".json", ".safetensors", ".txt", ".md"))} == set()
    assert not any("fp16" in each or each.endswith(".py") for each in found)
    assert about(index, "unused") == {
        "name": "someone/model", "revision": COMMIT, "pipeline": "StableDiffusionPipeline",
        "licence": "creativeml-openrail-m",
    }  # fmt: skip
    hub.asked.clear()
    assert locate("someone/model", (), None).folder == index.folder and hub.asked == []


def test_revisions_are_pinned(hub: Hub, model: Path) -> None:
    hub.repositories["someone/model"] = Repository(model)
    assert locate("someone/model@v1", (), None).folder.name == OLDER
    assert locate(None, [f"someone/model@{OLDER}"], COMMIT).folder.name == COMMIT
    with pytest.raises(UserError, match=r"someone/model has no revision v3: check prior\.revision; or give"):
        locate("someone/model@v3", (), None)
    assert [pinned("a/b", None), pinned("a/b@v1", None), pinned("a/b@v1", "v2")] == [
        ("a/b", None), ("a/b", "v1"), ("a/b", "v2")
    ]  # fmt: skip


def test_mirrors_are_asked_in_order(hub: Hub, model: Path) -> None:
    hub.repositories["the/third"] = Repository(model)
    mirrors = ["the/first", "the/second", "the/third", "the/fourth"]
    assert about(locate(None, mirrors, None), None)["name"] == "the/third"
    models = [path for path in hub.asked if "/revision/" in path]
    assert models == [f"/api/models/{each}/revision/main" for each in mirrors[:3]]
    with pytest.raises(UserError) as caught:
        locate(None, mirrors[:2], None)
    assert all(f"{each} is not there (404)" in str(caught.value) for each in mirrors[:2])
    with pytest.raises(UserError, match=r"prior\.path is missing: give a local diffusers folder, or a hub repository"):
        locate(None, (), None)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "RepoNotFound", r"someone/model is missing or needs a login \(401\)"),
        (401, "", r"someone/model is missing or needs a login \(401\)"),
        (403, "GatedRepo", "someone/model is gated: accept its licence on huggingface.co, then log in with"),
        (404, "RepoNotFound", r"someone/model is not there \(404\): check its name"),
        (500, "", r"someone/model is refused by the hub \(500\): try again later"),
    ],
)
def test_a_hub_that_refuses(hub: Hub, status: int, code: str, message: str) -> None:
    hub.repositories["someone/model"] = Repository(refuses=(status, code))
    started = time.monotonic()
    with pytest.raises(UserError, match=message) as caught:
        locate("someone/model", (), None)
    assert time.monotonic() - started < 3
    assert "prior.path=<a local diffusers folder>" in str(caught.value) and "\n" not in str(caught.value)


def test_a_download_that_breaks_off(hub: Hub, model: Path) -> None:
    hub.repositories["someone/model"] = Repository(model, cut=500)
    with pytest.raises(UserError, match=r"cannot fetch the model: someone/model .*; or give prior\.path=") as caught:
        locate("someone/model", (), None)
    assert "\n" not in str(caught.value)
    hub.repositories["someone/model"] = Repository(model)
    assert locate("someone/model", (), None).folder.name == COMMIT, "the next attempt goes on"


def test_a_cache_with_half_a_model(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one is where a download was killed: a snapshot without some of its files."""
    from huggingface_hub import constants

    hub.repositories["someone/model"] = Repository(model)
    folder = locate("someone/model", (), None).folder
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="someone/model is only in part in the cache, and the hub cannot be reached"):
        locate("someone/model", (), None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert locate("someone/model", (), None).folder == folder and weights.is_file()


def test_a_hub_out_of_reach(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(UserError, match="someone/model is not in the cache and the hub cannot be reached"):
        locate("someone/model", (), None)
    assert time.monotonic() - started < 3
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot be reached: check the network and HF_HUB_OFFLINE"):
        locate("someone/model", (), None)


def test_a_network_that_swallows_everything(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that takes no more connections, as a firewall that drops them: nothing is refused, and nothing comes."""
    from huggingface_hub import constants

    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{full.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(UserError, match="someone/model is not in the cache and the hub cannot be reached"):
            locate("someone/model", (), None)
        assert 2 < time.monotonic() - started < 4


def test_shards_and_their_index(model: Path, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    copy = shutil.copytree(model, tmp_path / "copy")
    whole = UNet2DConditionModel.from_pretrained(copy, subfolder="unet", use_safetensors=True)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    whole.save_pretrained(copy / "unet", max_shard_size="40KB")
    shards = sorted((copy / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1 and locate(str(copy), (), None) == read_index(copy)
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"cannot read unet of .* \({shards[1].name} is cut short: \d+ bytes of \d+\)"):
        locate(str(copy), (), None)
    shards[1].unlink()
    with pytest.raises(UserError, match=rf"\({shards[1].name} is not there\)"):
        locate(str(copy), (), None)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: openrail++\n---\n", "openrail++"),
        ("---\nlicense: other\nlicense_name: flux-1-dev\n---\n", "flux-1-dev"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags: []\n---\n", "ours"),
        ("---\n- a\n- list\n---\n", "ours"),
        ("---\nlicense: [\n---\n", "ours"),
        ("# No front matter", "ours"),
        (None, "ours"),
    ],
)
def test_licences(model: Path, tmp_path: Path, card: str | None, licence: str) -> None:
    (tmp_path / "model_index.json").write_text((model / "model_index.json").read_text())
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert about(read_index(tmp_path), "ours")["licence"] == licence
    if licence == "ours":
        assert about(read_index(tmp_path), None)["licence"] == "unknown: see the model's card"


def test_the_variables_of_the_hub_are_respected(hub: Hub, model: Path, tmp_path: Path) -> None:
    """HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE, in a process of its own; neither diffusers nor transformers is
    imported before the model is there."""
    hub.repositories["someone/model"] = Repository(model)
    code = (
        "import sys; from text23d.prior.hub.locate import locate; print(locate('someone/model', (), None).folder);"
        "assert not {'diffusers', 'transformers'} & set(sys.modules)"
    )
    home = tmp_path / "home"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_x",
        "HF_HOME": str(home),
    }
    for more in ({}, {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}):
        told = {key: value for key, value in environment.items() if key not in ("HF_HUB_CACHE", "HF_HUB_OFFLINE")}
        done = subprocess.run([sys.executable, "-c", code], env={**told, **more}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()) == home / "hub" / "models--someone--model" / "snapshots" / COMMIT
    assert hub.tokens == {"Bearer hf_x"}
