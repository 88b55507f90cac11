"""The smaller arrays of the comparison: schedules, single DDIM steps, crops and the painter."""

import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.data.transforms import crop_box, crop_resize
from realisdance_jax.diffusion.ddim import previous_timesteps
from realisdance_jax.diffusion.loss import min_snr_weight, snr
from realisdance_jax.diffusion.prediction import add_noise, velocity
from realisdance_jax.diffusion.schedule import ScheduleConfig, alphas_cumprod, betas, timesteps
from realisdance_jax.diffusion.solvers import make_solver
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.training.optim import OptimConfig, learning_rate
from tests.golden_files import GOLDEN
from tests.parity.report import FORWARD, SAMPLING, Table
from tests.poses.test_dwpose import CASES, golden_frame, stored

PIXELS = 10
"""Pixels of a painted frame that may differ between versions of OpenCV."""


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def test_schedule(record_property):
    official, table = golden("schedule"), Table(record_property, "schedule", FORWARD)
    every = jnp.arange(1000)
    for suffix, config in (
        ("", ScheduleConfig()),
        ("_no_zero_snr", ScheduleConfig(zero_snr=False)),
    ):
        bars = jnp.asarray(alphas_cumprod(config))
        ours = {
            "alphas_cumprod": bars,
            "snr": snr(bars, every),
            "min_snr_weight_v": min_snr_weight(bars, every, 5.0, "v_prediction"),
            "min_snr_weight_epsilon": min_snr_weight(bars, every, 5.0, "epsilon"),
        }
        for name, values in ours.items():
            table.row(name + suffix, values, official[name + suffix])
    table.row("betas", betas(ScheduleConfig()), official["betas"])
    table.row("ddim_alphas_cumprod", alphas_cumprod(ScheduleConfig()), official["alphas_cumprod"])
    for steps in (4, 10, 20, 25, 50):
        chosen = timesteps(ScheduleConfig(), steps)
        for name in (f"ddim_timesteps_{steps}", f"ddpm_timesteps_{steps}"):
            table.row(name, chosen, official[name])
    bars = jnp.asarray(alphas_cumprod(ScheduleConfig()))[official["t"]]
    x0, eps = jnp.asarray(official["x0"]), jnp.asarray(official["eps"])
    table.row("add_noise", add_noise(x0, eps, bars), official["add_noise"])
    table.row("velocity", velocity(x0, eps, bars), official["velocity"])
    table.verify()


def test_ten_ddim_steps_and_warm_up(record_property):
    official, table = golden("schedule"), Table(record_property, "schedule", SAMPLING)
    solver = make_solver("ddim", ScheduleConfig(), 10)
    before = previous_timesteps(ScheduleConfig(), solver.timesteps)
    table.row("ddim10_prev_timestep", before, official["ddim10_prev_timestep"])
    stepped = []
    for i in range(10):
        x, v = (jnp.asarray(official[f"ddim10_{name}"][i]) for name in ("x", "v"))
        stepped.append(solver.step(solver.table, i, x, v, solver.init(x), None)[0])
    table.row("ddim10_prev_sample", np.stack(stepped), official["ddim10_prev_sample"])
    table.row("ddim_final_alpha_cumprod", alphas_cumprod(ScheduleConfig())[0],
              official["ddim_final_alpha_cumprod"])  # fmt: skip
    warm = official["constant_with_warmup_5"]
    peak = float(warm.max())
    rate = learning_rate(OptimConfig(lr=peak, warmup_steps=5), 100)
    table.row("constant_with_warmup_5", np.array([rate(k) for k in range(len(warm))]), warm)
    table.verify()


def test_crops(record_property):
    official, table = golden("preprocess"), Table(record_property, "preprocess", FORWARD)
    for name in sorted({key.rsplit(".", 1)[0] for key in official if key.count(".") == 2}):
        picture, out = official[f"{name.split('.')[0]}.input"], official[f"{name}.out"]
        size = out.shape[1:]
        box = crop_box(*picture.shape[:2], size[1] / size[0])
        table.row(f"{name}.box", np.array(box), official[f"{name}.box"])
        table.row(f"{name}.out", crop_resize(picture, size).transpose(2, 0, 1), out)
    table.verify()


@pytest.mark.parametrize("case", CASES)
def test_painter(case, record_property, tmp_path):
    table = Table(record_property, "painter", FORWARD)
    official = golden("painter")
    clip = read_dwpose(stored(tmp_path / "a.pkl", [golden_frame(case)]))
    drawn = draw_dwpose(clip, 0, face=bool(official[f"{case}.draw_face"]))
    differing = int(np.any(drawn != official[f"{case}.image"], axis=-1).sum())
    table.measured(f"painter/{case}.image (pixels)", differing, PIXELS)
    table.verify()
