"""Inputs made ready: `python -m realisdance_jax.prepare poses|dataset|convert-mano ...`.

`poses` turns estimators' files into the three conditions, `dataset` turns videos or pictures into
training data, `convert-mano` frees a hand model of its pickle.
"""

from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.errors import exit_on_user_error


def make_parser() -> Parser:
    """The command line; the chosen command is left in `run`."""
    # Here, for every process that paints imports this file again, and needs nothing of these.
    from realisdance_jax.preparing import dataset, mano, poses

    parser = Parser(prog="realisdance_jax.prepare", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (poses, dataset, mano):
        module.add_command(commands)
    return parser


def main() -> None:
    options = make_parser().parse_args()
    options.run(options)


if __name__ == "__main__":
    exit_on_user_error(main)
