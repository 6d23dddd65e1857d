"""SAELens beside what only this package has: its loaders pass over fields that it does not know."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import M as M_SMALL, eventful_training, small_config, small_world
from trained_saes import D, M, inputs, trained

import synthkern as synthetic

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer: Any = pytest.importorskip("sae_lens")
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import TrainingSAE as PeerTrainingSAE
    from sae_lens.synthetic import SyntheticSAERunnerConfig as PeerRunnerConfig

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

ANNEALED = {"k_start": 9, "k_anneal_steps": 50}

CASES: list[tuple[str, dict[str, Any]]] = [
    ("topk", {"k": 5, **ANNEALED}),
    ("abstopk", {"k": 5, **ANNEALED}),
    ("batchtopk", {"k": 4.5, **ANNEALED}),
    (
        "matryoshka_batchtopk",
        {"k": 4.5, "matryoshka_widths": [5, 16, M], "detach_levels": True, **ANNEALED},
    ),
]


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_files_of_an_sae_load_there_and_here(
    name: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    sae = trained(name, fields)
    sae.save_model(tmp_path / "training")
    theirs = PeerTrainingSAE.load_from_disk(str(tmp_path / "training"))
    torch.testing.assert_close(theirs.encode(inputs()), sae.encode(inputs()), rtol=1e-5, atol=1e-5)
    # What it writes is the SAE, without what it does not know.
    theirs.save_model(str(tmp_path / "theirs"))
    again = synthetic.TrainingSAE.load_from_disk(tmp_path / "theirs")
    assert again.cfg.k == sae.cfg.k
    assert again.cfg.k_start is None
    mine = synthetic.TrainingSAE.load_from_disk(tmp_path / "training")
    assert (mine.cfg.k_start, mine.cfg.k_anneal_steps) == (9, 50)
    sae.save_inference_model(tmp_path / "inference")
    loaded = peer.SAE.load_from_disk(str(tmp_path / "inference"))
    here = synthetic.TrainingSAE.load_from_disk(tmp_path / "inference")
    torch.testing.assert_close(loaded(inputs()), here(inputs()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_a_runners_config_loads_there_and_here(
    name: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    cfg = synthetic.SyntheticSAERunnerConfig(
        synthetic.SyntheticModelConfig(16, D, seed=3),
        trained(name, fields).cfg,
        resample_dead_every=7,
    )
    data = json.loads(json.dumps(cfg.to_file_dict()))
    theirs = PeerRunnerConfig.from_dict(data)
    assert theirs.sae.k == fields["k"]
    again = synthetic.SyntheticSAERunnerConfig.from_dict(data)
    assert again.sae == cfg.sae
    assert again.training.resample_dead_every == 7


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated", "topk"])
def test_its_saes_are_resampled_as_ours(architecture: str) -> None:
    """From the same weights to the same ones, but for the order of sums."""
    torch.manual_seed(1)
    ours = synthetic.make_sae(small_config(architecture))
    their_class, their_config = get_sae_training_class(architecture)
    values = {**ours.cfg.to_dict(), "architecture": architecture}
    theirs = their_class(their_config.from_dict(values))
    theirs.load_state_dict(ours.state_dict())
    before = ours.W_dec.detach().clone()
    settings = eventful_training(
        12, resample_dead_every=5, dead_feature_window=1, lr=1e-3, lr_warm_up_steps=0
    )
    quiet = torch.arange(M_SMALL) < 3
    for sae in (ours, theirs):
        with torch.no_grad():
            sae.W_dec[quiet] *= 1e-9
            sae.W_enc[:, quiet] *= 1e-9
            for name in ("b_enc", "b_gate"):
                if hasattr(sae, name):
                    getattr(sae, name)[quiet] = -9
        synthetic.train_sae(sae, small_world(), settings)
    # They were resampled: rows of norm 1, a little trained.
    assert bool((ours.W_dec[quiet].norm(dim=1) > 0.9).all())
    assert not torch.allclose(ours.W_dec[quiet], before[quiet], atol=0.1)
    wanted = theirs.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-4)
