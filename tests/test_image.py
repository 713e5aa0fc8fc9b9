"""Pictures as representations, and the files they come from and go to."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from text23d.errors import UserError
from text23d.pictures import LUMA, read_mask, read_picture, write_picture
from text23d.representation.image import MlpImage, PixelImage, resized
from text23d.representation.views import CameraSampler, FixedCamera, WithCamera
from text23d.settings import build
from text23d.spaces import from_picture, to_picture

VIEW = FixedCamera().sample(1)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def colours(size: int, seed: int = 0) -> np.ndarray:
    """An RGBA picture of noise, [size, size, 4] uint8, with alphas from 0 to 255."""
    levels = np.random.default_rng(seed).integers(0, 256, (size, size, 4), np.uint8)
    levels[0, :3, 3] = 0, 1, 255
    return levels


def saved(path: Path, levels: np.ndarray) -> Path:
    Image.fromarray(levels).save(path)
    return path


# Resampling


def test_shrinking_is_the_mean_over_areas() -> None:
    x = normal(0, 2, 4, 12, 12)
    for size in (4, 6, 1):
        side = 12 // size
        blocks = [
            [x[..., i * side : (i + 1) * side, j * side : (j + 1) * side] for j in range(size)] for i in range(size)
        ]
        expected = torch.stack([torch.stack([block.mean((-1, -2)) for block in row], -1) for row in blocks], -2)
        torch.testing.assert_close(resized(x, (size, size)), expected)


def test_growing_is_bilinear_between_pixel_centres() -> None:
    """A ramp stays one, up to the border, beyond which its last values go on."""
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    expected = ((torch.arange(12) + 0.5) / 3 - 0.5).clamp(0, 3)
    torch.testing.assert_close(resized(ramp, (12, 12)), expected.expand(1, 1, 12, 12))
    torch.testing.assert_close(resized(ramp.mT, (12, 12)), expected[:, None].expand(1, 1, 12, 12))


def test_shapes_that_are_not_square() -> None:
    """Means over areas where no side grows, bilinear where one does; the network at its pixels' centres."""
    x = normal(0, 1, 4, 12, 12)
    torch.testing.assert_close(resized(x, (4, 6)), x.reshape(1, 4, 4, 3, 6, 2).mean((3, 5)))
    assert resized(x, (6, 18)).shape == (1, 4, 6, 18)
    torch.manual_seed(0)
    image, place = MlpImage(12).double(), torch.tensor([[0.8, 0.0]], dtype=torch.float64)
    for parameter in image.parameters():
        parameter.data = normal(4, *parameter.shape).double()
    torch.testing.assert_close(image.render(VIEW, (3, 5))[0, :, 1, 4], image.query(place)[0])


def test_the_same_size_is_the_picture_itself() -> None:
    x = normal(0, 1, 4, 5, 5)
    assert resized(x, (5, 5)) is x


# A grid of pixels


def test_a_picture_begins_flat_and_grey() -> None:
    for image in (PixelImage(8), MlpImage(8, features=4, hidden=8)):
        premultiplied, alpha = from_picture(image.render(VIEW, (8, 8)))
        torch.testing.assert_close(premultiplied / alpha, torch.full((1, 3, 8, 8), 0.5))
        torch.testing.assert_close(alpha, torch.full((1, 1, 8, 8), 0.5))


def test_the_gradient_of_a_shrunk_rendering_is_spread_over_its_area() -> None:
    image, weights = PixelImage(8), normal(1, 3, 4, 4, 4)
    (weights * image.render(FixedCamera().sample(3), (4, 4))).sum().backward()
    assert image.pixels.grad is not None
    expected = weights.sum(0, keepdim=True).repeat_interleave(2, -1).repeat_interleave(2, -2) / 4
    torch.testing.assert_close(image.pixels.grad, expected)


def test_replaced_pixels() -> None:
    image, target = PixelImage(8), normal(2, 1, 4, 8, 8)
    image.replace(VIEW, target)
    assert torch.equal(image.render(VIEW, (8, 8)), target) and image.pixels.requires_grad
    two = normal(3, 2, 4, 4, 4)
    image.replace(FixedCamera().sample(2), two)
    torch.testing.assert_close(image.pixels.detach(), resized(two.mean(0, keepdim=True), (8, 8)))


# A network


