"""A coefficient that finds the L0 asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping

from synthkern._checks import as_float, check_keys

#: What the coefficient may be multiplied or divided by at most.
_RANGE = math.log(1e4)


class SparsityController:
    """Adjusts a sparsity coefficient so that the mean number of active latents meets a target.

    The logarithm of the coefficient follows that of L0 / target: by ``rate`` times it at every
    step, and by ``gain`` times its change, which damps the swing. An SAE answers a change of the
    coefficient over hundreds of steps. One that answers over T steps, with the L0 going as the
    coefficient to the power -G, comes in without a swing where ``rate`` is at most
    ``(1 + gain * G)**2 / (4 * G * T)``: the defaults suit T up to 300 at G = 1.

    Deterministic, and no part of the autograd graph.

    Args:
        target_l0: above 0.
        coefficient: where it starts, above 0.
        rate: above 0.
        gain: at least 0.
        smoothing: share of the error that a step keeps from those before, in [0, 1]; 1 is refused.

    Raises:
        ValueError: for a value outside its range.

    Example:
        >>> import synthkern as synthetic
        >>> controller = synthetic.SparsityController(target_l0=10, coefficient=0.1)
        >>> controller.update(l0=20) > 0.1  # too many latents are active
        True
    """

    def __init__(
        self,
        target_l0: float,
        coefficient: float,
        *,
        rate: float = 3e-3,
        gain: float = 1.0,
        smoothing: float = 0.9,
    ) -> None:
        self.target_l0 = as_float("target_l0", target_l0, low=0, open_low=True)
        self._start = as_float("coefficient", coefficient, low=0, open_low=True)
        self._rate = as_float("rate", rate, low=0, open_low=True)
        self._gain = as_float("gain", gain, low=0)
        self._smoothing = as_float("smoothing", smoothing, low=0, high=1)
        if self._smoothing == 1:
            raise ValueError(f"smoothing must be below 1, got {smoothing!r}")
        self._log_factor = 0.0
        self._error: float | None = None

    @property
    def coefficient(self) -> float:
        """What the sparsity loss is to be multiplied by at the next step."""
        return self._start * math.exp(self._log_factor)

    def update(self, l0: float) -> float:
        """Take in a step's mean number of active latents; gives the next coefficient."""
        l0 = as_float("l0", l0, low=0)
        # Far from the target, at the start above all, the way there is bounded.
        ratio = l0 / self.target_l0
        now = max(-1.0, min(1.0, math.log(ratio) if ratio > 0 else -1.0))
        before = now if self._error is None else self._error
        error = self._smoothing * before + (1 - self._smoothing) * now
        moved = self._log_factor + self._rate * error + self._gain * (error - before)
        self._log_factor = max(-_RANGE, min(_RANGE, moved))
        self._error = error
        return self.coefficient

    def state_dict(self) -> dict[str, float | None]:
        """Where it has got to; what it was made with is not in it."""
        return {"log_factor": self._log_factor, "error": self._error}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Go on from where another one had got to."""
        check_keys("state", state, {"log_factor", "error"})
        self._log_factor = as_float("log_factor", state.get("log_factor"))
        error = state.get("error")
        self._error = None if error is None else as_float("error", error)
