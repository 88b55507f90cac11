"""Rules about the code: it imports, layers point one way, files stay small, docs are true."""

import ast
import functools
import graphlib
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from realisdance_jax.sample import make_parser

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "realisdance_jax"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OTHERS = sorted(p for d in ("benchmarks", "configs") for p in (ROOT / d).rglob("*.py"))
PARITY = ROOT / "docs" / "parity.md"

LAYERS = (
    {"shapes"},
    {"utils"},
    {"parallel", "diffusion", "poses", "metrics"},
    {"data", "models"},
    {"checkpoints"},
    {"sampling", "training", "preparing"},
    {"checks", "evaluation", "planning"},
)
"""A file imports its own folder and lower rows only; entry points stand above and apart."""

ONLY_IN = {"diffusers": {PACKAGE / "models" / "vae.py"}}
LIVE_COMPARISONS = {"torch", "transformers", "smplx"}
WITHOUT = {"data": {"jax", "flax"}, "poses": {"jax", "flax"}, "diffusion": {"flax"}}
ARRAY_CODE = {PACKAGE / "poses" / "lbs.py"}
"""Skinning runs on the accelerator; the painters beside it run in loader processes."""

FORWARDED = {PACKAGE / "utils" / "cli.py"}
"""Keyword arguments go on to argparse, which refuses unknown ones."""


