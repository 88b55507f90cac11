"""A training run on disk: configuration, starting weights once, and checkpoints of what changes.

RUN/run.json         the resolved configuration
RUN/base/            weights folder the run started from; frozen parameters live here only
RUN/checkpoints/N/   Orbax: state (trainable parameters, optimizer, EMA, counters) and facts
RUN/weights/N/       weights folder of step N, made when `sample` or `convert` first asks for it
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output

CONFIG, BASE, CHECKPOINTS, WEIGHTS = "run.json", "base", "checkpoints", "weights"
FORMAT = 1
"""Of the checkpoints; another one is refused."""

FREE_KEYS = (
    *("mesh", "train.workers", "train.steps", "train.save_every", "train.keep"),
    *("train.log_every", "train.remat", "train.attention"),
    *("train.preview_every", "train.preview_steps"),
)
"""Configuration that may differ on resuming; anything else needs --allow-config-change."""

ADDED_KEYS = {"loss.least_timestep": 0}
"""Keys that older runs lack, with the value they ran with."""


def is_run(path: Path) -> bool:
    """Whether `path` is the folder of a training run."""
    return (path / CONFIG).is_file() and (path / BASE).is_dir()


def flat_config(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested configuration as {dotted key: JSON value}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flat_config(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.loads(json.dumps(value))
    return flat


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines `key: old -> new` for what differs and is not free."""
    before, after = ADDED_KEYS | flat_config(old), ADDED_KEYS | flat_config(new)
    changed = [key for key in sorted(before | after) if before.get(key) != after.get(key)]
    held = [k for k in changed if not any(k == f or k.startswith(f"{f}.") for f in FREE_KEYS)]
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in held]


def check_config(run: Path, config: Mapping[str, Any], allow_change: bool) -> None:
    """Compare with the configuration of the run, if it has begun.

    Raises `UserError` for another stage, and with the differences unless `allow_change`.
    """
    path = run / CONFIG
    if is_run(run):
        try:
            stored = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: expected JSON, found {error}") from None
        stages = stored.get("stage"), config.get("stage")
        if stages[0] != stages[1]:
            raise UserError(
                f"{run}: expected the run's own stage, {stages[0]}, found stage {stages[1]}; take "
                "another --workdir, and this run as its --init"
            )
        changes = config_changes(stored, config)
        if changes and not allow_change:
            listed = "; ".join(changes)
            raise UserError(
                f"{run}: expected the run's own configuration, found {listed} "
                "(--allow-config-change accepts it)"
            )


def store_config(run: Path, config: Mapping[str, Any]) -> None:
    """Write the run's configuration."""
    with atomic_output(run / CONFIG) as partial:
        partial.write_text(json.dumps(config, indent=1) + "\n", "utf-8")


class RunCheckpoints:
    """Asynchronous, preemption-aware saves; restores onto any mesh.

    A save that a kill interrupts leaves the last complete step intact.
    """

    def __init__(self, run: Path, save_every: int, keep: int):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self.save_every = save_every
        self.path = run / CHECKPOINTS
        try:
            self.manager = ocp.CheckpointManager(self.path.absolute(), options=options)
        except OSError as error:
            raise UserError(f"{self.path}: cannot write there ({error.strerror})") from None

    @property
    def latest(self) -> int | None:
        """Last complete step, None before the first."""
        return self.manager.latest_step()

    def due(self, step: int) -> bool:
        """Whether `step` is to be saved."""
        return step % self.save_every == 0

    def save(self, step: int, state: Any, facts: Mapping[str, Any]) -> None:
        """Start saving `state` and JSON `facts` (seed, data fingerprint, ...) as `step`.

        Raises `UserError` when the disk refuses; the last checkpoint stays.
        """
        if step == self.latest:
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            facts=ocp.args.JsonSave({"format": FORMAT, **facts}),
        )
        self._writing(lambda: self.manager.save(step, args=items))

    def restore(self, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        """Latest state, placed as the shapes and shardings of `abstract_state` say, and facts."""
        facts = self._facts()
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        try:
            restored = self.manager.restore(self.latest, args=items)
        except Exception as error:
            # Orbax wraps what TensorStore says in a bare Exception.
            if type(error) is Exception or isinstance(error, ValueError | KeyError | OSError):
                raise self._unreadable(error) from None
            raise
        return restored["state"], facts

    def _facts(self) -> dict[str, Any]:
        items = ocp.args.Composite(facts=ocp.args.JsonRestore())
        try:
            facts = self.manager.restore(self.latest, args=items)["facts"]
        except (ValueError, KeyError, OSError) as error:
            raise self._unreadable(error) from None
        if facts.get("format") != FORMAT:
            found = facts.get("format")
            raise UserError(f"{self.path}: expected checkpoints of format {FORMAT}, found {found}")
        return facts

    def preempted(self, step: int) -> bool:
        """Whether the scheduler asked to stop; call at every step on every host."""
        return self.manager.reached_preemption(step)

    def finish(self) -> None:
        """Wait for pending saves. Raises `UserError` when one could not be written."""
        self._writing(self.manager.wait_until_finished)

    def close(self) -> None:
        """`finish` and release the manager."""
        self.finish()
        self.manager.close()

    def _writing(self, do: Any) -> None:
        try:
            do()
        except Exception as error:
            if type(error) is Exception or isinstance(error, OSError | ValueError):
                raise self._unwritable(error) from None
            raise

    def _unreadable(self, error: Exception) -> UserError:
        reason = " ".join(str(error).split())[:200]
        before = [step for step in self.manager.all_steps() if step != self.latest]
        hint = f" (without it the run goes on from step {max(before)})" if before else ""
        return UserError(
            f"{self.path / str(self.latest)}: expected a checkpoint of this configuration, "
            f"found {reason}{hint}"
        )

    def _unwritable(self, error: Exception) -> UserError:
        kept = "no step" if self.latest is None else f"step {self.latest}"
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        return UserError(f"{self.path}: cannot save ({reason}); {kept} is intact")