def test_the_network_is_the_written_one() -> None:
    torch.manual_seed(0)
    image = MlpImage(6, features=3, hidden=5, bandwidth=2.0)
    for parameter in image.parameters():
        parameter.data = normal(4, *parameter.shape)
    layers: list[Any] = list(image.mlp)
    first, second, last = layers[0], layers[2], layers[4]
    found = image.render(VIEW, (6, 6))
    for row, column in ((0, 0), (2, 5)):
        u = torch.tensor([(2 * column + 1) / 6 - 1, (2 * row + 1) / 6 - 1])
        phase = 2 * math.pi * image.frequencies @ u
        h = torch.cat([phase.cos(), phase.sin()])
        for layer in (first, second):
            h = (layer.weight @ h + layer.bias).clamp(min=0)
        torch.testing.assert_close(found[0, :, row, column], last.weight @ h + last.bias)


def test_the_networks_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    image = MlpImage(4, features=2, hidden=3).double()
    layers: list[Any] = list(image.mlp)
    layers[4].weight.data = normal(5, 4, 3).double()
    weights = normal(6, 1, 4, 5, 5).double()

    def value(weight: Tensor) -> Tensor:
        parameters = {**dict(image.named_parameters()), "mlp.0.weight": weight, "frequencies": image.frequencies}
        return (
            weights
            * torch.func.functional_call(Rendered(image), {f"image.{k}": v for k, v in parameters.items()}, ((5, 5),))
        ).sum()

    assert torch.autograd.gradcheck(value, layers[0].weight.detach().clone().requires_grad_())


class Rendered(torch.nn.Module):
    def __init__(self, image: MlpImage) -> None:
        super().__init__()
        self.image = image

    def forward(self, shape: tuple[int, ...]) -> Tensor:
        return self.image.render(VIEW, shape)


def test_frequencies_have_the_bandwidth_and_come_from_the_seed() -> None:
    torch.manual_seed(3)
    one = MlpImage(8, features=2000, hidden=4, bandwidth=3.0)
    torch.manual_seed(3)
    assert torch.equal(one.frequencies, MlpImage(8, features=2000, hidden=4, bandwidth=3.0).frequencies)
    assert one.frequencies.std().item() == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize(
    ("kind", "name", "value", "expected"),
    [
        ("PixelImage", "size", 0, "a whole number, 1 to 4096"),
        ("MlpImage", "bandwidth", 0.0, "a number above 0 and at most 1000"),
        ("MlpImage", "hidden", 0, "a whole number, 1 to 1024"),
    ],
)
def test_sizes_out_of_range(kind: str, name: str, value: float, expected: str) -> None:
    with pytest.raises(UserError, match=rf"^representation\.{name}={value}: expected {expected}$"):
        build({"_target_": f"text23d.representation.image.{kind}", name: value}, "representation")


# Picture files


def test_an_rgba_file_comes_out_as_it_went_in(tmp_path: Path) -> None:
    levels = colours(32)
    x = read_picture(saved(tmp_path / "in.png", levels), "start")
    shares = torch.from_numpy(levels.astype(np.float32) / 255).movedim(-1, 0)
    torch.testing.assert_close(x, to_picture(shares[:3] * shares[3:], shares[3:]))
    write_picture(tmp_path / "out.png", x)
    levels[levels[..., 3] == 0] = 0  # nothing is known of a colour that nobody can see
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), levels)


def test_without_alpha_a_picture_is_covered(tmp_path: Path) -> None:
    levels = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    for name, tolerance in (("a.png", 1e-6), ("a.jpg", 0.03)):
        x = read_picture(saved(tmp_path / name, levels), "start")
        assert (x[3] == 1).all()
        expected = 2 * torch.tensor([200, 100, 50]) / 255 - 1
        torch.testing.assert_close(x[:3], expected[:, None, None].expand(3, 16, 16), rtol=0, atol=tolerance)


def test_what_cannot_be_shown_is_clamped(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png", torch.tensor([3.0, -3.0, 0.0, 1.0])[:, None, None].expand(4, 2, 2))
    assert np.asarray(Image.open(tmp_path / "x.png"))[0, 0].tolist() == [255, 0, 128, 255]


def test_pictures_begin_with_a_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "start.png", np.kron(colours(4), np.ones((4, 4, 1), np.uint8)))
    x = read_picture(path, "start")[None]
    assert torch.equal(PixelImage(16, str(path)).pixels.detach(), x)
    torch.testing.assert_close(PixelImage(8, str(path)).pixels.detach(), x[..., ::2, ::2])
    torch.manual_seed(0)
    fitted = MlpImage(16, start=str(path)).render(VIEW, (16, 16))
    assert (fitted - x).square().mean().sqrt() < 0.05 * x.std()


