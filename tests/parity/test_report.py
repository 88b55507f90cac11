"""The parity table must have a row for every array of the oracle, or a whole run fails."""

from types import SimpleNamespace

import pytest

from tests.conftest import missing_rows, pytest_sessionfinish
from tests.parity.report import FILES, PROPERTY, results, without_row


def test_every_missing_array_is_named():
    whole = results()
    assert len(whole) > 200
    assert without_row(whole) == []
    assert without_row(whole - {"stage2/full_out"}) == ["stage2/full_out"]
    absolute = "train_stage1/delta.unet_main.conv_in.weight"
    assert absolute in whole
    assert without_row(whole - {absolute} | {f"{absolute} (absolute)"}) == []
    parts = whole - {"stage1/full_out"} | {"stage1/full_out from official parts"}
    assert without_row(parts) == ["stage1/full_out"]


def finished(rows, files=FILES, keyword="", failed=(), args=("tests",)):
    """The session that ends a run with these rows in the table."""
    reports = [
        SimpleNamespace(nodeid=f"tests/parity/{file}::test", when="call", user_properties=[])
        for file in files
    ]
    reports[0].user_properties = [(PROPERTY, [row, 0.0, 1.0]) for row in rows]
    reporter = SimpleNamespace(stats={"passed": reports, "failed": list(failed)})
    option = SimpleNamespace(keyword=keyword)
    plugins = SimpleNamespace(get_plugin=lambda _: reporter)
    config = SimpleNamespace(option=option, args=args, pluginmanager=plugins)
    return SimpleNamespace(config=config, exitstatus=0), reporter


def test_a_hole_fails_a_whole_run():
    session, reporter = finished(results() - {"damped/vae_mode"})
    assert missing_rows(session.config, reporter) == ["damped/vae_mode"]
    pytest_sessionfinish(session)
    assert session.exitstatus == pytest.ExitCode.TESTS_FAILED
    session, _ = finished(results())
    pytest_sessionfinish(session)
    assert session.exitstatus == 0


@pytest.mark.parametrize(
    "part",
    [
        {"files": FILES[:2]},
        {"keyword": "forward"},
        {"args": ("tests/parity/test_forward.py::test_units", "tests")},
        {"failed": (SimpleNamespace(nodeid="tests/a.py::b"),)},
    ],
)
def test_part_of_a_run_may_have_holes(part):
    session, _ = finished(["stage1/full_out"], **part)
    pytest_sessionfinish(session)
    assert session.exitstatus == 0
