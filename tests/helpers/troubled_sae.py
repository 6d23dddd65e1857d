"""A user's own SAE: a TopK SAE that gets into trouble at a step, the first time or always."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from synthkern.sae import TopKTrainingSAE, TopKTrainingSAEConfig


@dataclass
class TroubledConfig(TopKTrainingSAEConfig):
    """What goes wrong, at which step (-1: in the making), and the file that is made where once is
    enough. Begun trainings leave a line in ``log``."""

    trouble: str = "none"
    step: int = 10
    mark: str = ""
    log: str = ""

    @classmethod
    def architecture(cls) -> str:
        return "troubled"


class TroubledSAE(TopKTrainingSAE):
    config_class = TroubledConfig
    cfg: TroubledConfig

    def __init__(self, cfg: TroubledConfig) -> None:
        super().__init__(cfg)
        self._begun = False
        self._meet(-1)

    def training_forward_pass(self, step_input: Any) -> Any:
        if self.cfg.log and not self._begun:
            self._begun = True
            with open(self.cfg.log, "a") as log:
                log.write(f"{os.getpid()} {step_input.n_training_steps}\n")
        output = super().training_forward_pass(step_input)
        if self._meet(step_input.n_training_steps):
            output.loss = output.loss * float("nan")
        return output

    def _meet(self, step: int) -> bool:
        """Whether the loss is to be NaN at a step; other troubles happen here."""
        cfg = self.cfg
        if step != cfg.step or cfg.trouble == "none" or (cfg.mark and Path(cfg.mark).exists()):
            return False
        if cfg.trouble == "wait":
            _wait_for_interrupt(Path(cfg.mark))
        elif cfg.mark:
            Path(cfg.mark).touch()
        if cfg.trouble == "raise":
            raise ZeroDivisionError("a bug")
        if cfg.trouble == "memory":
            # More than there are addresses.
            torch.empty(2**52, dtype=torch.uint8)
        if cfg.trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if cfg.trouble == "end badly":
            atexit.register(os._exit, 3)
        if cfg.trouble == "hang":
            threading.Event().wait()
        if cfg.trouble == "company":
            _wait_for_company(Path(cfg.log))
        return cfg.trouble == "nan"


def _wait_for_interrupt(mark: Path) -> None:
    """Make the mark and wait for Ctrl-C, which has its effect if it comes before the wait, too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    mark.touch()
    signal.sigwait({signal.SIGINT})
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    signal.raise_signal(signal.SIGINT)


def _wait_for_company(log: Path) -> None:
    """Until another process has begun a training too."""
    while len({line.split()[0] for line in log.read_text().splitlines()}) < 2:
        time.sleep(0.01)
