"""The object of a photograph is cut out by a local model, and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.pictures import write_picture
from text23d.representation.views import CameraSampler
from text23d.spaces import from_picture
from text23d.tasks import cutout
from text23d.tasks.constraints import reference

SIDE = 32


def photograph() -> Tensor:
    """A bright square in the middle of a dark picture, in picture space."""
    x = torch.full((4, SIDE, SIDE), -0.8)
    x[:3, 8:24, 8:24] = torch.tensor([0.9, 0.2, -0.4])[:, None, None]
    x[3] = 1
    return x


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, of two labels."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], num_attention_heads=[1, 2],
        patch_sizes=[3, 3], strides=[2, 2], mlp_ratios=[2, 2], decoder_hidden_size=16,
        id2label={0: "Background", 1: "object"}, label2id={"Background": 0, "object": 1},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("segformer")
    SegformerForSemanticSegmentation(config).eval().save_pretrained(folder)
    SegformerImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def edit(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.fixture
def copy(segformer: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(segformer, tmp_path / "copy"))


def test_coverage_is_what_the_model_does_not_take_for_background(segformer: Path) -> None:
    """Its own answer, by its own processor, as the probability of its other label; colours stay."""
    from transformers import SegformerForSemanticSegmentation, SegformerImageProcessorPil

    picture = photograph()
    model = SegformerForSemanticSegmentation.from_pretrained(segformer).eval()
    processor = SegformerImageProcessorPil.from_pretrained(segformer)
    levels = ((picture[:3] + 1) / 2 * 255).round().byte().movedim(0, -1).numpy()
    with torch.no_grad():
        logits = model(**processor(levels, return_tensors="pt")).logits
    large = torch.nn.functional.interpolate(logits, size=(SIDE, SIDE), mode="bilinear")[0]
    expected = large.softmax(0)[1]
    if not ((expected > 0.5).any() and (expected < 0.5).any()):
        pytest.fail("the random model sees all alike: choose another seed")
    premultiplied, alpha = from_picture(cutout.cut_out(picture, str(segformer), "constraint.matting"))
    torch.testing.assert_close(alpha[0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(premultiplied, (picture[:3] + 1) / 2 * expected, rtol=1e-4, atol=1e-5)


def test_a_photograph_is_a_reference_with_a_model(segformer: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "photo.png", photograph())
    views = CameraSampler((0.0, 30.0), (3.0, 3.0), (40.0, 40.0))
    known = reference(str(tmp_path / "photo.png"), matting=str(segformer), size=SIDE)
    constraint, _ = known.constrain(views, False, torch.device("cpu"))
    expected = cutout.cut_out(photograph(), str(segformer), "constraint.matting")
    torch.testing.assert_close(constraint.picture[0], expected, rtol=0, atol=0.02)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"covered everywhere: .*constraint\.matting=<a folder with a model"):
        reference(str(tmp_path / "photo.png")).constrain(views, False, torch.device("cpu"))


def test_models_that_do_not_serve(copy: Path, tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(UserError, match=message):
            cutout.cut_out(photograph(), str(copy), "constraint.matting")

    with pytest.raises(UserError, match="no model of transformers there"):
        cutout.cut_out(photograph(), str(tmp_path / "nowhere"), "constraint.matting")
    edit(copy, id2label={"0": "sky", "1": "object"})
    refused("none of its labels is background")
    edit(copy, architectures=["BiRefNet"], auto_map={"AutoModelForImageSegmentation": "birefnet.BiRefNet"})
    (copy / "birefnet.py").write_text("raise SystemExit('this must not run')")
    refused("it holds a BiRefNet; expected one of SegformerForSemanticSegmentation")
    edit(copy, architectures=["SegformerForSemanticSegmentation"], id2label={"0": "background", "1": "object"})
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    refused("it cannot be read .*download the model again")
    weights.rename(copy / "pytorch_model.bin")
    refused(r"there is no model\.safetensors in it; weights of other kinds are not read")


@pytest.mark.parametrize(("bias", "found"), [(50.0, "nothing but background"), (-50.0, "no background")])
def test_nothing_to_cut_out(copy: Path, bias: float, found: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    name = next(each for each in tensors if each.endswith("classifier.bias"))
    save_file({**tensors, name: torch.tensor([bias, 0.0])}, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"it finds {found} in the picture"):
        cutout.cut_out(photograph(), str(copy), "constraint.matting")
