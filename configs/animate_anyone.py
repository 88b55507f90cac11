"""The baseline of the paper's comparison, Animate Anyone: poses go another way, all else is equal.

Command:   python -m realisdance_jax.train --config configs/animate_anyone.py --workdir runs/x
           then animate_anyone.py:stage2 with --init runs/x
Hardware:  not measured.
Expect:    not measured.
Variants:  animate_anyone.py:stage1 (the default) or stage2, and released, dancer, smoke.
"""

from ml_collections import ConfigDict

from realisdance_jax.config import baseline_config


def get_config(argument: str = "") -> ConfigDict:
    return baseline_config(argument)
