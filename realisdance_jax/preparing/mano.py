"""MANO's pickle to a plain .npz, once: `python -m realisdance_jax.prepare convert-mano ...`."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from realisdance_jax.poses.body_models import convert_mano


def add_command(commands: Any) -> None:
    """The options, as a command of `commands` (from `add_subparsers`)."""
    about = "copy what is needed of MANO_RIGHT.pkl to an .npz; nothing in the pickle is run"
    mano = commands.add_parser("convert-mano", help=about, description=about)
    mano.set_defaults(run=run)
    mano.add_argument("source", type=Path, help="MANO_RIGHT.pkl, from its own site and licence")
    mano.add_argument("--out", type=Path, required=True, help="file to write, .npz")


def run(options: Namespace) -> None:
    """Convert, then say so."""
    convert_mano(options.source, options.out)
    print(f"wrote {options.out}")
