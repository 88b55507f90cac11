"""Weights in and out of this project: `python -m realisdance_jax.convert COMMAND --help`."""

from pathlib import Path

import jax

from realisdance_jax.checkpoints.convert.inspect import describe
from realisdance_jax.checkpoints.convert.plan import Request
from realisdance_jax.checkpoints.convert.to_jax import convert_to_jax
from realisdance_jax.checkpoints.convert.to_torch import convert_to_torch
from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.errors import exit_on_user_error


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="realisdance_jax.convert", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    to_jax = commands.add_parser(
        "to-jax",
        help="PyTorch files -> weights folder",
        description="PyTorch files -> weights folder. Give --checkpoint or --base, or both: the "
        "checkpoint goes before --motion and that before --base, of which configuration, schedule "
        "and VAE are used in any case.",
    )
    for name, metavar, text in (
        ("--checkpoint", "FILE", "RealisDance stage 1 or 2, .ckpt or .safetensors"),
        ("--base", "PATH", "Stable Diffusion 1.5, diffusers folder or single file"),
        ("--vae", "PATH", "its autoencoder, folder or file (the base's if not given)"),
        ("--image-encoder", "PATH", "DINOv2-large, transformers folder or file"),
        ("--motion", "FILE", "AnimateDiff mm_v2.ckpt"),
    ):
        to_jax.add_argument(name, type=Path, metavar=metavar, help=text)
    to_jax.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="weights folder to write"
    )
    to_jax.add_argument("--seed", type=int, default=0, help="of newly initialised layers")
    to_torch = commands.add_parser("to-torch", help="weights folder -> official checkpoint")
    to_torch.add_argument(
        "--weights", type=Path, required=True, metavar="DIR", help="weights, or a training run"
    )
    to_torch.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=".ckpt or .safetensors to write"
    )
    to_torch.add_argument("--force", action="store_true", help="overwrite --out if it exists")
    inspect = commands.add_parser("inspect", help="say what a file or folder is")
    inspect.add_argument("path", type=Path, metavar="PATH")
    verify = "compare a weights folder's tensors with the hashes in its config.json"
    inspect.add_argument("--verify", action="store_true", help=verify)
    return parser


def main() -> None:
    options = make_parser().parse_args()
    # An accelerator would be of no use here, and other programs may hold it.
    jax.config.update("jax_platforms", "cpu")
    if options.command == "inspect":
        for line in describe(options.path, options.verify):
            print(line)
        return
    if options.command == "to-torch":
        count = convert_to_torch(weights_of(options.weights), options.out, options.force)
        print(f"wrote {options.out}: {count} tensors")
        return
    request = Request(
        options.checkpoint, options.base, options.vae, options.image_encoder, options.motion
    )
    manifest = convert_to_jax(request, options.out, options.seed)
    print(f"wrote {options.out}: hash {manifest.weight_hash}")


if __name__ == "__main__":
    exit_on_user_error(main)
