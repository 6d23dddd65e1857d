"""Parameters as an optimizer takes them fastest."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The module's parameters, the transposed ones as contiguous views of the same memory.

    Fused Adam copies a parameter that is not contiguous, its gradient and both moments, there and
    back: 10 of the 15 ms of its step at D = 768, M = 4,096. An encoder [D, M] that is laid out as
    [M, D] is therefore optimized as its transpose, whose ``grad`` is the encoder's own, read and
    set there: the module itself knows nothing of it, and any other optimizer may go on with it.

    As parameters do, views stay those of the module where it is moved or converted.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=8, d_sae=16, k=2))
        >>> optimizer = torch.optim.Adam(synthetic.trainable_parameters(sae), lr=1e-3, fused=True)
        >>> sae.training_forward_pass(synthetic.TrainStepInput(torch.randn(10, 8))).loss.backward()
        >>> optimizer.step()
    """
    return [_as_laid_out(parameter) for parameter in module.parameters()]


class _Transpose(nn.Parameter):
    """A parameter's transpose in the same memory, with the parameter's gradient as its own."""

    _source: nn.Parameter

    @property
    def grad(self) -> torch.Tensor | None:
        gradient = self._source.grad
        if gradient is None:
            return None
        if self._source.data_ptr() != self.data_ptr():
            # The module was moved or converted: optimizers look here before they change a weight.
            self.data = self._source.data.T
        return gradient.T

    @grad.setter
    def grad(self, value: torch.Tensor | None) -> None:
        self._source.grad = None if value is None else value.T

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Parameter:
        return _as_laid_out(copy.deepcopy(self._source, memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _as_laid_out, (self._source,)


def _as_laid_out(parameter: nn.Parameter) -> nn.Parameter:
    if parameter.is_contiguous() or not parameter.T.is_contiguous():
        return parameter
    view = _Transpose(parameter.detach().T, requires_grad=parameter.requires_grad)
    view._source = parameter
    return view
