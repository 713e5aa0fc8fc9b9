"""External constraints: inpainting as a projection of the target, a reference as an extra loss."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from text23d.cameras import Cameras
from text23d.errors import UserError
from text23d.method.constraints import Inpaint, Reference, Unconstrained
from text23d.method.update import Update, resample
from text23d.pictures import read_picture
from text23d.prior.wrappers.codec import Encoded
from text23d.representation.image import PixelImage, resized
from text23d.representation.nerf import Nerf
from text23d.representation.views import CameraSampler, FixedCamera, WithCamera
from text23d.settings import build
from text23d.tasks.constraints import KnownPixels, KnownView, Place, inpaint, reference

CPU = torch.device("cpu")
FRONT = FixedCamera(0.0)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def left_half(size: int) -> Tensor:
    return (torch.arange(size) < size // 2).float().expand(1, 1, size, size)


def files(folder: Path, size: int = 16) -> tuple[str, str]:
    """A picture of noise and the mask of its left half."""
    levels = np.random.default_rng(0).integers(0, 256, (size, size, 4), np.uint8)
    Image.fromarray(levels).save(folder / "picture.png")
    Image.fromarray((left_half(size)[0, 0] * 255).byte().numpy()).save(folder / "mask.png")
    return str(folder / "picture.png"), str(folder / "mask.png")


# The constraints of the method


def test_what_is_known_is_exactly_so_and_the_rest_is_the_target() -> None:
    known, x0_hat, mask = PixelImage.of(normal(0, 4, 8, 8)), normal(1, 3, 4, 8, 8), left_half(8)
    here = torch.tensor([1.0, 0.0, 1.0])
    found = Inpaint(known, lambda views, shape: resample(mask, shape) * here.reshape(-1, 1, 1, 1)).project(
        x0_hat, FRONT.sample(3)
    )
    for row in (0, 2):
        assert torch.equal(found[row, :, :, :4], known.pixels[0, :, :, :4])
        assert torch.equal(found[row, :, :, 4:], x0_hat[row, :, :, 4:])
    assert torch.equal(found[1], x0_hat[1])


def test_a_coarser_target_mixes_along_the_masks_edge() -> None:
    known, x0_hat, mask = PixelImage.of(normal(0, 4, 8, 8)), normal(1, 1, 4, 4, 4), left_half(8).clone()
    mask[..., 4] = 1  # five columns of eight: of the third of four, one half
    found = Inpaint(known, lambda views, shape: resample(mask, shape)).project(x0_hat, FRONT.sample(1))
    coarse = resized(known.pixels, (4, 4))
    assert torch.equal(found[..., :2], coarse[..., :2]) and torch.equal(found[..., 3], x0_hat[..., 3])
    torch.testing.assert_close(found[..., 2], (coarse[..., 2] + x0_hat[..., 2]) / 2)


@dataclass(frozen=True)
class Halving:
    """A codec of two pixels a side, whose code is the negative colour."""

    factor: int = 2

    def encode(self, rgb: Tensor) -> Tensor:
        return -resized(rgb, tuple(side // 2 for side in rgb.shape[2:]))

    def decode(self, code: Tensor) -> Tensor:
        return -resized(code, tuple(2 * side for side in code.shape[2:]))


def test_in_a_latent_space_what_is_known_is_encoded() -> None:
    known = PixelImage.of(torch.cat([normal(0, 3, 8, 8), torch.ones(1, 8, 8)]))
    inside = Inpaint(known, lambda views, shape: resample(left_half(8), shape)).within(
        lambda phi: Encoded(phi, Halving())
    )
    x0_hat = normal(1, 1, 3, 4, 4)
    found = inside.project(x0_hat, FRONT.sample(1))
    torch.testing.assert_close(found[..., :2], -resized(known.pixels[:, :3], (4, 4))[..., :2])
    assert torch.equal(found[..., 2:], x0_hat[..., 2:])


def test_the_references_loss_is_the_written_one_and_reaches_phi() -> None:
    """One step of SGD on the update's loss and the reference's, whose gradient is taken by hand."""
    phi, picture, x0_hat = PixelImage(8), normal(0, 1, 4, 8, 8), normal(1, 1, 4, 8, 8)
    phi.pixels.data = normal(2, 1, 4, 8, 8)
    mask, before = left_half(8), phi.pixels.detach().clone()
    reference = Reference(picture, mask, FRONT.sample(1), 0.7)
    by_hand = 0.7 * (mask * (before - picture) ** 2).sum() / (4 * mask.sum())
    torch.testing.assert_close(reference.penalty(phi).detach(), by_hand)

    Update(torch.optim.SGD(phi.parameters(), lr=1.0), 1, [lambda: reference.penalty(phi)])(
        phi, FRONT.sample(1), x0_hat, (8, 8)
    )
    gradient = 2 * (before - x0_hat) / before.numel() + 0.7 * 2 * mask * (before - picture) / (4 * mask.sum())
    torch.testing.assert_close(phi.pixels.detach(), before - gradient)
    assert torch.equal(reference.project(x0_hat, FRONT.sample(1)), x0_hat)


def test_a_reference_pulls_a_nerf_towards_it() -> None:
    """The method's other representation: the loss against a picture of a smaller sphere falls, by its own gradient."""
    torch.manual_seed(0)
    field, smaller = Nerf(steps=16), Nerf(steps=16, radius=0.3)
    picture = smaller.render_image(FRONT.sample(1), 16)
    reference = Reference(picture, torch.ones(1, 1, 16, 16), FRONT.sample(1), 1.0)
    adam = torch.optim.Adam(field.param_groups(0.02, 0.006), eps=1e-15)
    losses = []
    for _ in range(30):
        adam.zero_grad()
        loss = reference.penalty(field)
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0], losses


