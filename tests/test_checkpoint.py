"""State, written and read: the same bytes back, and damage told in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from text23d import checkpoint
from text23d.errors import UserError

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)


def equal(found: Any, expected: Any) -> bool:
    """Whether two states hold the same, tensors in type, shape and every bit."""
    if isinstance(expected, Tensor):
        alike = isinstance(found, Tensor) and (found.dtype, found.shape) == (expected.dtype, expected.shape)
        return alike and bool(torch.equal(found, expected))
    if isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(equal(found[name], each) for name, each in expected.items())
    return type(found) is type(expected) and found == expected


def example() -> dict[str, Any]:
    stream = torch.Generator().manual_seed(0)
    numbers = torch.randn(3, 5, generator=stream)
    return {
        "phi": {"mlp.0.weight": numbers, "grid": {"table": numbers.T, "deep": {"er": numbers[:, ::2]}}},
        "dtypes": {str(dtype): (numbers * 10).to(dtype) for dtype in DTYPES},
        "shapes": {"scalar": torch.tensor(7), "empty": torch.zeros(0, 3), "shared": numbers[0], "again": numbers[0]},
        "nothing": {},
        "nothing in it": {"nothing": {}},
        "totals": {
            "iteration": 3,
            "seconds": 0.1,
            "big": 2**62,
            "tiny": 5e-324,
            "label": "sigma 1.0, ü 車\n",
            "on": True,
        },
        "labels": ["start", "sigma 1.0, ü 車\n"],
        "none": None,
        "": {"": torch.ones(1)},
    }


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, example())
    assert equal(checkpoint.load(path), example())
    first = path.read_bytes()
    checkpoint.save(path, checkpoint.load(path))
    assert path.read_bytes() == first, "what is read and written again is the same bytes"
    checkpoint.save(path, {})
    assert checkpoint.load(path) == {}
    assert [each.name for each in tmp_path.iterdir()] == ["state.safetensors"]


def test_what_is_saved_is_not_what_goes_on_changing(tmp_path: Path) -> None:
    phi = torch.zeros(3)
    before = checkpoint.copied({"phi": {"a": phi}, "count": 1, "labels": ["a"]})
    phi += 1
    assert equal(before, {"phi": {"a": torch.zeros(3)}, "count": 1, "labels": ["a"]})


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short(share: float, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, example())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "\n" not in refusal(path)


def test_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    assert "no file" in refusal(path)
    for data in (b"", b"text", b"\x80\x04K\x01.", bytes(100), b"\xff" * 100):
        path.write_bytes(data)
        refusal(path)
    path.unlink()
    path.mkdir()
    refusal(path)


def test_a_byte_that_is_not_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, example())
    data = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    padding = header - len(data[:header].rstrip())
    for place in [*range(0, header - padding, 5), *range(header, len(data), 3)]:
        damaged = data.copy()
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert "\n" not in refusal(path)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as raised:
        checkpoint.load(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


# Optimisers

MAKERS: dict[str, Callable[[list[Any]], torch.optim.Optimizer]] = {
    "Adam": lambda groups: torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15),
    "AMSGrad": lambda groups: torch.optim.Adam(groups, amsgrad=True),
    "SGD": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "plain SGD": lambda groups: torch.optim.SGD(groups),
}


def parameters() -> list[torch.nn.Parameter]:
    stream = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=stream)) for shape in ((4, 3), (5,), (2, 2))]


def groups(values: list[torch.nn.Parameter]) -> list[dict[str, Any]]:
    return [{"name": "grid", "params": values[:1], "lr": 0.02}, {"name": "mlp", "params": values[1:], "lr": 0.006}]


def steps(values: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, of: range) -> None:
    """The last parameter has no gradient before step 3, and so nothing is remembered of it until then."""
    for step in of:
        optimizer.zero_grad()
        used = values if step >= 3 else values[:2]
        loss = sum(((each - step) ** 4).sum() for each in used)
        assert isinstance(loss, Tensor)
        torch.autograd.backward(loss)
        optimizer.step()


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("after", [0, 2, 5])
def test_an_optimiser_goes_on_to_the_same_bytes(name: str, after: int, tmp_path: Path) -> None:
    make, whole, begun, resumed = MAKERS[name], parameters(), parameters(), parameters()
    steps(whole, make(groups(whole)), range(8))

    first = make(groups(begun))
    steps(begun, first, range(after))
    state = {"phi": {str(i): each.detach() for i, each in enumerate(begun)}}
    checkpoint.save(tmp_path / "state", {**state, "optimizer": checkpoint.optimizer_state(first)})

    second, loaded = make(groups(resumed)), checkpoint.load(tmp_path / "state")
    steps(resumed, second, range(20, 24))  # whatever it remembered before is forgotten
    with torch.no_grad():
        for i, each in enumerate(resumed):
            each.copy_(loaded["phi"][str(i)])
    checkpoint.load_optimizer(second, loaded["optimizer"])
    assert equal(checkpoint.optimizer_state(second), checkpoint.optimizer_state(first))
    steps(resumed, second, range(after, 8))
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_an_optimisers_state_is_its_own() -> None:
    values = parameters()
    optimizer = torch.optim.Adam(groups(values))
    steps(values, optimizer, range(4))
    state = checkpoint.copied(checkpoint.optimizer_state(optimizer))
    assert set(state) == {f"{i}.{name}" for i in range(3) for name in ("step", "exp_avg", "exp_avg_sq")}
    checkpoint.load_optimizer(optimizer, state)
    kept = checkpoint.copied(state)
    steps(values, optimizer, range(4, 6))
    assert equal(state, kept), "an optimiser does not write into what it was given"
