"""Sources of the trained components on top of one another, later ones winning."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from realisdance_jax.checkpoints.convert import infer
from realisdance_jax.checkpoints.convert.components import Table, is_motion, without_prefix
from realisdance_jax.checkpoints.convert.engine import mismatches
from realisdance_jax.checkpoints.convert.sources import Source, Tensors
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.lazy import one_line, tensor_count, unexpected

Say = Callable[[str], None]


@dataclass(frozen=True)
class Layer:
    """One source of the trained components.

    places: the prefixes under which the model takes the tensors.
    motion: whether it must bring motion modules only (True), all but them (False) or all (None).
    """

    label: str
    source: Source
    places: tuple[str, ...]
    motion: bool | None

    def tensors(self) -> Tensors:
        """The tensors by official name."""
        items = self.source.tensors.items()
        return {f"{place}{name}": tensor for place in self.places for name, tensor in items}

    def problems(self, table: Table) -> list[str]:
        """What of the model's `table` the source fails to bring, by the source's names."""
        wanted = {
            name: leaf
            for name, leaf in without_prefix(table, self.places[0]).items()
            if self.motion in (None, is_motion(name))
        }
        return mismatches(wanted, self.source.tensors)


def merged(layers: list[Layer], say: Say) -> Tensors:
    """Later layers win; what they override is counted and said."""
    tensors: Tensors = {}
    for layer in layers:
        own = layer.tensors()
        overridden = len(tensors.keys() & own.keys())
        more = f", {overridden} override earlier ones" * bool(overridden)
        say(f"{layer.label}: {tensor_count(len(layer.source.tensors))}{more}")
        for note in layer.source.notes:
            say(f"{layer.label}: {note}")
        tensors |= own
    return tensors


def check(layers: list[Layer], widths: tuple[int, ...], tables: Mapping[str, Table]) -> None:
    """Raise `UserError` with all that does not fit in any of the files.

    widths: of the levels of the UNets.
    """
    table = {name: leaf for part in tables.values() for name, leaf in part.items()}
    complaints = []
    for layer in layers:
        if layer.motion:
            _check_motion_widths(layer.source, widths)
        if problems := layer.problems(table):
            complaints.append(complaint(layer.source.path, problems))
    if complaints:
        raise UserError("; ".join(complaints))


def _check_motion_widths(source: Source, widths: tuple[int, ...]) -> None:
    found = infer.motion_widths(source.shapes, len(widths))
    if any(ours not in (theirs, 0) for ours, theirs in zip(found, widths, strict=True)):
        expected = f"motion modules of widths {_listed(widths)}, as the UNets"
        raise unexpected(source.path, expected, _listed(found))


def _listed(widths: tuple[int, ...]) -> str:
    return ", ".join(map(str, widths))


def complaint(path: Path, problems: list[str]) -> str:
    """One line about a file whose tensors do not fit."""
    listed = one_line("; ".join(problems))
    return f"{path}: {tensor_count(len(problems))} not as expected: {listed}"
