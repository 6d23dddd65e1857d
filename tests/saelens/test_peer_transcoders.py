"""Transcoders trained here, as SAELens' own classes read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import synthkern as synthetic

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("rescales", [True, False])
@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("sparsity", ["batchtopk", "l1"])
def test_saelens_reads_them(sparsity: str, skips: bool, rescales: bool, tmp_path: Path) -> None:
    sae_lens: Any = pytest.importorskip("sae_lens")
    cfg = synthetic.TranscoderTrainingSAEConfig(
        d_in=7,
        d_out=5,
        d_sae=24,
        k=3,
        sparsity=sparsity,
        use_skip_connection=skips,
        rescale_acts_by_decoder_norm=rescales,
    )
    sae = synthetic.TranscoderTrainingSAE(cfg)
    x = torch.randn(200, 7)
    pairs = [(x, torch.randn(200, 5))] * 200
    training = synthetic.TrainingConfig(200 * 200, 200, lr=1e-2)
    synthetic.train_sae(sae, pairs, training)
    sae.save_inference_model(tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    assert theirs.cfg.d_out == 5
    with torch.no_grad():
        acts = theirs.encode(x)
        pre = sae.encode_with_hidden_pre(x)[1]
        bound = float(sae.topk_threshold) if sparsity == "batchtopk" else 0.0
        expected = pre * (pre > bound)
        torch.testing.assert_close(acts, expected, atol=1e-5, rtol=1e-4)
        out = sae.decode(expected)
        skipped = sae.skipped(x)
        out = out if skipped is None else out + skipped
        torch.testing.assert_close(theirs(x), out, atol=1e-4, rtol=1e-4)
    if sparsity == "l1" and not skips:
        # And back.
        theirs.save_model(tmp_path / "theirs")
        again: Any = synthetic.TrainingSAE.load_from_disk(tmp_path / "theirs")
        torch.testing.assert_close(again(x), out, atol=1e-4, rtol=1e-4)
