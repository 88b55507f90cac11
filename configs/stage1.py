"""Image stage: everything trains but DINOv2, the VAE and parameters without a gradient.

Command:   python -m realisdance_jax.train --config configs/stage1.py --workdir runs/x --init DIR
Hardware:  8 x H100 80 GB by its compiler, batch 40: benchmarks/results/plan.md. Time not measured.
Expect:    full size not measured; what `:smoke` learns is in benchmarks/results/learning.json.
Variants:  stage1.py:released (the authors' rates), stage1.py:smoke (a laptop, a minute),
           stage1.py:dancer (a small model of the dancer world); ablations no_gate, no_hamer,
           no_pose_motion, no_shuffle. They combine: stage1.py:dancer,no_gate.
"""

from ml_collections import ConfigDict

from realisdance_jax.config import apply_variants, base_config


def get_config(argument: str = "") -> ConfigDict:
    return apply_variants(base_config(1), argument)
