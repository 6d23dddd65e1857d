"""The whole evaluation of an SAE, in one pass over a stream of samples."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from synthkern._checks import as_bool, as_int
from synthkern.engine.processor import warn_of_slow_bfloat16
from synthkern.evaluation.calculator import Array, Groups
from synthkern.evaluation.classification import ClassificationMetrics
from synthkern.evaluation.entries import entries_of
from synthkern.evaluation.evaluated_world import EvaluatedWorld, OneView, SeveralViews
from synthkern.evaluation.figures import Measured, MetricSet
from synthkern.evaluation.matching import Matching, match
from synthkern.evaluation.metric import Subject
from synthkern.evaluation.metrics import check_metrics, chosen_metrics
from synthkern.evaluation.result import PerLatent, SyntheticDataEvalResult, built_metrics
from synthkern.evaluation.sae_interface import (
    ActivationScaler,
    InferenceSAE,
    check_methods,
    check_returned,
    rescales_latents,
    weight,
)
from synthkern.evaluation.shift_table import shifted_figures
from synthkern.evaluation.tree import leaves, plain
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.draw_hidden import check_fit
from synthkern.model.ownership import check_positions, has_positions, sampler_of
from synthkern.model.shift import pairs_kept_apart
from synthkern.model.synthetic_model import SyntheticModel, shifted_generator
from synthkern.sae.module_modes import evaluating
from synthkern.sparse import SparseActivations
from synthkern.stream import stream_position

#: Groups of samples that standard errors are made of.
_GROUPS = 32

#: Numbers in the largest tensor of a batch where no batch size is given: 16 MiB of float32.
_BATCH_NUMBERS = 2**22

#: Numbers in batches that are worth adding up alone; smaller ones wait for others, as what a call
#: costs, 0.3 ms, is more than their own numbers do. 1,000 toy samples in tens: 21 ms, alone 50 ms.
_TOGETHER = 2**16

#: Features, latents, hidden activations and reconstructions.
_Batch = tuple[SparseActivations, SparseActivations, torch.Tensor, torch.Tensor]

#: Numbers in the largest tensor of a single batch from what the user wrote: 1 GiB of float32.
_ONCE = 2**28

_NAME = "activations_generator"


@torch.no_grad()
def eval_sae_on_synthetic_data(
    sae: InferenceSAE,
    feature_dict: Any,
    activations_generator: Any,
    num_samples: int = 100_000,
    batch_size: int | None = None,
    activation_scaler: ActivationScaler | None = None,
    *,
    seed: int | None = None,
    start: int = 0,
    autocast: bool = False,
    metrics: Iterable[str] | None = None,
    shifted_generator: Any = None,
) -> SyntheticDataEvalResult:
    """Measure an SAE against the features that make its inputs.

    One pass over samples start ... start + num_samples - 1 of a seed's stream. Features stay in
    CSR form and the latents of one batch at a time are dense; the cosines of all latents with all
    features, in float64, are held before that for the matching. A bar appears on standard error
    where it takes longer than two seconds.

    Where the dictionary has noise, the SAE's inputs have it, as in training, and its outputs are
    compared with these noisy inputs: noise that it rightly leaves out counts as unexplained.

    Args:
        sae: any object with ``encode`` ([B, D] to [B, M], dense or sparse COO), ``decode`` (back)
            and ``W_dec`` [M, D], the field's SAEs among them. Inputs come in ``W_dec``'s dtype
            and on its device; a module is in evaluation mode meanwhile. Where it has
            ``encode_sparse``, from [B, D] to SparseActivations [B, M], or ``decode_sparse``,
            back, it is asked for these instead: what is not active then costs nothing.
        feature_dict: the dictionary, D wide: ours, SAELens' or any module with
            ``feature_vectors`` [N, D] that is called with activations [B, N].
        activations_generator: a generator of as many features, or anything that has
            ``sample(batch_size)`` or is called with a batch size and gives activations [B, N]:
            dense, sparse COO or CSR, or SparseActivations.
        num_samples: at least 0.
        batch_size: samples that are encoded together, at least 1; None takes what 16 MiB of
            latents hold, from 16 to 4,096, and of a generator with functions of the user's, which
            may look across samples, all at once as far as 1 GiB holds them. It decides no figure
            beyond rounding, unless ``encode`` looks across samples.
        activation_scaler: scales inputs before ``encode`` and what ``decode`` gives back after.
        seed: in [0, 2**64). None draws a fresh one from torch's global generator; with a batch
            size, one for each batch, so that the samples are those of a loop over
            ``activations_generator.sample(batch_size)`` after the same torch.manual_seed.
        start: index of the first sample, in [0, 2**64).
        autocast: whether the SAE runs under torch.autocast to bfloat16, as
            ``TrainingConfig.autocast`` says; a processor without bfloat16 arithmetic, on which that
            is slower, warns.
        metrics: which of the result's fields that may be None are wanted, by name; None for all
            that the world can have, () for none. What is not asked for takes no time.
        shifted_generator: of the world's shifted twin, ``model.shifted().activation_generator``;
            or None. The SAE is measured on as many samples of it, of the same seed and indices, and
            the result has ``shifted`` and, where the world keeps pairs of features apart,
            ``held_out``.

    Raises:
        ValueError: for a value out of range or a wrong shape, or weights that are not finite.
        TypeError: for a value of a wrong type, or an SAE that lacks one of the three.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticModelConfig(num_features=8, hidden_dim=16, seed=0)
        >>> model = synthetic.SyntheticModel(cfg)
        >>> features, generator = model.feature_dict, model.activation_generator
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=16, d_sae=8))
        >>> synthetic.init_sae_to_match_feature_dict(sae, features)
        >>> result = synthetic.eval_sae_on_synthetic_data(sae, features, generator, 1000, seed=0)
        >>> round(result.mcc, 3), result.uniqueness
        (1.0, 1.0)
    """
    check_fit(feature_dict, activations_generator)
    if shifted_generator is not None:
        check_fit(feature_dict, shifted_generator)
    ways: dict[str, Any] = {
        "sae": sae,
        "num_samples": num_samples,
        "batch_size": batch_size,
        "activation_scaler": activation_scaler,
        "seed": seed,
        "start": start,
        "autocast": autocast,
    }
    wanted = check_metrics(metrics)
    world = OneView(feature_dict, activations_generator)
    result, matching = _evaluated(world, **ways, wanted=wanted)
    if shifted_generator is None:
        return result
    twin, _ = _evaluated(
        OneView(feature_dict, shifted_generator),
        **ways,
        wanted=wanted & {"held_out"} | {"f1_all_features"},
        matching=matching,
        held_out=pairs_kept_apart(activations_generator),
    )
    shifted, errors = shifted_figures(twin)
    result.shifted, result.held_out = shifted, twin.held_out
    result.standard_errors |= errors
    return result


@torch.no_grad()
def eval_sae_on_views(
    sae: InferenceSAE,
    model: SyntheticModel,
    num_samples: int = 100_000,
    batch_size: int | None = None,
    activation_scaler: ActivationScaler | None = None,
    *,
    views: Sequence[int] | None = None,
    target: int | None = None,
    seed: int | None = None,
    start: int = 0,
    autocast: bool = False,
    metrics: Iterable[str] | None = None,
) -> SyntheticDataEvalResult:
    """The same of an SAE, a crosscoder or a transcoder in the views of a world.

    Of several views all figures are of these side by side: features have the vectors
    [N, sum of D_v], and ``encode`` takes, and ``decode`` gives, [B, sum of D_v], as those of
    :class:`CrosscoderTrainingSAE` do; ``views`` of the result says how well each is recovered, and
    which latents are shared. With a target, as for a :class:`TranscoderTrainingSAE`, latents of
    the views reconstruct that one: features are those that it is made of, a map's outputs or the
    world's features, and ``explained_variance`` is that of the target's hidden activations;
    ``map_recovery`` says which of the map's edges are found.

    Args:
        sae: see :func:`eval_sae_on_synthetic_data`. Of a transcoder ``W_dec`` [M, D_target]; what
            it has as ``skipped``, [B, D] to [B, D_target], is added to what ``decode`` gives.
        model: with views.
        num_samples: see there, as all that is not named here.
        batch_size: see there.
        activation_scaler: see there; with a target it scales that too.
        views: the numbers of the views; None is for what the SAE's config says, those that
            :func:`train_sae` trains it on. Of a config that says which is the target, that is the
            last of them.
        target: the number of the view that is reconstructed, or None for ``views`` themselves.
        seed: see there.
        start: see there.
        autocast: see there.
        metrics: see there.

    Raises:
        ValueError: for a model without such views.

    Example:
        >>> import synthkern as synthetic
        >>> views = synthetic.ViewsConfig(hidden_dims=[6], exclusive_portion=0.25)
        >>> cfg = synthetic.SyntheticModelConfig(8, 4, seed=0, views=views)
        >>> model = synthetic.SyntheticModel(cfg)
        >>> cfg = synthetic.CrosscoderTrainingSAEConfig(d_views=[4, 6], d_sae=8, k=2)
        >>> sae = synthetic.CrosscoderTrainingSAE(cfg)
        >>> result = synthetic.eval_sae_on_views(sae, model, 1000, seed=0)
        >>> len(result.views.mcc)
        2
    """
    own: Any = getattr(sae, "cfg", None)
    if views is None:
        if not callable(getattr(own, "world_views", None)):
            raise ValueError(
                f"views must be the numbers of the views that sae encodes, as it does not say "
                f"which, got None for a {type(sae).__name__}"
            )
        views = own.world_views(len(model.view_widths))
    if target is None and getattr(own, "reconstructs_last", False):
        *views, target = views
    world = SeveralViews(model, views, target)
    world.look_at(sae)
    result, _ = _evaluated(
        world,
        sae=sae,
        num_samples=num_samples,
        batch_size=batch_size,
        activation_scaler=activation_scaler,
        seed=seed,
        start=start,
        autocast=autocast,
        wanted=check_metrics(metrics),
    )
    return result


def eval_sae_on_model(
    sae: Any, model: SyntheticModel, *arguments: Any, with_twin: bool = False, **keywords: Any
) -> SyntheticDataEvalResult:
    """An SAE in a world: in the views that it is trained on, or in the first alone, and there,
    where it is asked for, in the world's shifted twin too, if it has one.

    What follows the model is as for :func:`eval_sae_on_synthetic_data`.
    """
    if getattr(getattr(sae, "cfg", None), "view_widths", None) is not None:
        return eval_sae_on_views(sae, model, *arguments, **keywords)
    parts = model.feature_dict, model.activation_generator
    twin = shifted_generator(model) if with_twin else None
    return eval_sae_on_synthetic_data(sae, *parts, *arguments, shifted_generator=twin, **keywords)


def _evaluated(
    world: EvaluatedWorld,
    *,
    sae: InferenceSAE,
    num_samples: int,
    batch_size: int | None,
    activation_scaler: ActivationScaler | None,
    seed: int | None,
    start: int,
    autocast: bool,
    wanted: frozenset[str],
    matching: Matching | None = None,
    held_out: Sequence[tuple[int, int]] = (),
) -> tuple[SyntheticDataEvalResult, Matching]:
    """One pass over samples of a world, and the matching of latents with features."""
    activations_generator = world.generator
    kinds = chosen_metrics(wanted)
    samples = as_int("num_samples", num_samples, low=0)
    # Unseeded batches of a size that is asked for are those of a loop over generator.sample.
    is_loop = seed is None and start == 0 and batch_size is not None
    if seed is None and not is_loop and has_positions(sampler_of(_NAME, activations_generator)):
        seed, start = stream_position(seed, start)
    elif seed is not None or start:
        check_positions(_NAME, activations_generator)
    vectors = world.vectors
    size = vectors.shape
    check_methods("sae", sae, "encode", "decode")
    decoder = weight(sae, "W_dec", size[1])
    if activation_scaler is not None:
        check_methods("activation_scaler", activation_scaler, "scale", "unscale")
    if batch_size is None:
        count = min(4096, max(16, _BATCH_NUMBERS // max(1, *decoder.shape)))
        if not _is_fused(activations_generator) and samples * max(*decoder.shape, size[0]) <= _ONCE:
            # What the user wrote may look across a batch: SAELens draws one.
            count = max(1, samples)
    else:
        count = as_int("batch_size", batch_size, low=1, high=2**31 - 1)
    if as_bool("autocast", autocast):
        warn_of_slow_bfloat16(decoder.device, stacklevel=4)
    if matching is None:
        nearest = max((kind.nearest for kind in kinds), default=1)
        matching = match(decoder, vectors, nearest)

    count_of_groups = min(_GROUPS, samples, (2**31 - 1) // max(1, *decoder.shape, size[0]))
    ends = [samples * (g + 1) // count_of_groups for g in range(count_of_groups)]
    subject = Subject(
        decoder,
        vectors,
        matching,
        world.parents,
        samples,
        count_of_groups,
        seed=seed or 0,
        rescales=rescales_latents(sae),
        manifolds=world.manifolds,
        held_out=tuple(held_out),
        views=world.views,
    )
    figures = MetricSet(
        torch.from_numpy(matching.best),
        size[0],
        count_of_groups,
        [kind(subject) for kind in kinds if kind.applies(subject)],
        subject.manifolds,
    )
    progress = tqdm(
        total=samples,
        desc="evaluating",
        unit=" samples",
        unit_scale=True,
        delay=2,
        leave=False,
        disable=samples <= count,  # a single batch shows no progress, and a bar takes 0.1 ms
    )
    waiting: list[_Batch] = []
    device = decoder.device.type
    with progress, evaluating(sae):
        for done in range(0, samples, count):
            number = min(count, samples - done)
            place = 0 if seed is None else (start + done) % 2**64
            drawn, hidden, wanted_output = world.draw(number, seed, place)
            features = entries_of("activations", drawn)
            # One around this call stays.
            with torch.autocast(device, torch.bfloat16) if autocast else nullcontext():
                latents, output = _through(
                    sae, decoder, hidden, activation_scaler, skips=world.has_target
                )
            waiting.append((features, latents, wanted_output, output))
            if done + number == samples or _size(waiting) >= _TOGETHER:
                before = done + number - sum(len(batch[0]) for batch in waiting)
                figures.add_batch(*_joined(waiting), _groups(before, done + number, ends))
                waiting.clear()
            progress.update(number)
    return _result(figures, subject, wanted), matching


def _through(
    sae: InferenceSAE,
    decoder: torch.Tensor,
    hidden: torch.Tensor,
    scaler: ActivationScaler | None,
    *,
    skips: bool,
) -> tuple[Any, torch.Tensor]:
    """Latents in CSR form, and reconstructions [B, D] where the hidden activations are."""
    x = hidden if scaler is None else scaler.scale(hidden)
    # The names that end in "entries" are older.
    encode_sparse = getattr(sae, "encode_sparse", getattr(sae, "encode_entries", None))
    decode_sparse = getattr(sae, "decode_sparse", getattr(sae, "decode_entries", None))
    latents: Any = (encode_sparse or sae.encode)(x.to(decoder.device, decoder.dtype))
    check_returned("sae.encode", latents, (len(hidden), len(decoder)))
    entries = entries_of("sae.encode's result", latents)
    if decode_sparse:
        output: Any = decode_sparse(entries)
    else:
        dense = latents.to_dense() if isinstance(latents, SparseActivations) else latents
        output = sae.decode(dense)
    check_returned("sae.decode", output, (len(hidden), decoder.shape[1]))
    skip = getattr(sae, "skipped", None) if skips else None
    skipped = None if skip is None else skip(x.to(decoder.device, decoder.dtype))
    if skipped is not None:
        output = output + skipped
    if scaler is not None:
        output = scaler.unscale(output)
    return entries, output.to(hidden.device)


def _is_fused(generator: Any) -> bool:
    return isinstance(generator, ActivationGenerator) and generator.is_fused


def _size(batches: Sequence[_Batch]) -> int:
    return sum(a.nnz + b.nnz + 2 * c.numel() for a, b, c, _ in batches)


def _joined(batches: Sequence[_Batch]) -> _Batch:
    if len(batches) == 1:
        return batches[0]
    features, latents, hidden, output = zip(*batches, strict=True)
    # Of float16 on a CPU autocast refuses to join any.
    with torch.autocast(hidden[0].device.type, enabled=False):
        entries = SparseActivations.cat(features), SparseActivations.cat(latents)
        return *entries, torch.cat(hidden), torch.cat(output)


def _groups(begin: int, end: int, ends: Sequence[int]) -> Groups:
    """The groups, by where they end, that samples begin ... end - 1 are in."""
    first, last = bisect_right(ends, begin), bisect_left(ends, end)
    cuts = [begin, *ends[first:last], end]
    return Groups([b - a for a, b in pairwise(cuts)], first)


def _result(
    figures: MetricSet, subject: Subject, wanted: frozenset[str]
) -> SyntheticDataEvalResult:
    measured, per_latent, of_metrics = figures.compute()
    del per_latent["accuracy"]
    values: dict[str, Any] = {name: float(each.value) for name, each in measured.items()}
    values["dead_latents"] = int(values["dead_latents"])
    names = [f.name for f in fields(ClassificationMetrics)]
    classification = {name: values.pop(f"classification/{name}") for name in names}
    nested = {name: tree for name, tree in of_metrics.items() if name in wanted}
    for name, tree in nested.items():
        measured |= leaves(name, tree)
    matching, vectors = subject.matching, subject.vectors
    cosine = nn.functional.cosine_similarity(
        subject.decoder.detach().double().cpu(),
        vectors[torch.from_numpy(matching.best).to(vectors.device)].double().cpu(),
        dim=1,
    )
    return SyntheticDataEvalResult(
        **values,
        classification=ClassificationMetrics(**classification),
        mcc=matching.mcc,
        uniqueness=matching.uniqueness,
        standard_errors={name: float(error) for name, error in _errors(measured).items()},
        per_latent=PerLatent(
            matched_feature=matching.best,
            cosine=cosine.numpy(),
            standard_errors=_errors(per_latent),
            **{name: each.value for name, each in per_latent.items()},
        ),
        **built_metrics({name: plain(tree, _number) for name, tree in nested.items()}),
    )


def _number(measured: Measured) -> float | int:
    number: float | int = np.asarray(measured.value).item()
    return number


def _errors(measured: dict[str, Measured]) -> dict[str, Array]:
    return {name: each.error for name, each in measured.items() if each.error is not None}
