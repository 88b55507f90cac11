"""Where scalars go: a console line and TensorBoard files."""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def console_line(step: int, steps: int, scalars: Mapping[str, float]) -> str:
    """`step 50/1000  loss 0.1234  grad 0.56  0.80 s/step  wait 1 %  to go 0:12:40`."""
    return (
        f"step {step}/{steps}  loss {scalars['loss']:.4f}  grad {scalars['grad_norm']:.3f}  "
        f"{scalars['seconds_per_step']:.2f} s/step  wait {100 * scalars['data_wait']:.0f} %  "
        f"to go {clock(scalars['eta_seconds'])}"
    )


class RunWriter:
    """Prints a line and writes TensorBoard scalars under RUN/logs; on the first host only."""

    def __init__(self, run: Path, steps: int, active: bool = True):
        self.steps = steps
        self.board = SummaryWriter(str(run / "logs")) if active else None

    def __call__(self, step: int, scalars: Mapping[str, float]) -> None:
        if self.board is None:
            return
        print(console_line(step, self.steps, scalars), flush=True)
        for name, value in scalars.items():
            self.board.add_scalar(name, value, step, walltime=time.time())
        self.board.flush()

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
