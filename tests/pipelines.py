"""Pipelines of every family with tiny random networks, tokenizers and encoders, as diffusers makes and saves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NOISE: dict[str, Any] = {**BETAS, "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False}
WIDTH = 32
"""Of the text encoders' states."""


def clip_tokenizer() -> Any:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=77)


def clip_encoder(projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    text = CLIPTextConfig(
        vocab_size=514, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        projection_dim=WIDTH, bos_token_id=512, eos_token_id=513, pad_token_id=513,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(text).eval()


def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    letters = [("▁", -2.0), *((chr(code), -3.0) for code in range(33, 127))]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0)


def t5_encoder(width: int = WIDTH) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=98, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4, pad_token_id=0)
    ).eval()


def unet(**settings: Any) -> Any:
    from diffusers import UNet2DConditionModel

    made: Any = UNet2DConditionModel(**{
        "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4,
        "cross_attention_dim": WIDTH, "attention_head_dim": 4, "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), **settings,
    })  # fmt: skip
    return made.eval()


def autoencoder(channels: int = 4, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    made: Any = AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **settings,
    )  # fmt: skip
    return made.eval()


def plain(scheduler: Any, kind: str = "StableDiffusionPipeline", **settings: Any) -> Any:
    import diffusers

    more = {} if kind == "LatentConsistencyModelPipeline" else {"image_encoder": None}
    return getattr(diffusers, kind)(
        unet=unet(**settings), vae=autoencoder(), text_encoder=clip_encoder(), tokenizer=clip_tokenizer(),
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False, **more,
    )  # fmt: skip


def sd() -> Any:
    from diffusers import DDIMScheduler

    return plain(DDIMScheduler(**NOISE))


def sd21() -> Any:
    """As Stable Diffusion 2.1: v, and (as later models) a schedule that ends in noise alone."""
    from diffusers import DDIMScheduler

    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    return plain(DDIMScheduler(**{**NOISE, **zero}))


def inpainting() -> Any:
    from diffusers import DDIMScheduler

    return plain(DDIMScheduler(**NOISE), "StableDiffusionInpaintPipeline", in_channels=9)


def lcm() -> Any:
    from diffusers import LCMScheduler

    scheduler = LCMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False)
    return plain(scheduler, "LatentConsistencyModelPipeline", time_cond_proj_dim=16)


def sdxl(kind: str = "StableDiffusionXLPipeline", **settings: Any) -> Any:
    import diffusers

    network = unet(
        cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80, use_linear_projection=True, **settings,
    )  # fmt: skip
    return getattr(diffusers, kind)(
        unet=network, vae=autoencoder(scaling_factor=0.13025), text_encoder=clip_encoder(),
        text_encoder_2=clip_encoder(projected=True), tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(),
        scheduler=diffusers.DDIMScheduler(**NOISE), add_watermarker=False,
    )  # fmt: skip


def deepfloyd_if() -> Any:
    from diffusers import DDPMScheduler, IFPipeline

    network = unet(
        in_channels=3, out_channels=6, encoder_hid_dim=WIDTH, encoder_hid_dim_type="text_proj",
        addition_embed_type="text", addition_embed_type_num_heads=2, attention_head_dim=4,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=1.5,
        variance_type="learned_range",
    )  # fmt: skip
    return IFPipeline(
        unet=network, text_encoder=t5_encoder(), tokenizer=t5_tokenizer(), scheduler=scheduler, safety_checker=None,
        feature_extractor=None, watermarker=None, requires_safety_checker=False,
    )  # fmt: skip


def sd3(t5: bool = True) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    network: Any = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=3 * WIDTH, caption_projection_dim=32, pooled_projection_dim=2 * WIDTH, out_channels=4,
        pos_embed_max_size=8,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=network.eval(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_encoder(projected=True), tokenizer=clip_tokenizer(),
        text_encoder_2=clip_encoder(projected=True), tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_encoder(3 * WIDTH) if t5 else None, tokenizer_3=t5_tokenizer() if t5 else None,
    )  # fmt: skip


