"""Parameters that no loss reaches: what the reference UNet computes behind its last used tokens."""

from realisdance_jax.models.config import RealisDanceConfig, UNetConfig
from realisdance_jax.utils.tree import NO_GRADIENT


def idle_patterns(config: UNetConfig) -> tuple[str, ...]:
    """Regular expressions over parameter paths (parity.md: no gradient).

    The tokens of the last transformer are taken behind its first norm; all that follows is idle.
    """
    levels = len(config.widths)
    with_attention = [i for i in range(levels) if config.attention_levels[levels - 1 - i]]
    # The middle block always has a transformer; without others its tokens are the last ones.
    block = f"up_blocks\\.{with_attention[-1]}" if with_attention else "mid_block"
    layer = config.layers_per_block if with_attention else 0
    root = r"^params/unet_ref"
    last = rf"{root}/{block}/attentions\.{layer}"
    later = range((with_attention[-1] if with_attention else -1) + 1, levels)
    patterns = [
        rf"{last}/proj_out/",
        rf"{last}/transformer_blocks\.0/(attn1|attn2|ff|norm2|norm3)/",
        rf"{root}/(conv_norm_out|conv_out)/",
        *(rf"{root}/up_blocks\.{i}/" for i in later),
    ]
    if not with_attention:
        patterns.append(rf"{root}/mid_block/resnets\.1/")
    elif later:
        patterns.append(rf"{root}/{block}/upsamplers\.0/")
    return tuple(patterns)


def expanded(
    table: tuple[tuple[str, str], ...], model: RealisDanceConfig
) -> tuple[tuple[str, str], ...]:
    """`train.trainable` with `NO_GRADIENT` replaced by the patterns of `model`."""
    rows: list[tuple[str, str]] = []
    for pattern, label in table:
        names = idle_patterns(model.unet) if pattern == NO_GRADIENT else (pattern,)
        rows += [(name, label) for name in names]
    return tuple(rows)
