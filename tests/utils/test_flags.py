"""Command lines of the programs that read a configuration file."""

import sys
from pathlib import Path

import pytest
from absl import flags

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.flags import config_flag, parse_flags
from tests.refusals import refusal

CONFIG = str(Path(__file__).parents[2] / "configs" / "stage2.py")


def parsed(monkeypatch, *words: str):
    values = flags.FlagValues()
    holder = config_flag(values)
    flags.DEFINE_integer("number", 3, "how many", flag_values=values)
    monkeypatch.setattr(sys, "argv", ["program", *words])
    parse_flags(values, "What it does.")
    return holder.value


@pytest.mark.parametrize("override", [(), ("--config.optim.lr=1e-3",)])
def test_a_missing_configuration(monkeypatch, override):
    """With and without an override, without which the file is read late."""
    expected = "--config: expected a configuration in Python, found: .*nowhere.py"
    with pytest.raises(UserError, match=expected) as raised:
        parsed(monkeypatch, "--config", "nowhere.py", *override)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--config.optim.lrr=1", "--config.optim: unknown key 'lrr'; did you mean 'lr'? (keys: "),
        ("--config.optim.learning_rate=1", "--config.optim: unknown key 'learning_rate' (keys: "),
        ("--config.optin.lr=1", "--config: unknown key 'optin'; did you mean 'optim'? (keys: "),
        ("--config.seed.x=1", "--config.seed: unknown key 'x'"),
    ],
)
@pytest.mark.parametrize("variant", ["", ":smoke"])
def test_an_unknown_key(monkeypatch, word, expected, variant):
    for call in (("--config", CONFIG + variant, word), (f"--config={CONFIG}{variant}", word)):
        with pytest.raises(UserError) as raised:
            parsed(monkeypatch, *call)
        assert str(raised.value).startswith(expected)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("--config.optim.lr=fast", "fast"),
        ("--config.data.batch=2.5", "2.5"),
        ("--config.data.shuffle=perhaps", "perhaps"),
    ],
)
def test_a_wrong_type(monkeypatch, word, value):
    """One line that names the value, and no traceback."""
    line = refusal(parsed, monkeypatch, "--config", CONFIG, word)
    assert line.startswith(f"flag {word}: ")
    assert value in line


def test_overrides_arrive(monkeypatch):
    assert parsed(monkeypatch, "--config", CONFIG, "--config.optim.lr=0.25").optim.lr == 0.25


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help(monkeypatch, capsys, word):
    """With a configuration, its keys as well."""
    for config, expected in (((), "with --config FILE"), (("--config", CONFIG), "  optim.lr = ")):
        with pytest.raises(SystemExit) as ended:
            parsed(monkeypatch, *config, word)
        assert ended.value.code == 0
        out = capsys.readouterr().out
        assert out.startswith("What it does.")
        assert "--number: how many (default: 3)" in out
        assert expected in out
