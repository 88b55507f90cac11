"""What a clip's sampling makes once and uses again; all of it is exact."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caches:
    """Each may be turned off, to show that it changes nothing but the work.

    reference: K/V of the reference, once per clip; else its UNet runs for each batch of windows.
    pose: features of the pose pictures, once per frame; else for each batch of windows.
    guidance: from the pose features, once for both branches of guidance and, as long as there is
      room, once for all steps that have the window (or, where several devices share a batch of
      windows, the batch); else for each branch and step.
    context: K/V of the image tokens, once per clip; else for each branch and batch of windows.
    fold: what cross-attention gives where all unconditional tokens are alike, once per clip; else
      it is computed from as many tokens as the picture has.
    """

    reference: bool = True
    pose: bool = True
    guidance: bool = True
    context: bool = True
    fold: bool = True


ALL = Caches()
"""What the sampler does."""
