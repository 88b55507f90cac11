"""Names in older and single-file checkpoints of the tensors that diffusers names today.

Every map is {name in diffusers: name in the file}; the topology is read off the diffusers names.
"""

import re
from collections.abc import Iterable, Mapping

LDM_UNET_PREFIX = "model.diffusion_model."
LDM_VAE_PREFIX = "first_stage_model."

_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def ldm_unet_names(names: Iterable[str], prefix: str = LDM_UNET_PREFIX) -> dict[str, str]:
    """UNet2DConditionModel names -> names in a single-file Stable Diffusion 1.x checkpoint.

    Raises `ValueError` for a name that is none of that UNet.
    """
    names = list(names)
    layers = _count(names, r"down_blocks\.0\.resnets\.(\d+)\.")
    attended = {
        match[1] for name in names if (match := re.match(r"(\w+\.\d+)\.attentions\.", name))
    }
    return {name: prefix + _ldm_unet_name(name, layers, attended) for name in names}


def _ldm_unet_name(name: str, layers: int, attended: set[str]) -> str:
    stem, leaf = name.rsplit(".", 1)
    if stem in _UNET_ENDS:
        return f"{_UNET_ENDS[stem]}.{leaf}"
    block, kind, index, rest = _parts(name)
    if block == "mid_block":
        place = f"middle_block.{1 if kind == 'attentions' else 2 * index}"
    elif block.startswith("down"):
        level = int(block.split(".")[1])
        # conv_in comes first, and every level but the last ends with a downsampler.
        layer = layers if kind == "downsamplers" else index
        place = f"input_blocks.{1 + level * (layers + 1) + layer}.{int(kind == 'attentions')}"
    else:
        level = int(block.split(".")[1])
        # One layer more than below; the upsampler is the last part of the level's last layer.
        layer = layers if kind == "upsamplers" else index
        part = {"resnets": 0, "attentions": 1, "upsamplers": 1 + (block in attended)}[kind]
        place = f"output_blocks.{level * (layers + 1) + layer}.{part}"
    if kind == "resnets":
        rest = _renamed(rest, _UNET_RESNET)
    elif kind == "downsamplers":
        rest = rest.replace("conv.", "op.")
    return f"{place}.{rest}"


def _parts(name: str) -> tuple[str, str, int, str]:
    """'up_blocks.1.resnets.0.conv1.weight' -> ('up_blocks.1', 'resnets', 0, 'conv1.weight')."""
    kinds = "resnets|attentions|downsamplers|upsamplers"
    match = re.fullmatch(rf"((?:down|up)_blocks\.\d+|mid_block)\.({kinds})\.(\d+)\.(.+)", name)
    if match is None:
        raise ValueError(f"{name}: not a name of the Stable Diffusion 1.x layout")
    return match[1], match[2], int(match[3]), match[4]


def _renamed(rest: str, table: Mapping[str, str]) -> str:
    stem, leaf = rest.rsplit(".", 1)
    return f"{table.get(stem, stem)}.{leaf}"


def _count(names: Iterable[str], pattern: str) -> int:
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def ldm_vae_names(names: Iterable[str], prefix: str = LDM_VAE_PREFIX) -> dict[str, str]:
    """AutoencoderKL names -> names in a single-file checkpoint (`prefix` "" for a VAE's own file).

    The weights of `ldm_vae_convolutions` are 1x1 convolutions there. Raises `ValueError` for a name
    that is none of that autoencoder.
    """
    names = list(names)
    levels = _count(names, r"decoder\.up_blocks\.(\d+)\.")
    return {name: prefix + _ldm_vae_name(name, levels) for name in names}


def _ldm_vae_name(name: str, levels: int) -> str:
    half, rest = name.split(".", 1)
    if half in ("quant_conv", "post_quant_conv"):
        return name
    if rest.startswith("conv_"):
        return f"{half}.{rest.replace('conv_norm_out', 'norm_out')}"
    block, kind, index, rest = _parts(rest)
    if kind == "attentions":
        return f"{half}.mid.attn_1.{_renamed(rest, _VAE_ATTENTION)}"
    rest = rest.replace("conv_shortcut", "nin_shortcut")
    if block == "mid_block":
        return f"{half}.mid.block_{index + 1}.{rest}"
    level = int(block.split(".")[1])
    # The file counts the decoder's levels from the pixels.
    place = f"down.{level}" if block.startswith("down") else f"up.{levels - 1 - level}"
    part = {"resnets": f"block.{index}", "downsamplers": "downsample", "upsamplers": "upsample"}
    return f"{half}.{place}.{part[kind]}.{rest}"


def ldm_vae_convolutions(names: Iterable[str]) -> frozenset[str]:
    """AutoencoderKL names whose (out, in) weight is (out, in, 1, 1) in a single-file checkpoint."""
    pattern = r".*\.attentions\.\d+\.to_(q|k|v|out\.0)\.weight"
    return frozenset(name for name in names if re.fullmatch(pattern, name))


def legacy_vae_names(names: Iterable[str]) -> dict[str, str]:
    """AutoencoderKL names -> names of the mid attention before diffusers 0.18 (parity.md: H22)."""

    def old(name: str) -> str:
        head, found, rest = name.partition(".attentions.0.")
        return head + found + _renamed(rest, _OLD_ATTENTION) if found else name

    return {name: old(name) for name in names}


_SCHEDULE = (
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod"),
    *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod"),
    *("sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance"),
    *("posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    *("lvlb_weights", "logvar", "scale_factor"),
)


def single_file_ignored(key: str) -> bool:
    """Whether a single-file checkpoint's tensor is neither of its UNet nor of its VAE by design:

    the text encoder, the averaged copy, the schedule's buffers and the VAE's training loss.
    """
    others = ("cond_stage_model.", "model_ema.", "first_stage_model.loss.", "loss.")
    return key.startswith(others) or key in _SCHEDULE


def _motion_module_names(place: str) -> tuple[str, ...]:
    block = "transformer_blocks.0."
    attention = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias")
    weighted = ("norm", "proj_in", "proj_out", f"{block}ff_norm", f"{block}ff.net.0.proj")
    weighted += (f"{block}ff.net.2", f"{block}norms.0", f"{block}norms.1")
    leaves = [f"{stem}.{leaf}" for stem in weighted for leaf in ("weight", "bias")]
    leaves += [
        f"{block}attention_blocks.{i}.{leaf}"
        for i in (0, 1)
        for leaf in (*attention, "pos_encoder.pe")
    ]
    return tuple(f"{place}.temporal_transformer.{leaf}" for leaf in leaves)


MM_V2_HOMELESS = _motion_module_names("mid_block.motion_modules.0")
"""The 28 tensors of AnimateDiff mm_v2 that no part of this model takes (parity.md: H11)."""
