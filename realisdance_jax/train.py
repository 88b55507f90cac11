"""Train a stage: `python -m realisdance_jax.train --config configs/stage2.py --workdir runs/x`.

The same call again resumes. Who gives the weights, the first that applies: the run's own last
checkpoint; the run's own base; `--init`, a weights folder; fresh networks.
"""

import json
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from realisdance_jax.checkpoints.run import BASE, RunCheckpoints, abstract_like, check_config
from realisdance_jax.checkpoints.weights import is_weights_folder, read_manifest
from realisdance_jax.data.catalogue import dataset_fingerprint
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.pipeline import make_batches
from realisdance_jax.training.base import write_base
from realisdance_jax.training.loop import LoopConfig, train
from realisdance_jax.training.setup import Recipe, place, zero_tokens
from realisdance_jax.training.writer import RunWriter
from realisdance_jax.utils.distributed import start_distributed
from realisdance_jax.utils.errors import UserError, exit_on_user_error
from realisdance_jax.utils.records import from_json

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/stage1.py or stage2.py[:variant]")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
INIT = flags.DEFINE_string("init", None, "weights folder to start from")
ALLOW_CHANGE = flags.DEFINE_bool("allow_config_change", False, "resume with another configuration")
PREEMPT_EXIT_CODE = flags.DEFINE_integer("preempt_exit_code", 0, "exit code after a preemption")
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, to start by hand")
PROCESSES = flags.DEFINE_integer("processes", 1, "number of processes, with --coordinator")
PROCESS = flags.DEFINE_integer("process", 0, "number of this process, with --coordinator")


def run() -> int:
    """Train as the flags say; returns the exit code."""
    config, workdir = CONFIG.value, WORKDIR.value
    if config is None or workdir is None:
        raise UserError("expected --config FILE and --workdir FOLDER")
    start_distributed(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    recipe, folder = Recipe.of(config), Path(workdir)
    data = from_json(DataConfig, config.data.to_dict(), "config.data")
    fingerprint = dataset_fingerprint(data)
    folder.mkdir(parents=True, exist_ok=True)
    resolved = json.loads(config.to_json_best_effort())
    check_config(folder, resolved, ALLOW_CHANGE.value)
    base = folder / BASE
    if not is_weights_folder(base):
        write_base(base, recipe, Path(INIT.value) if INIT.value else None, config.seed)
    manifest = read_manifest(base)
    placed = place(config, base, manifest)
    checkpoints = RunCheckpoints(folder, config.train.save_every, config.train.keep)
    if checkpoints.latest is not None:
        state, facts = checkpoints.restore(abstract_like(placed.state._asdict()))
        if facts["data"] != fingerprint and not ALLOW_CHANGE.value:
            raise UserError(f"{folder}: expected dataset {facts['data']}, found {fingerprint}")
        placed = placed.with_state(state)
        print(f"resumed at step {checkpoints.latest}", flush=True)
    batches = make_batches(
        data,
        seed=config.seed,
        start_step=int(placed.state.step),
        host=jax.process_index(),
        host_count=jax.process_count(),
        workers=config.train.workers,
    )
    facts = {"seed": config.seed, "data": fingerprint, "weights": manifest.weight_hash}
    writer = RunWriter(folder, config.train.steps, jax.process_index() == 0)
    outcome = train(
        placed,
        iter(batches),
        checkpoints,
        lambda: facts,
        LoopConfig(config.train.steps, config.train.log_every),
        writer,
        zero_tokens(placed, recipe, data),
    )
    checkpoints.close()
    writer.close()
    print(f"stopped at step {outcome.step}" + (": preempted" if outcome.preempted else ""))
    return PREEMPT_EXIT_CODE.value if outcome.preempted else 0


def main() -> None:
    try:
        flags.FLAGS(sys.argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from None
    sys.exit(run())


if __name__ == "__main__":
    exit_on_user_error(main)
