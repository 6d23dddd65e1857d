"""An endless dataset of a world's samples, for training."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, TypeAlias

import numpy.typing as npt
import torch
import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from synthkern._checks import as_bool, as_int, as_seed, check_keys, check_numpy_has
from synthkern.data.prefetch import is_prefetching, prefetched
from synthkern.data.windows import Windows
from synthkern.model.activation_generator import ActivationGenerator, as_entries
from synthkern.model.ownership import check_positions, draw_from, runs_own
from synthkern.model.sequences import in_sequences, length_of
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.sparse import SparseActivations, SparseArrays
from synthkern.stream import STREAM_VERSION

Array: TypeAlias = npt.NDArray[Any]

#: What a stream hands out: see the arguments ``source``, ``with_features``, ``as_numpy`` and
#: ``views``.
Batch: TypeAlias = (
    torch.Tensor
    | SparseActivations
    | tuple[torch.Tensor, SparseActivations]
    | Array
    | SparseArrays
    | tuple[Array, SparseArrays]
    | tuple[torch.Tensor, ...]
    | tuple[Array, ...]
    | tuple[tuple[torch.Tensor, ...], tuple[SparseActivations, ...]]
    | tuple[tuple[Array, ...], tuple[SparseArrays, ...]]
)


class SyntheticStream(IterableDataset[Batch]):
    """The samples of one seed's stream in batches, without end.

    Batch k holds samples start + k * B ... start + (k + 1) * B - 1, indices modulo 2**64, with the
    bits that ``source.sample(B, seed=seed, start=...)`` gives. Over R ranks of torch.distributed,
    each with W workers of a DataLoader, worker w of rank r makes the batches (w + i * W) * R + r
    for i = 0, 1, ...: ``DataLoader(stream, batch_size=None, num_workers=W)`` gives rank r the
    batches r, R + r, 2 R + r, ... in order, whatever W is.

    Ranks are those of the process group where iteration begins; in a process without one, such as
    a spawned worker's, those of the process that pickled this stream.

    **Resuming.** ``iter(stream)`` begins where the constructor or :meth:`load_state_dict` says,
    every time. :meth:`state_dict` says where the batches end that this object has handed out, and
    may be loaded under another number of ranks or workers. The workers of a DataLoader go through
    copies of the stream, and the object in the main process stays where it is: there, count the
    samples that all ranks have consumed, and begin a stream at ``start`` + that number. (A loader
    that asks its workers' datasets for their state, as torchdata's StatefulDataLoader does, needs
    no count.)

    **Sequences.** Of a world whose samples are positions of sequences (a SequenceConfig), batches
    in the order of indices are stretches of one sequence or of a few, and so are correlated: a step
    of a training would see fewer features than its batch has room for. ``shuffle`` gives batches
    whose positions are of B unrelated sequences; ``sequences`` gives whole ones.

    Args:
        source: a :class:`SyntheticModel`, whose batches are hidden activations [B, D], or an
            :class:`ActivationGenerator`, whose batches are activations [B, N] as its ``sample``
            returns them; or anything whose ``sample``, or own call, takes ``batch_size``,
            ``seed`` and ``start``. For one that takes no seed there is
            :class:`SyntheticActivationIterator`.
        batch_size: B, at least 1.
        seed: of the stream, in [0, 2**64).
        start: index of the first sample, in [0, 2**64).
        with_features: whether features come as SparseActivations: a model's batches are then
            pairs (hidden, features), a generator's are the features.
        as_numpy: whether batches are NumPy arrays in place of tensors, without a copy; those of
            SparseActivations come as a named tuple (offsets, indices, values). A DataLoader makes
            tensors of arrays again, unless it is given a ``collate_fn``.
        prefetch: how many batches a thread samples ahead of the one handed out, with as many
            threads as torch.get_num_threads() says when iteration begins; 0 for none. Modifiers
            of the user's own are then called on that thread.
        sequences: whether a batch is ``batch_size`` whole sequences, [B, T, D] or [B, T, N], of
            features [B * T, N]; ``start`` and positions then count sequences.
        shuffle: whether a batch holds one position of each of B sequences: T batches one after the
            other share B whole sequences, and hold each of their positions once, in an order that
            the seed decides; these are sampled together (by each worker of each rank that needs
            them) and held, B * T samples. ``start`` must be a multiple of ``batch_size``. In its
            own right every batch is distributed as one of the world without sequences.
        views: of a model with views, whether batches are tuples of hidden activations [B, D_v] in
            all of them, as its ``sample_views`` gives them; or the numbers of some views. With
            ``with_features`` they are pairs of tuples, as ``sample_views_with_features`` gives.

    Raises:
        ValueError: for a value out of range, ``sequences`` or ``shuffle`` for a source without
            sequences, or ``as_numpy`` where NumPy has no such array: on
            another device than the CPU, for bfloat16, or for sparse COO tensors.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> generator = synthetic.ActivationGenerator(num_features=4, firing_probabilities=0.5)
        >>> stream = synthetic.SyntheticStream(generator, batch_size=2, seed=0)
        >>> batches = iter(stream)
        >>> next(batches)
        tensor([[0., 0., 0., 1.],
                [1., 0., 0., 1.]])
        >>> next(batches).equal(generator.sample(2, seed=0, start=2))
        True
        >>> stream.state_dict()["position"]
        4
    """

    def __init__(
        self,
        source: Any,
        batch_size: int,
        seed: int,
        start: int = 0,
        *,
        with_features: bool = False,
        as_numpy: bool = False,
        prefetch: int = 2,
        sequences: bool = False,
        shuffle: bool = False,
        views: bool | Sequence[int] = False,
    ) -> None:
        check_positions("source", source)
        if isinstance(source, SyntheticModel):
            if runs_own(source, "sample", "forward"):
                check_positions("activation_generator", source.activation_generator)
            elif with_features and runs_own(source, "sample_with_features"):
                raise ValueError(
                    "with_features must be False for a model whose sample alone is the user's own, "
                    f"got {source!r}"
                )
        self.source = source
        self.batch_size = as_int("batch_size", batch_size, low=1, high=2**31 - 1)
        self.seed = as_seed("seed", seed)
        self.with_features = as_bool("with_features", with_features)
        self.as_numpy = as_bool("as_numpy", as_numpy)
        self.prefetch = as_int("prefetch", prefetch, low=0)
        self.sequences = as_bool("sequences", sequences)
        self.shuffle = as_bool("shuffle", shuffle)
        if self.sequences and self.shuffle:
            raise ValueError("shuffle must be False with sequences, which are whole, got True")
        self._length = length_of("source", source) if self.sequences or self.shuffle else 1
        self._size = self._number_of_positions()
        self._start = self._position = self._checked_position("start", start)
        self._ranks = (0, 1)
        self.views = _as_views(source, views)
        if self.as_numpy:
            _check_numpy_has_batches(source, self.with_features)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the position on; see the class."""
        rank, ranks = self.ranks
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        self._position = self._start
        return self._batches(self._start, worker * ranks + rank, workers * ranks)

    def state_dict(self) -> dict[str, int]:
        """Where the batches that were handed out end; those sampled ahead do not count.

        Returns:
            ``position``, the sample index at which the next round of batches begins (a round is
            one batch for every worker of every rank); ``seed``, ``batch_size`` and
            ``stream_version``.
        """
        return {"position": self._position, **self._identity()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the next ``iter`` begin where another stream of the same samples was.

        Raises:
            ValueError: where a key is missing or unknown, or the state is that of another seed,
                batch size or version of the stream.
            TypeError: for a value of a wrong type.
        """
        identity = self._identity()
        check_keys("state_dict", state_dict, {"position", *identity})
        for name in ("position", *identity):
            if name not in state_dict:
                raise ValueError(f"state_dict must have the key {name!r}, got {sorted(state_dict)}")
        for name, own in identity.items():
            if state_dict[name] != own:
                raise ValueError(
                    f"state_dict must have this stream's {name} {own}, got {state_dict[name]!r}"
                )
        position = self._checked_position("state_dict['position']", state_dict["position"])
        self._start = self._position = position

    def _number_of_positions(self) -> int:
        """Where positions wrap: in whole windows of what is shuffled."""
        if self.shuffle:
            window = self.batch_size * self._length
            return max(1, 2**64 // window) * window
        return 2**64 // self._length

    def _checked_position(self, name: str, value: Any) -> int:
        position = as_int(name, value, low=0, high=self._size - 1)
        if self.shuffle and position % self.batch_size:
            raise ValueError(
                f"with shuffle, {name} must be a multiple of batch_size = {self.batch_size}, "
                f"got {position}"
            )
        return position

    def __getstate__(self) -> dict[str, Any]:
        # torch.multiprocessing moves the memory of parameters that it pickles to where both
        # processes see it. A thread that samples with them would go on reading where they were,
        # so that they then go by value.
        source = pickle.dumps(self.source) if is_prefetching() else self.source
        return {**self.__dict__, "source": source, "_ranks": self.ranks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(state["source"], bytes):
            self.source = pickle.loads(state["source"])

    def _identity(self) -> dict[str, int]:
        """What decides the samples of a batch, besides the world."""
        ways = {"sequences": self.sequences, "shuffle": self.shuffle}
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "stream_version": STREAM_VERSION,
            **{name: 1 for name, is_on in ways.items() if is_on},
        }

    @property
    def ranks(self) -> tuple[int, int]:
        """The rank whose batches these are, and how many ranks share the stream."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return self._ranks

    def _batches(self, start: int, shard: int, shards: int) -> Iterator[Batch]:
        """The batches of one of the shards that share a round."""
        stride = shards * self.batch_size
        first = start + shard * self.batch_size
        sample = self._sampler()
        sampled = (self._handed(sample((first + i * stride) % self._size)) for i in count())
        for i, batch in enumerate(prefetched(sampled, self.prefetch), start=1):
            self._position = (start + i * stride) % self._size
            yield batch

    def _sampler(self) -> Callable[[int], Any]:
        """What gives the batch that begins at a position."""
        if self.shuffle:
            windows = Windows(self._sample, self.batch_size, self._length, self.seed)
            return lambda position: windows.batch(position // self.batch_size)
        if self.sequences:
            return self._sample_sequences
        return lambda position: self._sample(position, self.batch_size)

    def _sample_sequences(self, position: int) -> Any:
        length = self._length
        return _whole(self._sample(position * length, self.batch_size * length), length)

    def _sample(self, start: int, size: int) -> Any:
        position: Any = {"seed": self.seed, "start": start}
        if self.views is not None:
            return self._in_views(start, size)
        if not self.with_features:
            return self._draw(start, size)
        if isinstance(self.source, SyntheticModel):
            return self.source.sample_with_features(size, sparse=True, **position)
        if isinstance(self.source, ActivationGenerator):
            return self.source.sample_sparse(size, **position)
        return as_entries(self._draw(start, size))

    def _in_views(self, start: int, size: int) -> Any:
        """Samples in several views."""
        hidden, features = self.source.draw_views(
            size, seed=self.seed, start=start, which=self.views
        )
        return (hidden, features) if self.with_features else hidden

    @torch.no_grad()
    def _draw(self, start: int, size: int) -> Any:
        """Samples of the source's, as the source gives them."""
        drawn = draw_from("source", self.source, size, self.seed, start)
        return drawn.detach() if isinstance(drawn, torch.Tensor) else drawn

    def _handed(self, drawn: Any) -> Any:
        if not self.as_numpy:
            return drawn
        if isinstance(drawn, tuple):
            arrays: Any = tuple(self._handed(part) for part in drawn)
            return arrays
        return drawn.numpy()


def _whole(drawn: Any, length: int) -> Any:
    """Tensors [B * T, ...] as [B, T, ...], and all else as it is."""
    if isinstance(drawn, tuple):
        return tuple(_whole(part, length) for part in drawn)
    return in_sequences(drawn, length) if isinstance(drawn, torch.Tensor) else drawn


def _as_views(source: Any, views: Any) -> tuple[int, ...] | None:
    """The numbers of the views that are asked for, or None."""
    if isinstance(views, bool) and not views:
        return None
    if not isinstance(source, SyntheticModel) or source.views is None:
        raise ValueError(f"views must be False for a source without views, got {views!r}")
    count = len(source.view_widths)
    if isinstance(views, bool):
        return tuple(range(count))
    if not isinstance(views, list | tuple):
        raise TypeError(f"views must be True, False or the numbers of views, got {views!r}")
    if not views:
        raise ValueError("views must name a view at least, got none")
    return tuple(as_int("views", view, low=0, high=count - 1) for view in views)


def _check_numpy_has_batches(source: Any, with_features: bool) -> None:
    if isinstance(source, SyntheticModel):
        vectors = source.feature_dict.feature_vectors
        device, dtype = vectors.device, vectors.dtype
    elif not isinstance(source, ActivationGenerator):
        return  # what comes is seen when it comes
    elif with_features:
        device, dtype = source.device, torch.float32
    elif source.use_sparse_tensors:
        raise ValueError(
            "with as_numpy, source must have dense activations or with_features be True, "
            "got use_sparse_tensors=True"
        )
    else:
        device, dtype = source.device, source.dtype
    check_numpy_has("with as_numpy, source", device, dtype)