def test_without_a_constraint_nothing_changes() -> None:
    x0_hat, free = normal(0, 1, 4, 8, 8), Unconstrained()
    assert free.within(lambda phi: phi) is free and free.project(x0_hat, FRONT.sample(1)) is x0_hat
    assert free.penalty is None


# What a configuration says is known


def test_an_images_known_pixels_are_seen_by_its_own_camera(tmp_path: Path) -> None:
    picture, mask = files(tmp_path)
    own = FixedCamera(50.0, 10.0)
    constraint, cameras = KnownPixels(picture, mask, Place()).constrain(own, True, CPU)
    assert cameras is own
    x0_hat = normal(0, 2, 4, 16, 16)
    found = constraint.project(x0_hat, own.sample(2))
    assert torch.equal(found[:, :, :, :8], read_picture(picture, "")[None, :, :, :8].expand(2, -1, -1, -1))
    assert torch.equal(found[..., 8:], x0_hat[..., 8:])


def test_an_objects_known_pixels_are_of_one_view_among_others(tmp_path: Path) -> None:
    constraint, cameras = KnownPixels(*files(tmp_path), Place(azimuth=90.0)).constrain(CameraSampler(), False, CPU)
    assert isinstance(cameras, WithCamera) and cameras.camera == FixedCamera(90.0, 15.0, 3.0, 40.0)
    views, x0_hat = cameras.sample(3, torch.Generator().manual_seed(0)), normal(0, 3, 4, 16, 16)
    changed = (constraint.project(x0_hat, views) != x0_hat).any(1).any(1).any(1)
    assert changed.tolist() == [False, False, True]


def test_a_reference_is_seen_from_where_it_is_said(tmp_path: Path) -> None:
    picture, mask = files(tmp_path)
    sampler = CameraSampler()
    constraint, cameras = reference(picture, mask, 0.5, 8, azimuth=20, elevation=None, fov=35.0).constrain(
        sampler, False, CPU
    )
    assert cameras is sampler and isinstance(constraint, Reference) and constraint.weight == 0.5
    assert constraint.view.features().tolist() == FixedCamera(20.0, 15.0, 3.0, 35.0).sample(1).features().tolist()
    torch.testing.assert_close(constraint.picture, resized(read_picture(picture, "")[None], (8, 8)))
    assert constraint.mask[0, 0, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_what_is_known_and_does_not_serve_is_told(tmp_path: Path) -> None:
    picture, mask = files(tmp_path)
    for name, levels in {"white": 255, "black": 0}.items():
        Image.new("L", (16, 16), levels).save(tmp_path / f"{name}.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "small.png")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "photo.png")
    around = CameraSampler()

    def constrain(known: KnownPixels | KnownView, cameras: CameraSampler | FixedCamera = around) -> None:
        known.constrain(cameras, isinstance(cameras, FixedCamera), CPU)

    for wrong, problem in {
        "white": "white everywhere",
        "black": "black everywhere",
        "small": "expected the same size",
    }.items():
        with pytest.raises(UserError, match=rf"constraint\.mask=.*{wrong}\.png.*{problem}"):
            constrain(inpaint(picture, str(tmp_path / f"{wrong}.png")))
    with pytest.raises(UserError, match=r"photo\.png is covered everywhere: expected the object cut out"):
        constrain(reference(str(tmp_path / "photo.png"), None, 1.0, 16))
    constrain(reference(str(tmp_path / "photo.png"), None, 1.0, 16), FixedCamera())
    constrain(reference(str(tmp_path / "photo.png"), mask, 1.0, 16))
    with pytest.raises(UserError, match=r"seen from azimuth 80, .* the image from azimuth 30"):
        constrain(reference(picture, None, 1.0, 16, azimuth=80), FixedCamera(30.0))
    with pytest.raises(UserError, match="camera elevation is"):
        constrain(inpaint(picture, mask, elevation=100))
    said = {"_target_": "text23d.tasks.constraints.reference", "picture": picture}
    for name, wrong_value, expected in (
        ("weight", 0, "a number above 0 and at most 1e+06"),
        ("weight", "much", "a number above 0 and at most 1e+06"),
        ("weight", float("inf"), "a number above 0 and at most 1e+06"),
        ("size", 4, "a whole number, 8 to 1024"),
    ):
        with pytest.raises(UserError, match=rf"^constraint\.{name}={wrong_value}: expected {re.escape(expected)}$"):
            build({**said, name: wrong_value}, "constraint")
    assert build({**said, "weight": 2, "size": 16}, "constraint") == reference(picture, None, 2.0, 16)


def test_only_the_view_itself_is_here(tmp_path: Path) -> None:
    own = FixedCamera(10.0)
    constraint, _ = KnownPixels(*files(tmp_path), Place()).constrain(own, True, CPU)
    x0_hat = normal(0, 3, 4, 16, 16)
    views = Cameras.cat([FixedCamera(10.5).sample(1), own.sample(1), FixedCamera(10.0, 16.0).sample(1)])
    changed = (constraint.project(x0_hat, views) != x0_hat).any(1).any(1).any(1)
    assert changed.tolist() == [False, True, False]
