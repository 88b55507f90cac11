"""Motion stage: only the motion modules of main UNet and pose guidance train, with pose shuffle.

Command:   python -m realisdance_jax.train --config configs/stage2.py --workdir runs/x --init DIR
Hardware:  8 x H100 80 GB by its compiler, batch 8: benchmarks/results/plan.md. Time not measured.
Expect:    full size not measured; what `:smoke` learns is in benchmarks/results/learning.json.
Variants:  stage2.py:released (the authors' rates), stage2.py:smoke (a laptop, a minute),
           stage2.py:dancer (a small model of the dancer world); ablations no_gate, no_hamer,
           no_pose_motion, no_shuffle. They combine: stage2.py:dancer,no_gate.
"""

from ml_collections import ConfigDict

from realisdance_jax.config import apply_variants, base_config


def get_config(argument: str = "") -> ConfigDict:
    return apply_variants(base_config(2), argument)
