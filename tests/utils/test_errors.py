"""How programs end: by an error of the user's, by Ctrl-C, by a signal."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from realisdance_jax.utils.errors import UserError, exit_on_user_error

WAITER = """
import os, sys, time
from realisdance_jax.utils.errors import exit_on_user_error

def main():
    try:
        print("ready", flush=True)
        for _ in range(600):
            time.sleep(0.1)  # naps: a signal just before a sleep is heard after it
    finally:
        print("cleaned up", flush=True)

exit_on_user_error(main{options})
"""
TWICE = WAITER.replace("    finally:\n", "    finally:\n        os.kill(os.getpid(), 1)\n")

DEAF = """
import os, signal, time
from realisdance_jax.utils import errors

errors._QUIET_SECONDS = 0.05

class Deaf:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def main():
    Deaf()
    time.sleep(0.1)
    print("ready", flush=True)
    for _ in range(600):
        time.sleep(0.1)

errors.exit_on_user_error(main{options})
"""


def ended(
    number: int, options: str = "", *before: str, source: str = WAITER
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a program that a signal meets at work."""
    words = [*before, sys.executable, "-c", source.format(options=options)]
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        if before:  # the signal is to be without effect
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.terminate()
        out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_lets_a_program_clean_up(number, code):
    assert ended(number) == (code, "cleaned up\n", "interrupted\n")


def test_a_program_may_keep_its_own_way_of_being_preempted():
    assert ended(signal.SIGTERM, ", stop_on_signals=False") == (-signal.SIGTERM, "", "")


def test_nohup_still_works():
    code, out, _ = ended(signal.SIGHUP, "", "nohup")
    assert (code, out) == (143, "cleaned up\n")


def test_signals_are_as_before_afterwards():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    during = []
    exit_on_user_error(lambda: during.append(signal.getsignal(signal.SIGTERM)))
    assert during[0] not in (signal.SIG_DFL, *before)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_a_second_signal_does_not_disturb_cleaning_up():
    assert ended(signal.SIGTERM, source=TWICE) == (143, "cleaned up\n", "interrupted\n")


def test_a_signal_lost_in_a_destructor_does_not_make_deaf():
    code, _, err = ended(signal.SIGTERM, source=DEAF)
    assert code == 143
    assert "Exception ignored in" in err  # the first one
    assert err.endswith("interrupted\n")


def test_an_error_of_the_users_is_one_line(capsys):
    def main():
        raise UserError("a.png: expected a picture, found none")

    with pytest.raises(SystemExit) as caught:
        exit_on_user_error(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: a.png: expected a picture, found none\n"
