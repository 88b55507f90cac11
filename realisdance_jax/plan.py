"""Will it run on my hardware? `python -m realisdance_jax.plan --config C --topology v5e:4x4`.

Compiles the whole train step (or, with --sample, the sampler's step) with the real compiler of a
TPU or GPU that need not be there. Answers are kept by configuration and code, so that asking again
is free.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from absl import flags

import realisdance_jax
from realisdance_jax.planning.programs import Planned, sample_program, train_program
from realisdance_jax.planning.report import compiled_figures, markdown, quick_figures
from realisdance_jax.planning.topology import Topology, parse_topology, prepare_compilers
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.utils.compilation import cache_folder
from realisdance_jax.utils.errors import UserError, exit_on_user_error
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.flags import config_flag, parse_flags

FLAGS = flags.FlagValues()
CONFIG = config_flag(FLAGS)
TOPOLOGY = flags.DEFINE_string(
    "topology", None, "v5e:4x4, v5p:2x2x1, h100:8, ... or cpu:8", flag_values=FLAGS
)
SAMPLE = flags.DEFINE_bool(
    "sample", False, "the sampler's step instead of the train step", flag_values=FLAGS
)
CACHED = flags.DEFINE_bool(
    "cached", False, "train from cached latents instead of pictures", flag_values=FLAGS
)
QUICK = flags.DEFINE_bool(
    "quick", False, "exact argument bytes only; needs no compiler", flag_values=FLAGS
)
JSON = flags.DEFINE_string("json", None, "write the answer here", flag_values=FLAGS)
MARKDOWN = flags.DEFINE_string(
    "markdown", None, "append the answer to this Markdown file", flag_values=FLAGS
)
FRESH = flags.DEFINE_bool("fresh", False, "compile even if the answer is known", flag_values=FLAGS)


def answer_for(config: dict, recipe: Recipe, topology: Topology) -> dict[str, Any]:
    """The answer as JSON values, from the cache if it is there."""
    what = "sample" if SAMPLE.value else "cached" if CACHED.value else "train"
    compared = {key: value for key, value in config.items() if key not in ("seed", "stage")}
    key = json.dumps([compared, topology.name, what, QUICK.value, topology.compiler])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    sources = source_hash()
    stored = cache_folder("plan") / f"{digest}-{sources}.json"
    if stored.is_file() and not FRESH.value:
        return json.loads(stored.read_text("utf-8"))
    planned = _planned(recipe, topology)
    train = recipe.train
    answer: dict[str, Any] = {
        "topology": topology.name,
        "compiler": topology.compiler,
        "config_hash": digest,
        "package": f"realisdance_jax {realisdance_jax.__version__} (sources {sources})",
        "command": " ".join(["python -m realisdance_jax.plan", *_words()]),
        "settings": f"{train.dtype}, attention {train.attention}, remat {train.remat}",
        **quick_figures(planned),
    }
    if not QUICK.value:
        print(f"compiling: {planned.name} for {topology.name}", file=sys.stderr, flush=True)
        answer |= compiled_figures(planned, topology)
    with atomic_output(stored) as partial:
        partial.write_text(json.dumps(answer, indent=1) + "\n", "utf-8")
    return answer


def source_hash(folder: Path = Path(realisdance_jax.__file__).parent) -> str:
    """Short hash of all Python files below `folder`: an answer is only of the code it was made by.

    Versions do not suffice, since a checkout changes between them.
    """
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def _words() -> list[str]:
    """The call without what only says where to write."""
    kept, skip = [], False
    for word in sys.argv[1:]:
        if not skip and not word.startswith(("--json", "--markdown", "--fresh")):
            kept.append(word)
        skip = word in ("--json", "--markdown")
    return kept


def _planned(recipe: Recipe, topology: Topology) -> Planned:
    if SAMPLE.value:
        return sample_program(recipe, topology.devices, recipe.data.frames)
    return train_program(recipe, topology.devices, CACHED.value)


def main() -> None:
    parse_flags(FLAGS, __doc__)
    if CONFIG.value is None or TOPOLOGY.value is None:
        raise UserError("expected --config FILE and --topology KIND:SHAPE")
    if SAMPLE.value and CACHED.value:
        raise UserError("--cached: expected without --sample, which reads no training data")
    prepare_compilers()
    recipe = Recipe.of(CONFIG.value)
    topology = parse_topology(TOPOLOGY.value, QUICK.value)
    config = json.loads(CONFIG.value.to_json_best_effort())
    answer = answer_for(config, recipe, topology)
    text = markdown(answer)
    print(text)
    if JSON.value:
        with atomic_output(JSON.value) as partial:
            partial.write_text(json.dumps(answer, indent=1) + "\n", "utf-8")
    if MARKDOWN.value:
        with Path(MARKDOWN.value).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    sys.exit(0 if answer.get("fits") is not False else 1)


if __name__ == "__main__":
    exit_on_user_error(main)
