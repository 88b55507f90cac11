"""ONNX files run by onnxruntime, an optional dependency that is imported when a file is opened."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An opened network with one picture as its input.

    path: its file, for messages. session: of onnxruntime. size: height and width of the input in
    pixels.
    """

    path: Path
    session: Any
    size: tuple[int, int]

    def run(self, picture: np.ndarray) -> list[np.ndarray]:
        """All outputs for one picture, channels first, float32, without a batch axis.

        Raises `UserError` when the network cannot compute them.
        """
        name = self.session.get_inputs()[0].name
        batch = np.ascontiguousarray(picture[None], np.float32)
        try:
            return [np.asarray(output) for output in self.session.run(None, {name: batch})]
        except Exception as error:  # onnxruntime has a class of its own for every kind of failure
            raise UserError(f"{self.path}: the network failed ({_line(error)})") from None


def open_model(path: str | Path, what: str, size: tuple[int, int]) -> OnnxModel:
    """Open the network in the file `path`; `what` names it in messages.

    size: height and width of its input where the file leaves them open.
    Raises `UserError` when onnxruntime is not installed, and for a file that is no network with one
    input of shape (batch, 3, height, width).
    """
    path = existing_file(path, what)
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only; they are raised as well
    present = runtime.get_available_providers()
    providers = [name for name in _PROVIDERS if name in present]
    try:
        session = runtime.InferenceSession(str(path.absolute()), options, providers=providers)
    except Exception as error:  # as above
        raise UserError(
            f"{path}: expected {what}, found an unreadable file ({_line(error)})"
        ) from None
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    if len(shape) != 4 or shape[1] not in (3, None):
        found = ", ".join(f"{one.name} {one.shape}" for one in inputs) or "none"
        raise UserError(f"{path}: expected {what}, one input (n, 3, height, width), found {found}")
    sides = [
        side if isinstance(side, int) else given
        for side, given in zip(shape[2:], size, strict=True)
    ]
    return OnnxModel(path, session, (sides[0], sides[1]))


def _onnxruntime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError:
        hint = "pip install 'realisdance_jax[dwpose]'"
        raise UserError(f"DWPose: expected onnxruntime, found it not installed ({hint})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