def test_a_mask_is_where_it_is_light(tmp_path: Path) -> None:
    levels = np.array([[0, 127, 128, 255]] * 4, np.uint8).repeat(2, 0).repeat(2, 1)
    assert read_mask(saved(tmp_path / "m.png", levels), "mask")[0, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def ramp(bits: int) -> np.ndarray:
    """All levels from black to white, [16, 16], as whole numbers of so many bits."""
    return np.linspace(0, 2**bits - 1, 256).round().astype(np.uint16 if bits > 8 else np.uint8).reshape(16, 16)


def pgm(levels: np.ndarray) -> bytes:
    return b"P5 16 16 65535\n" + levels.astype(">u2").tobytes()


def deep_png(levels: np.ndarray, hidden: int) -> bytes:
    """A 16-bit grey PNG in which one level is transparent, by the specification."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header, key = struct.pack(">IIBBBBB", 16, 16, 16, 0, 0, 0, 0), struct.pack(">H", hidden)
    chunks = ((b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def tiff(folder: Path, levels: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(folder / "x.tif", levels, **options)
    return folder / "x.tif"


def test_deep_greys_are_what_they_say(tmp_path: Path) -> None:
    """16 bits in both orders of bytes, floats, and the formats that Pillow widens, each against its own numbers."""
    deep = ramp(16)
    expected = 2 * torch.tensor(deep.astype(np.float64) / 65535).float() - 1
    files = {"a.png": None, "a.pgm": pgm(deep), "b.pgm": b"P5 16 16 1023\n" + (deep >> 6).astype(">u2").tobytes()}
    for name, content in files.items():
        Image.fromarray(deep).save(tmp_path / name) if content is None else (tmp_path / name).write_bytes(content)
        x = read_picture(tmp_path / name, "start")
        tolerance = 2 / 1023 if name == "b.pgm" else 1e-6
        torch.testing.assert_close(x[:3], expected.expand(3, 16, 16), rtol=0, atol=tolerance, msg=name)
        assert (x[3] == 1).all()
    for levels in (deep, (deep / 65535).astype(np.float32)):
        for order in "<>":
            x = read_picture(tiff(tmp_path, levels, byteorder=order), "start")
            torch.testing.assert_close(x[:3], expected.expand(3, 16, 16), rtol=0, atol=1e-6)
    x = read_picture(tiff(tmp_path, deep, photometric="miniswhite"), "start")
    torch.testing.assert_close(x[:3], -expected.expand(3, 16, 16), rtol=0, atol=1e-6)


def test_a_transparent_level_of_a_deep_grey(tmp_path: Path) -> None:
    deep = ramp(16)
    (tmp_path / "a.png").write_bytes(deep_png(deep, int(deep[3, 3])))
    alpha = (read_picture(tmp_path / "a.png", "start")[3] + 1) / 2
    assert alpha[3, 3] == 0 and alpha.sum() == 255
    assert read_mask(tmp_path / "a.png", "mask").sum() == 128


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1.5, -0.25, 255.0])
def test_floats_that_are_no_levels_are_refused(tmp_path: Path, bad: float) -> None:
    levels = np.full((16, 16), 0.5, np.float32)
    levels[3, 3] = bad
    with pytest.raises(UserError, match=r"mask=.*x\.tif: it holds levels from .* expected 0 \(black\) to 1 \(white\)"):
        read_mask(tiff(tmp_path, levels), "mask")


@pytest.mark.parametrize("kind", [np.int32, np.int16, np.uint32])
def test_whole_numbers_without_a_white_are_refused(tmp_path: Path, kind: type) -> None:
    with pytest.raises(UserError, match=r"of the kind I, which does not say what white is; save it with 8 or 16 bits"):
        read_picture(tiff(tmp_path, (ramp(16) // 4).astype(kind), byteorder="<"), "start")


def test_every_kind_of_eight_bits_reads_alike(tmp_path: Path) -> None:
    """A picture of four flat colours, lossless in each of Pillow's modes that holds them."""
    four = np.array([[[255, 255, 255, 255], [0, 0, 0, 255]], [[255, 0, 0, 255], [0, 0, 255, 0]]], np.uint8)
    rgba = Image.fromarray(four.repeat(8, 0).repeat(8, 1))
    rgb, grey = rgba.convert("RGB"), rgba.convert("LA")
    files = {
        "rgba.png": rgba, "rgba.webp": rgba, "rgba.tif": rgba, "palette.gif": rgba, "rgb.png": rgb, "rgb.bmp": rgb,
        "palette.png": rgb.quantize(4), "cmyk.tif": rgb.convert("CMYK"), "la.png": grey, "l.png": rgb.convert("L"),
        "one.png": rgb.convert("L").convert("1", dither=Image.Dither.NONE),
    }  # fmt: skip
    red, blue = ((2 * round(np.dot(LUMA, colour)) / 255 - 1) for colour in ((255, 0, 0), (0, 0, 255)))
    for name, picture in files.items():
        exactly: dict[str, Any] = {"lossless": True, "exact": True} if name.endswith("webp") else {}
        picture.save(tmp_path / name, **exactly)
        x = read_picture(tmp_path / name, "start")
        assert x[:, 0, 0].tolist() == [1, 1, 1, 1] and x[:, 0, 15].tolist() == [-1, -1, -1, 1], name
        covered = -1 if name.startswith(("rgba", "la", "palette.gif")) else 1
        grey_red = {"l": [red] * 3, "la": [red] * 3, "one": [-1] * 3}.get(name.partition(".")[0], [1, -1, -1])
        grey_blue = {"l": [blue] * 3, "one": [-1] * 3}.get(name.partition(".")[0], [-1, -1, 1])
        assert x[:, 15, 0].tolist() == pytest.approx([*grey_red, 1]), name
        assert x[:, 15, 15].tolist() == pytest.approx([0, 0, 0, -1] if covered < 0 else [*grey_blue, 1]), name
        assert read_mask(tmp_path / name, "mask")[0, ::15, ::15].tolist() == [[1, 0], [0, 0]], name


def test_a_picture_stands_as_its_camera_was_held(tmp_path: Path) -> None:
    levels = np.zeros((16, 16, 3), np.uint8)
    levels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Image.fromarray(levels).save(tmp_path / "turned.png", exif=exif)
    assert read_mask(tmp_path / "turned.png", "mask")[0, 4].tolist() == [0] * 8 + [1] * 8


def test_a_mask_is_where_it_is_white_and_opaque(tmp_path: Path) -> None:
    """That is, lighter than middle grey when it is shown over black."""
    light, alpha = np.meshgrid(np.arange(0, 256, 15), np.arange(0, 256, 15))
    levels = np.stack([light, light, light, alpha], -1)[:16, :16].astype(np.uint8)
    found = read_mask(saved(tmp_path / "m.png", levels), "mask")[0].numpy()
    assert np.array_equal(found, (light * alpha)[:16, :16] >= 0.5 * 255**2)
    assert read_mask(saved(tmp_path / "white.png", np.full((16, 16, 4), 255, np.uint8)), "mask").all()


def test_a_deep_mask_of_12_percent_grey_is_black(tmp_path: Path) -> None:
    for share in (0.12, 0.49, 0.51, 0.88):
        saved(tmp_path / "m.png", np.full((16, 16), round(65535 * share), np.uint16))
        assert read_mask(tmp_path / "m.png", "mask").unique().tolist() == [share > 0.5]


def test_files_that_do_not_serve_are_named(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.png", colours(64)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.png").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    saved(tmp_path / "tiny.png", colours(4))
    saved(tmp_path / "wide.png", colours(16)[:8])
    for name, problem in {
        "missing.png": "no such file; expected a picture",
        "cut.png": "cannot be read as a picture",
        "words.png": "cannot be read as a picture",
        "empty.jpg": "cannot be read as a picture",
        "tiny.png": "is 4 x 4; expected a square of 8 to 8192 pixels",
        "wide.png": "is 16 x 8; expected a square",
        ".": "it is a folder; expected a picture",
    }.items():
        with pytest.raises(UserError, match=problem) as raised:
            read_picture(tmp_path / name, "representation.start")
        assert f"representation.start={tmp_path / name}" in str(raised.value) and "\n" not in str(raised.value)


# The cameras of pictures


def test_a_fixed_camera_draws_nothing() -> None:
    cameras = FixedCamera(70.0, -5.0, 2.9, 41.0).sample(3)
    assert cameras.azimuth.tolist() == [70.0] * 3 and cameras.elevation.tolist() == [-5.0] * 3
    assert cameras.distance.tolist() == pytest.approx([2.9] * 3) and cameras.fov.tolist() == [41.0] * 3
    with pytest.raises(UserError, match="camera elevation is"):
        FixedCamera(elevation=95.0)


def test_a_camera_among_others() -> None:
    both = WithCamera(CameraSampler(), FixedCamera(12.0, 34.0)).sample(4, torch.Generator().manual_seed(0))
    others = CameraSampler().sample(3, torch.Generator().manual_seed(0))
    assert torch.equal(both.rows(slice(0, 3)).features(), others.features())
    assert (both.azimuth[3].item(), both.elevation[3].item()) == (12.0, 34.0)
    with pytest.raises(UserError, match="number of cameras is 0"):
        WithCamera(CameraSampler(), FixedCamera()).sample(1)
