"""Where the batches of a training come from: a stream with positions, or any iterable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from synthkern.data.synthetic_stream import SyntheticStream
from synthkern.evaluation.evaluate import eval_sae_on_model
from synthkern.evaluation.metrics import IN_TRAINING
from synthkern.model.synthetic_model import SyntheticModel, as_model, is_foreign_model
from synthkern.training.batches import hidden_batches, joined_batches
from synthkern.training.config import TrainingConfig
from synthkern.training.scaler import ActivationScaler

#: What batches may come from; see :func:`train_sae`.
Source: TypeAlias = (
    SyntheticModel | SyntheticStream | Iterable[torch.Tensor] | Iterable[Sequence[torch.Tensor]]
)

#: Figures of an SAE in training, by name.
Evaluator: TypeAlias = Callable[[Any, ActivationScaler], Mapping[str, float]]

#: Evaluations look at samples from here on, which no training gets to.
EVALUATION_START = 2**63


class BatchSource:
    """The batches of a training, whatever they come from.

    Args:
        source: a model, a stream or an iterable, see :func:`train_sae`.
        cfg: with the seed of the stream.
        sae_cfg: the SAE's config; its ``d_in`` is the width of batches, and ``view_widths`` D_v of
            one that is trained on tuples of tensors [B, D_v].
        dtype: of the SAE.
        device: of the SAE.

    Attributes:
        model: whose samples these are, or None for an iterable.
        stream: of the model where its samples have positions, else None.
    """

    def __init__(
        self,
        source: Source,
        cfg: TrainingConfig,
        sae_cfg: Any,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        width: int | None = getattr(sae_cfg, "d_in", None)
        view_widths: tuple[int, ...] | None = getattr(sae_cfg, "view_widths", None)
        views = None if view_widths is None else _views_of(source, sae_cfg, view_widths)
        if is_foreign_model(source):
            source = as_model("source", source)
        self.model = source if isinstance(source, SyntheticModel) else None
        self.stream: SyntheticStream | None = None
        given: Iterable[Any] = ()
        if self.model is not None and not self.model.has_positions:
            # What has no seed and no index is sampled one batch after the other.
            given = _unseeded(self.model, cfg.batch_size, views)
        elif self.model is not None:
            assert cfg.seed is not None
            self.stream = _WholeStream(self.model, cfg.batch_size, cfg.seed, views=views or False)
            # A thread that samples ahead competes with the step: on SynthSAEBench-16k and two
            # cores a run took 9% longer with it than on one batch in memory, and no longer without
            # it (medians of 7 runs in turn).
            if self.model.device.type == device.type:
                self.stream.prefetch = 0
        elif isinstance(source, SyntheticStream):
            self.stream = _checked(source, cfg, views)
            self.model = self.stream.source
        elif isinstance(source, Iterable):
            given = source
        else:
            raise TypeError(f"source must be a model, a stream or an iterable, got {source!r}")
        self._given = (
            hidden_batches(given, width, dtype)
            if view_widths is None
            else joined_batches(given, view_widths, dtype)
        )
        #: For functions of the caller's, as SAELens' trainer has it: what a stream trains on is not
        #: moved on by them.
        self.data_provider: Iterator[Any] = self._given
        if self.model is not None and self.stream is not None:
            self.data_provider = _unseeded(self.model, cfg.batch_size, views)
        elif isinstance(source, Iterator):
            self.data_provider = source
        self._views = views
        self._first = 0 if self.stream is None else self.stream.state_dict()["position"]

    def batches(self, step: int) -> Iterator[torch.Tensor]:
        """The batches from a step on; those of an iterable go on where they are."""
        if self.stream is None:
            return self._given
        # The user's own stays where it is.
        stream: SyntheticStream = object.__new__(type(self.stream))
        stream.__dict__.update(vars(self.stream))
        # A step consumes a batch of each rank that shares the stream.
        stride = stream.batch_size * stream.ranks[1]
        position = (self._first + step * stride) % 2**64
        stream.load_state_dict({**stream.state_dict(), "position": position})
        return _hidden(stream)

    def evaluator(self, cfg: TrainingConfig) -> Evaluator | None:
        """Evaluates on samples of the model: where it has seeds, on others than the training."""
        model, views = self.model, self._views
        seed = None if self.stream is None else self.stream.seed
        if model is None or not cfg.eval_samples:
            return None
        place: dict[str, Any] = {} if seed is None else {"seed": seed, "start": EVALUATION_START}
        if views is not None:
            place["views"] = views

        def evaluate(sae: Any, scaler: ActivationScaler) -> Mapping[str, float]:
            return eval_sae_on_model(
                sae,
                model,
                cfg.eval_samples,
                cfg.batch_size,
                scaler,
                **place,
                metrics=IN_TRAINING,
            ).to_log_dict()

        return evaluate

    def fingerprint(self) -> dict[str, Any]:
        """What decides the samples of a stream; see :mod:`synthkern.training.fingerprint`."""
        stream = self.stream
        if stream is None:
            return {}
        assert self.model is not None
        found: dict[str, Any] = {"stream": stream.state_dict(), "world": self.model.cfg.to_dict()}
        if stream.views is not None:
            found["views"] = list(stream.views)
        rank, ranks = stream.of_group if isinstance(stream, _WholeStream) else stream.ranks
        if ranks > 1:
            found["rank"] = rank
        if stream.ranks[1] > 1:
            found["ranks"] = ranks
        return found


def _views_of(source: Any, cfg: Any, widths: tuple[int, ...]) -> tuple[int, ...] | None:
    """The views of a world that an SAE is trained on; None for an iterable of tuples."""
    is_stream = isinstance(source, SyntheticStream)
    world = source.source if is_stream else source
    has_views = isinstance(world, SyntheticModel) and world.views is not None
    if not has_views:
        is_world = is_stream or isinstance(world, SyntheticModel) or is_foreign_model(world)
        if isinstance(source, Iterable) and not is_world:
            return None
        raise ValueError(
            f"source must be an iterable of tuples of {len(widths)} tensors [B, D_v], of the "
            f"widths {list(widths)}, or a world with such views, for such an SAE, got a "
            f"{type(source).__name__}"
        )
    views = source.views if is_stream else cfg.world_views(len(world.view_widths))
    there = dict(enumerate(world.view_widths))
    got = None if views is None else [there.get(view) for view in views]
    if got != list(widths):
        raise ValueError(
            f"source must have views of the widths {list(widths)} of the SAE, got "
            f"{'a stream of single tensors' if got is None else got} of a world whose views have "
            f"{list(there.values())}"
        )
    return tuple(views)


class _WholeStream(SyntheticStream):
    """A stream that every rank of a process group has whole."""

    @property
    def ranks(self) -> tuple[int, int]:
        """The only one of one."""
        return 0, 1

    @property
    def of_group(self) -> tuple[int, int]:
        """The rank of this process, and how many there are."""
        return super().ranks


def _checked(
    stream: SyntheticStream, cfg: TrainingConfig, views: tuple[int, ...] | None
) -> SyntheticStream:
    if stream.views != views:
        raise ValueError(
            "source must be a stream of single tensors for an SAE that is trained on such, got one "
            f"of the views {stream.views}"
        )
    if not isinstance(stream.source, SyntheticModel) or stream.with_features or stream.as_numpy:
        raise ValueError(
            "source must be a stream of hidden activations as tensors and nothing else"
        )
    if stream.batch_size != cfg.batch_size:
        raise ValueError(
            f"source must have the config's batch_size {cfg.batch_size}, got {stream.batch_size}"
        )
    return stream


def _unseeded(
    model: SyntheticModel, batch_size: int, views: tuple[int, ...] | None
) -> Iterator[Any]:
    while True:
        if views is None:
            yield model(batch_size)
        else:
            yield model.draw_views(batch_size, which=views).hidden


def _hidden(stream: SyntheticStream) -> Iterator[torch.Tensor]:
    for batch in stream:
        if stream.views is not None:
            yield torch.cat(batch, dim=1)  # type: ignore[arg-type]
            continue
        assert isinstance(batch, torch.Tensor)
        yield batch
