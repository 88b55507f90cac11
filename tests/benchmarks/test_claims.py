"""The table of claims: verdicts follow the intervals; what was not measured is not claimed."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import measure_claims
from benchmarks.claims import (
    OURS,
    SHORT,
    make_claims,
    make_numbers,
    make_report,
    make_table,
    read_records,
    values_of,
)
from benchmarks.embedded import BUDGETS, check_budget, command, make_steps
from benchmarks.measure_claims import (
    MEASUREMENTS,
    is_measured,
    peer_in,
    settings_of,
    weights_for,
)
from realisdance_jax.config import ABLATIONS
from realisdance_jax.data.config import CONDITIONS
from realisdance_jax.evaluate import make_config, make_parser
from realisdance_jax.evaluation.compare import COPY
from realisdance_jax.evaluation.protocols import dancer_scenes
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.utils.errors import UserError

SETTINGS = {"protocol": "robust", "seed": 0, "data": "dancer 1 test 32", "weights": {}, "clips": 32}


def record(drops: dict[str, float], clips: int = 32, gate: float = 0.3) -> dict:
    """Every model loses so much PSNR under wrong poses; hands are better the less it loses."""
    rng = np.random.default_rng(0)
    rows = []
    for clip in range(clips):
        level = rng.normal(24, 2)
        for model, lost in drops.items():
            noise = rng.normal(0, 0.05)
            good = {"psnr_person": level - lost / 9 + noise, "psnr_hands": level - lost}
            good["ssim_hands"] = 0.9 - lost / 50
            rows.append({"model": model, "case": "true", "clip": clip, "metrics": good})
            for name in ("dwpose", "hamer", "smpl"):
                bad = {"psnr_person": good["psnr_person"] - lost}
                bad |= {f"gate_{name}_wrong": gate, f"gate_{name}_intact": 0.5 + noise}
                rows.append({"model": model, "case": f"{name} 0.5", "clip": clip, "metrics": bad})
            shaken = {"model": model, "case": "dwpose jitter 0.5", "clip": clip}
            rows.append(shaken | {"metrics": {"jitter_person": 1 + lost}})
    return {"settings": SETTINGS, "rows": rows}


BETTER = {"ours": 1.0, "base": 6.0, **dict.fromkeys(ABLATIONS, 3.0)}


def verdicts(*records: dict, peer: str = OURS) -> dict[str, str]:
    return {claim.text: claim.verdict for claim in make_claims(values_of(records), peer)}


def test_all_pass_for_a_model_that_is_better():
    found = verdicts(record(BETTER))
    assert set(found.values()) == {"pass"}
    assert len(found) == 17


def test_ablations_are_held_against_what_learned_as_long():
    """Where that is `ours_short`, for the rows about ablations alone; never ours in its place."""
    worse = verdicts(record(BETTER | {SHORT: 5.0}), peer=SHORT)
    about = {text for text in worse if re.search(r"\bno_", text)}
    assert {text for text, verdict in worse.items() if verdict == "fail"} == about
    absent = verdicts(record(BETTER), peer=SHORT)
    assert {text for text, verdict in absent.items() if verdict == "not measured"} == about
    report = make_report([record(BETTER | {SHORT: 5.0})], SHORT)
    assert "are of ours_short, others of ours" in report


@pytest.mark.parametrize(("budget", "peer"), [("cpu", SHORT), ("accelerator", OURS), ("", SHORT)])
def test_the_budget_says_what_ablations_are_held_against(budget, peer, tmp_path):
    if budget:
        check_budget(tmp_path, budget)
    assert peer_in(tmp_path) == peer


def test_an_ordinary_model_fails_and_is_shown():
    found = verdicts(record(dict.fromkeys(BETTER, 3.0), gate=0.7))
    assert "pass" not in found.values()
    table = make_table(make_claims(values_of([record(dict.fromkeys(BETTER, 3.0))])))
    assert len(re.findall(r"\| (pass|fail) \|$", table, re.MULTILINE)) == len(found)


def test_what_was_not_measured_or_on_too_few_clips_says_so():
    few = verdicts(record(BETTER, clips=20))
    assert few["psnr_hands above base's"] == "not measured"
    assert few["psnr_hands above no_hamer's"] == "pass"
    gates = "gate weight of smpl falls on its wrong frames"
    assert few[gates] == "not measured"
    nothing = verdicts(record({"ours": 1.0}))
    assert nothing["PSNR of the character above no_shuffle's"] == "not measured"
    assert nothing[gates] == "pass"


def test_numbers_per_clip_are_what_the_table_is_made_of():
    """Of each model in its own record alone; a clip without a number has its place."""
    ours, base = (record({name: 1.0, COPY: 2.0}, clips=3) for name in ("ours", "base"))
    ours["settings"] = SETTINGS | {"weights": {"ours": "a"}}
    base["settings"] = SETTINGS | {"weights": {"base": "b"}}
    del ours["rows"][0]["metrics"]["psnr_person"]
    found = make_numbers([ours, base])
    assert set(found) == {"settings", "weights", "ours", "base", COPY}
    assert len(found[COPY]["true"]["psnr_hands"]) == 3
    assert (found["weights"], found["settings"]["seed"]) == ({"ours": "a", "base": "b"}, 0)
    psnr = found["ours"]["true"]["psnr_person"]
    assert (psnr[0], len(psnr)) == (None, 3)
    wanted = values_of([base])("base", "smpl 0.5", "gate_smpl_wrong")
    np.testing.assert_allclose(found["base"]["smpl 0.5"]["gate_smpl_wrong"], wanted, rtol=1e-4)


def test_results_of_other_settings_are_refused(tmp_path):
    one, other, bad = (tmp_path / name for name in ("one.json", "other.json", "bad.json"))
    one.write_text(json.dumps(record(BETTER)))
    fewer = SETTINGS | {"data": "dancer 1 test 16", "clips": 16, "kinds": ["jitter"]}
    fewer = {"settings": fewer, "rows": [ROW]}
    other.write_text(json.dumps(fewer))
    assert len(read_records([one, other])) == 2
    other.write_text(json.dumps({"settings": SETTINGS | {"seed": 1}, "rows": [ROW]}))
    with pytest.raises(UserError, match="expected the settings of"):
        read_records([one, other])
    bad.write_text("{}")
    with pytest.raises(UserError, match="expected results of evaluate"):
        read_records([bad])


def test_the_recipe_trains_each_model_from_what_an_earlier_step_wrote(tmp_path):
    steps = make_steps(BUDGETS["cpu"], ablations=True)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    assert {"ours", "base", *ABLATIONS} < set(names)
    written: set[str] = set()
    for step in steps:
        words = command(step, tmp_path)
        text = " ".join(words)
        used = set(re.findall(rf"{tmp_path}/(\w+)", text)) - {step.name}
        assert used <= written, text
        assert used or step.name == "pictures"
        written.add(step.name)
    assert "no_shuffle_image" not in names


METRICS = ("psnr_person", "psnr_hands", "ssim_hands", "jitter_person")
GATES = [f"gate_{name}_{kind}" for name in CONDITIONS for kind in ("wrong", "intact")]
SEEN = {"base": ("dwpose",), "no_hamer": ("dwpose", "smpl")}


def test_what_is_measured_is_what_the_table_needs(tmp_path):
    """Every row gets its numbers on as many clips as it wants, and no case is for nothing."""
    rows = []
    for model, item in MEASUREMENTS.items():
        words = item.words(model, tmp_path, tmp_path)
        for scene in dancer_scenes(
            make_config(make_parser().parse_args(words)), SEEN.get(model, CONDITIONS)
        ):
            place = {"model": model, "case": scene.case, "clip": scene.number}
            rows.append(place | {"metrics": dict.fromkeys((*METRICS, *GATES), 1.0)})
    assert len(rows) == sum(item.clips * len(item.cases) for item in MEASUREMENTS.values())

    def measured(rows: list[dict]) -> int:
        report = make_report([{"settings": SETTINGS, "rows": rows}], SHORT)
        return sum(cell.strip() not in ("", "not measured") for cell in report.split("|"))

    everything = measured(rows)
    assert "not measured" not in make_report([{"settings": SETTINGS, "rows": rows}], SHORT)
    for model, item in MEASUREMENTS.items():
        for case in item.cases:
            fewer = [row for row in rows if (row["model"], row["case"]) != (model, case)]
            assert measured(fewer) < everything, (model, case)


def test_measurements_are_kept_while_weights_and_settings_are_the_same(tmp_path, monkeypatch):
    known = SimpleNamespace(weight_hash="a", model=RealisDanceConfig())
    monkeypatch.setattr(measure_claims, "read_manifest", lambda _: known)
    words = MEASUREMENTS["base"].words("base", tmp_path, tmp_path)
    settings, results = settings_of(words, "base", tmp_path), tmp_path / "results.json"
    assert not is_measured(results, settings)
    results.write_text("{")
    assert not is_measured(results, settings)
    results.write_text(json.dumps({"settings": settings, "rows": []}))
    assert is_measured(results, settings)
    words[words.index("trailing")] = "leading"
    assert not is_measured(results, settings_of(words, "base", tmp_path))
    words[words.index("leading")], known.weight_hash = "trailing", "b"
    assert not is_measured(results, settings_of(words, "base", tmp_path))


def run_of(folder, steps: int, saved: tuple[int, ...]):
    (folder / "base").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"train": {"steps": steps}}))
    for step in saved:
        (folder / "checkpoints" / str(step)).mkdir(parents=True)


def test_models_that_are_not_trained_are_said_to_be(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure_claims, "SHIPPED", {})
    run_of(tmp_path / "no_gate", 450, (200,))
    run_of(tmp_path / "base", 450, ())
    for model, found in (("no_gate", "200"), ("base", "0")):
        assert weights_for(model, tmp_path) is None
        assert f"{model}: at step {found} of 450" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["measure_claims", "--out", str(tmp_path)])
    with pytest.raises(UserError, match="expected trained models, found none"):
        measure_claims.main()
    assert f"ours: not trained ({tmp_path / 'ours'})" in capsys.readouterr().out


def test_a_damaged_configuration_is_refused(tmp_path):
    run_of(tmp_path / "ours", 450, (450,))
    for content in ("{", "{}", "[]"):
        (tmp_path / "ours" / "run.json").write_text(content)
        with pytest.raises(UserError, match=r"run\.json: expected the configuration of a run"):
            weights_for("ours", tmp_path)


ROW = {"model": "ours", "case": "true", "clip": 0, "metrics": {"psnr_person": 1.0}}


@pytest.mark.parametrize(
    "content",
    [
        *("[]", "{", '{"settings": {}}', '{"settings": {"protocol": "robust"}}'),
        json.dumps({"settings": SETTINGS}),
        json.dumps({"settings": SETTINGS, "rows": 5}),
        json.dumps({"settings": SETTINGS, "rows": [{"model": "ours"}]}),
        json.dumps({"settings": SETTINGS | {"weights": [1]}, "rows": []}),
        json.dumps({"settings": SETTINGS, "rows": []}),
        *(
            json.dumps({"settings": SETTINGS, "rows": [ROW | change]})
            for change in (
                *({"clip": -1}, {"clip": 10**12}, {"clip": "0"}, {"model": ["ours"]}),
                *({"metrics": {"psnr_person": value}} for value in ("abc", [1, 2])),
            )
        ),
        "[" * 100_000,
    ],
)
def test_odd_files_are_refused(content, tmp_path):
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(UserError, match="expected results of evaluate, found none"):
        read_records([path])


def test_one_name_is_one_model(tmp_path):
    paths = [tmp_path / "one.json", tmp_path / "other.json"]
    for path, weights in zip(paths, ("a", "b"), strict=True):
        settings = SETTINGS | {"weights": {"ours": weights}}
        path.write_text(json.dumps({"settings": settings, "rows": [ROW]}))
    with pytest.raises(UserError, match="ours: expected weights a, found b"):
        read_records(paths)
