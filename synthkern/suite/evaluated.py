"""Runs that train nothing: floors, ceilings and SAEs that are given, evaluated as others are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from synthkern.evaluation import SyntheticDataEvalResult
from synthkern.evaluation.evaluate import eval_sae_on_model
from synthkern.evaluation.linear_detectors import fit_linear_probes, init_sae_at_true_features
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.sae import TrainingSAE, TrainingSAEConfig, make_sae
from synthkern.sae.saelens import load_sae_folder, sae_config_from_dict
from synthkern.sae.third_party import SAESource, load_sae
from synthkern.suite.baselines import BASELINE, SOURCE
from synthkern.suite.database import PlannedRun
from synthkern.training.batch_source import EVALUATION_START

#: The figures of :class:`LinearProbes` that say something of probes.
_OF_PROBES = ("classification/", "true_l0")


def subject_of(run: PlannedRun, world: SyntheticModel, device: str, trained: Path | None) -> Any:
    """What such a run evaluates.

    Args:
        run: that trains nothing.
        world: its own.
        device: of the SAE.
        trained: the folder of the SAE whose decoder is permuted, where that is asked for.
    """
    if SOURCE in run.config:
        said = {k: v for k, v in run.config[SOURCE].items() if k != "identity"}
        return load_sae(SAESource.from_dict(said), device, d_in=world.cfg.hidden_dim)
    if run.config[BASELINE] == "permuted_decoder":
        assert trained is not None
        sae = _as_evaluated(trained, run.config["sae"], device)
        permute_decoder(sae, run.seed)
        return sae
    parts = world.feature_dict, world.activation_generator
    if run.config[BASELINE] == "linear_probes":
        return fit_linear_probes(*parts, among=run.config["sae"]["d_sae"], seed=run.seed)
    torch.manual_seed(run.seed)
    sae = make_sae(sae_config_from_dict({**run.config["sae"], "device": device}))
    if run.config[BASELINE] == "true_features":
        init_sae_at_true_features(sae, *parts, seed=run.seed)
    return sae


def evaluate_subject(
    subject: Any, run: PlannedRun, world: SyntheticModel
) -> SyntheticDataEvalResult:
    """The same evaluation as that of a trained SAE: the same samples for a seed."""
    return eval_sae_on_model(
        subject,
        world,
        run.config["eval_samples"],
        run.config["batch_size"],
        seed=run.seed,
        start=EVALUATION_START,
        with_twin=True,
    )


def says_something(run: PlannedRun, figure: str) -> bool:
    """Whether a figure of an evaluation, by its name in a log, says something of the run's SAE."""
    return run.config.get(BASELINE) != "linear_probes" or figure.startswith(_OF_PROBES)


@torch.no_grad()
def _as_evaluated(trained: Path, config: Mapping[str, Any], device: str) -> Any:
    """The SAE of a folder as the evaluation after its training saw it.

    What is saved is for inference, where BatchTopK compares with a threshold: that it moves to in
    hundreds of steps, and other latents than those of the batch would be active until then.
    """
    saved = load_sae_folder(trained, device)
    cfg = sae_config_from_dict({**config, "normalize_activations": "none", "device": device})
    if not isinstance(cfg, TrainingSAEConfig) or cfg.architecture() == saved.cfg.architecture():
        return saved
    sae, weights = make_sae(cfg), dict(saved.named_parameters())
    if any(name not in weights for name, _ in sae.named_parameters()):
        return saved
    for name, value in sae.named_parameters():
        value.copy_(weights[name])
    return sae


@torch.no_grad()
def permute_decoder(sae: TrainingSAE, seed: int) -> None:
    """Let every latent write as another does, in place; which, follows from the seed.

    Latents of a sample stay, and so does the set of the decoder's rows, but no latent keeps its
    own. Rows have norm 1 first, where the architecture lets them, so that what a latent adds
    keeps its size.

    Raises:
        ValueError: for an SAE without an encoder of its own, whose latents would go along.
    """
    if not isinstance(getattr(sae, "W_enc", None), torch.nn.Parameter):
        raise ValueError(
            "permuted_decoder must be of an SAE with an encoder of its own, which "
            f"{type(sae).__name__} has not: its latents go along with the decoder's rows"
        )
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        sae.fold_W_dec_norm()
    # A cycle through all rows in a random order leaves none in its place.
    order = torch.randperm(len(sae.W_dec), generator=torch.Generator().manual_seed(seed))
    rows = sae.W_dec.detach().clone()
    sae.W_dec[order.to(rows.device)] = rows[order.roll(1).to(rows.device)]


def freeze_decoder(sae: Any) -> None:
    """Let a training leave the decoder as it is.

    Raises:
        ValueError: for an SAE without an encoder of its own, of which nothing would be trained.
    """
    if not isinstance(getattr(sae, "W_enc", None), torch.nn.Parameter):
        raise ValueError(
            "frozen_decoder must be of an SAE with an encoder of its own, which "
            f"{type(sae).__name__} has not"
        )
    sae.W_dec.requires_grad_(False)