def flux(guidance: bool = True) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    network: Any = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, guidance_embeds=guidance, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return FluxPipeline(
        transformer=network.eval(), vae=autoencoder(scaling_factor=0.3611, shift_factor=0.1159),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        text_encoder=clip_encoder(), tokenizer=clip_tokenizer(),
        text_encoder_2=t5_encoder(), tokenizer_2=t5_tokenizer(),
    )  # fmt: skip


def pixart() -> Any:
    from diffusers import DDIMScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    network: Any = PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=WIDTH,
        in_channels=4, cross_attention_dim=24, out_channels=8, use_additional_conditions=False,
    )  # fmt: skip
    return PixArtSigmaPipeline(
        transformer=network.eval(), vae=autoencoder(scaling_factor=0.13025), text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(), scheduler=DDIMScheduler(**NOISE),
    )  # fmt: skip


MADE: dict[str, Callable[[], Any]] = {
    "sd": sd,
    "sd21": sd21,
    "inpainting": inpainting,
    "lcm": lcm,
    "sdxl": sdxl,
    "sdxl_inpainting": lambda: sdxl("StableDiffusionXLInpaintPipeline", in_channels=9),
    "deepfloyd_if": deepfloyd_if,
    "sd3": sd3,
    "sd3_without_t5": lambda: sd3(t5=False),
    "flux": flux,
    "flux_schnell": lambda: flux(guidance=False),
    "pixart": pixart,
}


def save(name: str, folder: Path) -> Path:
    """A pipeline of this name with random weights, the same for the same name, in a folder of diffusers' layout.

    Output layers that networks are born with at zero are given weights, too, or nothing would follow from their input.
    """
    torch.manual_seed(0)
    pipeline = MADE[name]()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for each in part.parameters():
                if not each.any():
                    torch.nn.init.normal_(each, std=0.1)
    pipeline.save_pretrained(folder / name, safe_serialization=True)
    return folder / name


def save_mvdream(folder: Path) -> Path:
    """MVDream as it is published: a pipeline of Stable Diffusion, by its own name, and what embeds cameras."""
    from safetensors.torch import save_file

    model = save("sd", folder)
    index = json.loads((model / "model_index.json").read_text())
    index |= {"_class_name": "MVDreamPipeline", "camera_proj": ["mvdream.camera_proj", "CameraMatrixEmbedding"]}
    (model / "model_index.json").write_text(json.dumps(index))
    (model / "camera_proj").mkdir()
    wide = 32
    layers = {"linear_1": torch.nn.Linear(16, wide), "linear_2": torch.nn.Linear(wide, wide)}
    tensors = {f"{name}.{kind}": each for name, layer in layers.items() for kind, each in layer.state_dict().items()}
    save_file(tensors, model / "camera_proj" / "diffusion_pytorch_model.safetensors")
    settings = {"_class_name": "CameraMatrixEmbedding", "in_channels": 16, "camera_embed_dim": wide}
    (model / "camera_proj" / "config.json").write_text(json.dumps(settings))
    return model.rename(folder / "mvdream")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def widen(path: Path) -> None:
    """Weights of a larger layer."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    wider = {"linear_2.weight": torch.zeros(64, 32), "linear_2.bias": torch.zeros(64)}
    save_file({**tensors, **wider}, path)


def save_adapter(model: Path, folder: Path) -> Path:
    """An IP-Adapter of a model of Stable Diffusion, random, with its image encoder."""
    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(1)
    width, tokens, network = 16, 4, UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=24, patch_size=8,
        projection_dim=width,
    )  # fmt: skip
    CLIPVisionModelWithProjection(vision).eval().save_pretrained(folder / "image_encoder")
    tensors = {
        "image_proj.proj.weight": torch.randn(tokens * WIDTH, width) / 4,
        "image_proj.proj.bias": torch.randn(tokens * WIDTH) / 4,
        "image_proj.norm.weight": torch.ones(WIDTH),
        "image_proj.norm.bias": torch.zeros(WIDTH),
    }
    for number, name in enumerate(network.attn_processors):
        if "attn2" in name:
            inner = network.get_submodule(name.removesuffix(".processor")).to_k.out_features
            for part in ("k", "v"):
                tensors[f"ip_adapter.{number}.to_{part}_ip.weight"] = torch.randn(inner, WIDTH) / 4
    save_file(tensors, folder / "ip-adapter.safetensors")
    return folder