def name_of(path: Path) -> str:
    """`realisdance_jax/models/unet.py` -> `realisdance_jax.models.unet`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(node: ast.AST) -> Iterator[str]:
    """Dotted names imported anywhere inside `node`; of `from a import b` both `a` and `a.b`."""
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            yield from (alias.name for alias in part.names)
        elif isinstance(part, ast.ImportFrom):
            assert part.level == 0, "relative import"
            yield str(part.module)
            yield from (f"{part.module}.{alias.name}" for alias in part.names)


def folder_and_row(module: str) -> tuple[str, int]:
    """The part of the package that `module` belongs to, and its row in `LAYERS`."""
    part = module.split(".")[1] if "." in module else "shapes"  # the package itself: a version
    rows = [row for row, names in enumerate(LAYERS) if part in names]
    return part, rows[0] if rows else len(LAYERS)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_imports_and_says_what_it_is(path):
    module = importlib.import_module(name_of(path))
    if path.name == "__init__.py":
        assert path.parent == PACKAGE or not path.read_text("utf-8"), "expected an empty __init__"
    else:
        assert module.__doc__, "expected a docstring"


def test_layers_point_one_way():
    wrong = []
    for path in SOURCES:
        folder, row = folder_and_row(name_of(path))
        for imported in set(imports(tree_of(path))):
            if not f"{imported}.".startswith("realisdance_jax."):
                continue
            other, lower = folder_and_row(imported)
            if other != folder and lower >= row:
                wrong.append(f"{name_of(path)} imports {imported}")
    assert not wrong


def test_imports_have_no_cycle():
    known = {name_of(path) for path in SOURCES}
    graph = {
        name_of(path): {name for name in imports(tree_of(path)) if name in known}
        for path in SOURCES
        if path.name != "__init__.py"
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_foreign_libraries_stay_where_they_belong():
    wrong = []
    for path in (*SOURCES, *TESTS, *OTHERS):
        used = {name.split(".")[0] for name in imports(tree_of(path))}
        part = path.relative_to(PACKAGE).parts[0] if path.is_relative_to(PACKAGE) else ""
        live = path.is_relative_to(ROOT / "tests" / "cross")
        refused = set() if live else LIVE_COMPARISONS
        refused = refused | (set() if path in ARRAY_CODE else WITHOUT.get(part, set()))
        if not live:
            refused |= {library for library, places in ONLY_IN.items() if path not in places}
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in used & refused]
    assert not wrong


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_files_and_functions_are_small():
    long = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for path in (*SOURCES, *TESTS, *OTHERS)
        if (count := len(path.read_text("utf-8").splitlines())) > 400
    ]
    long += [
        f"{path.relative_to(ROOT)}: {node.name}: {count} lines"
        for path in (*SOURCES, *TESTS, *OTHERS)
        for node in functions(path)
        if node.name not in ("main", "get_config")
        and (count := (node.end_lineno or 0) - node.lineno + 1) > 100
    ]
    assert not long


def test_nothing_is_left_undone():
    """No file but this one, which has to name them, holds a mark of unfinished work."""
    marks = re.compile(r"\b(TODO|FIXME|XXX|(raise|return) NotImplemented(Error)?)\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in (*SOURCES, *TESTS, *OTHERS)
        if path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if marks.search(line)
    ]
    assert not found


def test_public_functions_swallow_no_keywords():
    """A misspelt option must fail, not vanish in a catch-all."""
    wrong = [
        f"{path.relative_to(ROOT)}: {node.name}(**{node.args.kwarg.arg})"
        for path in SOURCES
        if path not in FORWARDED
        for node in functions(path)
        if node.args.kwarg and (not node.name.startswith("_") or node.name.endswith("__"))
    ]
    assert not wrong


@functools.cache
def parity_entries() -> set[str]:
    """Labels of the entries of docs/parity.md: the part of a heading before the colon."""
    headings = re.findall(r"^### ([^:\n]+):", PARITY.read_text("utf-8"), re.MULTILINE)
    assert len(headings) == len(set(headings))
    return set(headings)


def test_parity_references_resolve():
    """`parity.md: LABEL` in full, and a bare H-number, as comments and docstrings cite them."""
    missing = []
    for path in (*SOURCES, *TESTS):
        if path == Path(__file__):
            continue
        text = path.read_text("utf-8")
        labels = set(re.findall(r"parity\.md: ([^).,;:\n`\"]+)", text))
        labels |= set(re.findall(r"\bH\d{1,2}[a-z]?\b", text))
        missing += [f"{path.relative_to(ROOT)}: {label}" for label in labels - parity_entries()]
    assert not missing


def test_parity_names_files_and_tests_that_exist():
    text = PARITY.read_text("utf-8")
    cited = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", text)
    assert len(cited) > 50
    wrong = []
    for file, function in cited:
        path = ROOT / file if file.startswith("tests/") else PACKAGE / file
        if not path.is_file():
            wrong.append(f"{file}: no such file")
        elif function and function not in {node.name for node in functions(path)}:
            wrong.append(f"{file}: no function {function}")
    assert not wrong


def test_every_parity_entry_names_a_test():
    entries = re.split(r"^### ", PARITY.read_text("utf-8"), flags=re.MULTILINE)[1:]
    guards = {entry.split(":")[0]: entry.partition("**Guard.**")[2] for entry in entries}
    assert len(guards) > 30
    assert not [label for label, guard in guards.items() if "::test_" not in guard]


def test_every_folder_has_a_readme_and_the_front_page_is_short():
    folders = {path.parent for path in SOURCES} - {PACKAGE}
    assert not [str(f.relative_to(ROOT)) for f in folders if not (f / "README.md").is_file()]
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_the_page_of_sample_lists_the_options_there_are():
    """The table of `sample`, option by option; `--no-x` belongs to `--x`."""
    page = (ROOT / "docs" / "sampling.md").read_text("utf-8")
    table = page.split("## Options of `sample`")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `--")]
    named = [option for row in rows for option in re.findall(r"--[\w-]+", row)]
    options = {
        name
        for action in make_parser()._actions
        for name in action.option_strings
        if name.startswith("--") and name != "--help"
    }
    assert sorted(named) == sorted(options)


def test_other_pages_list_the_options_there_are():
    """Of `prepare poses` and of `train`."""
    poses = (ROOT / "docs" / "poses.md").read_text("utf-8")
    help_text = subprocess.run(
        [sys.executable, "-m", "realisdance_jax.prepare", "poses", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout
    options = set(re.findall(r"^  (--[\w-]+)", help_text, re.MULTILINE))
    assert len(options) > 20
    assert not options - set(re.findall(r"--[\w-]+", poses))
    source = (PACKAGE / "train.py").read_text("utf-8")
    flags = {f"--{name}" for name in re.findall(r'DEFINE_\w+\(\s*"([\w-]+)"', source)}
    training = (ROOT / "docs" / "training.md").read_text("utf-8")
    assert len(flags) > 7
    assert not flags - set(re.findall(r"--[\w-]+", training))
