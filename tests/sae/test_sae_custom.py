"""An architecture of one's own: a config, a class, a line in the registry."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch

from synthkern import sae as saes
from synthkern.sae import registry


@dataclass
class CubeConfig(saes.TrainingSAEConfig):
    penalty: float = 0.5

    @classmethod
    def architecture(cls) -> str:
        return "cube"


class CubeSAE(saes.TrainingSAE):
    config_class = CubeConfig
    cfg: CubeConfig

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pre = self.pre_activations(x)
        return pre.relu() ** 3, pre

    def calculate_aux_loss(
        self,
        step_input: saes.TrainStepInput,
        feature_acts: torch.Tensor,
        hidden_pre: torch.Tensor,
        sae_out: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        return {"penalty": self.cfg.penalty * feature_acts.sum(dim=-1).mean()}


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", copy.copy(registry._REGISTRY))
    saes.register_architecture("cube", CubeSAE)


@pytest.mark.usefixtures("_registered")
def test_it_trains_and_round_trips() -> None:
    cfg = saes.TrainingSAEConfig.from_dict(CubeConfig(5, 12, decoder_init_norm=1.0).to_dict())
    sae = saes.make_sae(cfg)
    assert isinstance(sae, CubeSAE)
    optimizer = torch.optim.Adam(saes.trainable_parameters(sae), lr=0.01, fused=True)
    x = torch.randn(32, 5)
    seen = []
    for _ in range(50):
        optimizer.zero_grad()
        output = sae.training_forward_pass(saes.TrainStepInput(x))
        assert output.losses.keys() == {"mse_loss", "penalty"}
        output.loss.backward()
        optimizer.step()
        seen.append(float(output.loss.detach()))
    assert seen[-1] < 0.7 * seen[0]
