"""A run's folder may be anybody's: what it says is data, and damage and deceit in it are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from text23d.engine.resume import read_config
from text23d.engine.saved import read_nerf
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.representation.nerf import Nerf
from text23d.settings import build

SECTION: dict[str, Any] = {
    "_target_": "text23d.representation.nerf.Nerf",
    "encoding": {
        "_target_": "text23d.representation.hashgrid.HashGrid",
        **{"levels": 2, "features": 2, "log2_table": 8, "base": 4, "finest": 16},
    },
    **{"hidden": 8, "gain": 25.0, "blob": 1, "steps": 16},
}


def leave(folder: Path, section: Any, **facts: Any) -> None:
    """A run's folder with a small NeRF, whose file says these facts, and a config.yaml of this section."""
    nerf = build(SECTION, "representation")
    save_tensors(folder / "nerf.safetensors", nerf.state_dict(), "nerf", facts)
    (folder / "config.yaml").write_text(yaml.safe_dump({"prompt": "a red car", "representation": section}))


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        read_nerf(folder)
    line = str(raised.value)
    assert "\n" not in line and len(line) < 1000, line
    return line


def test_what_a_run_left_is_read(tmp_path: Path) -> None:
    leave(tmp_path, SECTION, representation=SECTION)
    nerf = read_nerf(tmp_path)
    assert isinstance(nerf, Nerf) and nerf.dt == 2 / 16 and not any(each.requires_grad for each in nerf.parameters())
    tensors, facts = load_tensors(tmp_path / "nerf.safetensors", "nerf")
    assert facts["representation"] == SECTION
    assert torch.equal(tensors["encoding.table"], nerf.state_dict()["encoding.table"])


HOSTILE = [
    {"_target_": "torch.load", "f": "nerf.safetensors"},
    {"_target_": "pathlib.Path.unlink", "self": "nerf.safetensors"},
    {"_target_": "text23d.files.write_text", "path": "mark", "text": "x"},
    {**SECTION, "encoding": {"_target_": "os.system", "command": "touch mark"}},
    {**SECTION, "encoding": {"_target_": "text23d.representation.nerf.Nerf"}},
    {**SECTION, "hidden": {"_target_": "builtins.eval", "source": "open('mark', 'w')"}},
    {"_target_": "text23d.representation.image.PixelImage", "start": "/etc/passwd"},
    {"_target_": "text23d.tasks.constraints.inpaint", "picture": "/etc/passwd", "mask": "/etc/passwd"},
    {**SECTION, "hidden": 10**9},
    {**SECTION, "gain": float("nan")},
    {**SECTION, "start": "/etc/passwd"},
    {},
]


@pytest.mark.parametrize("section", HOSTILE, ids=lambda section: str(section.get("_target_")))
def test_a_strangers_settings_build_nothing_else(
    section: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the configuration and in the NeRF's own file alike, or in the former alone, as earlier versions had it."""
    monkeypatch.chdir(tmp_path)
    for facts in ({"representation": section}, {}):
        leave(tmp_path, section, **facts)
        assert "expected" in (line := refusal(tmp_path)) or "another representation" in line
    assert {each.name for each in tmp_path.iterdir()} == {"nerf.safetensors", "config.yaml"}


@pytest.mark.parametrize("change", [{"gain": 5.0}, {"hidden": 9}, {"steps": 17}, {"blob": 1.5}, {"radius": 0.5}])
def test_settings_that_were_edited_are_noticed(change: dict[str, Any], tmp_path: Path) -> None:
    leave(tmp_path, {**SECTION, **change}, representation=SECTION)
    assert "another representation" in refusal(tmp_path)


def test_settings_that_do_not_fit_the_weights(tmp_path: Path) -> None:
    wider = {**SECTION, "hidden": 9}
    leave(tmp_path, wider, representation=wider)
    assert "does not fit its own settings" in refusal(tmp_path)


LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(60))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "[1, 2]",
        "representation: 5",
        "representation: null",
        "representation: [a",
        "representation: !!python/object/apply:os.system ['touch mark']",
        "representation: &a {b: *a}",
        f"{LAUGHS}representation: {{b: *a60}}",
        f"representation: {{hidden: {'[' * 3000}{']' * 3000}}}",
        "representation: {1: 2}",
        "\x00\x01\x02",
        "representation: {_target_: \ud800}",
    ],
    ids=lambda text: text[:40],
)
def test_configurations_that_are_none(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    leave(tmp_path, SECTION, representation=SECTION)
    (tmp_path / "config.yaml").write_bytes(text.encode(errors="surrogatepass"))
    refusal(tmp_path)
    save_tensors("nerf.safetensors", {}, "nerf", {})
    refusal(tmp_path)
    assert not Path("mark").exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in"):
        read_config(tmp_path)
    leave(tmp_path, SECTION, representation=SECTION)
    (tmp_path / "nerf.safetensors").rename(tmp_path / "image.safetensors")
    assert "made an image" in refusal(tmp_path)
    (tmp_path / "image.safetensors").unlink()
    assert "no file" in refusal(tmp_path)
