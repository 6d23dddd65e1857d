"""A synthetic model: features that fire, and the hidden activations that they add up to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, overload

import torch
from torch import nn

from synthkern._checks import as_bool, as_device, as_int, check_converted
from synthkern._warnings import warn
from synthkern.model.activation_generator import ActivationGenerator, as_activations, as_entries
from synthkern.model.build import (
    build_correlation,
    build_dictionary,
    build_generator,
    build_hierarchy,
    part_seed,
)
from synthkern.model.description import WorldDescription, describe_world
from synthkern.model.device_name import DeviceName
from synthkern.model.draw_hidden import check_dictionary, check_sums, draw_hidden
from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.model.files import (
    SYNTHETIC_MODEL_CONFIG_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME,
    ModelParts,
    check_parts,
    read_model,
    saved_config,
    write_model,
)
from synthkern.model.fingerprint import has_fingerprint, world_fingerprint
from synthkern.model.hidden_noise import build_noise, noise_of
from synthkern.model.hierarchy import Hierarchy, as_hierarchy
from synthkern.model.hub import as_folder, as_repo_id, as_revision, download_files
from synthkern.model.ownership import draw_from, has_positions, own, runs_own, sampler_of
from synthkern.model.sequences import in_sequences, length_of, samples_of
from synthkern.model.shift import twin_config, twin_generator
from synthkern.model.signal_to_noise import describe_noise, signal_variance
from synthkern.model.views import DrawnViews, Views, build_views, check_views, draw_views
from synthkern.model.world_cache import WorldCache
from synthkern.sparse import SparseActivations
from synthkern.storage.paths import AnyPath, as_path
from synthkern.world.config import SyntheticModelConfig, as_model_config
from synthkern.world.correlation import LowRankCorrelationMatrix
from synthkern.world.foreign import is_foreign
from synthkern.world.presets import HUB_OWNER, PUBLISHED_16K, UNSCALED_16K
from synthkern.world.shift import TRAINING


@contextmanager
def temporary_seed(seed: int | None) -> Iterator[None]:
    """Within the block torch's global generators follow from ``seed``; after it, and after an
    error in it, they are where they were. None changes nothing.
    """
    if seed is None:
        yield
        return
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


class SyntheticModel(nn.Module):
    """A world that can be sampled: an activation generator and a feature dictionary.

    What is not given is built from the config, each part with a seed of its own that follows
    from the config's: probabilities and vectors take it itself, standard deviations seed + 1,
    means + 2, the hierarchy + 3, the correlation + 4 and the noise + 5; of views what is dealt + 7,
    a map + 8, the samples of its thresholds + 9, vectors from + 10, rotations from + 1000 on.

    Args:
        cfg: the recipe, ours or SAELens'.
        feature_dict: used as it is, with the noise that it has or without, in place of one built;
            ours, SAELens' or any module with ``feature_vectors`` [N, D] that is called with
            activations [B, N].
        activation_generator: used as it is, ours or anything that has ``sample(batch_size)`` or
            is called with a batch size and gives activations [B, N]; then ``hierarchy`` is only
            kept, and ``correlation_matrix`` is not needed.
        hierarchy: used in place of one generated; SAELens' becomes ours of the same nodes.
        correlation_matrix: used in place of one generated.
        device: where samples are made.
        views: the further views, used in place of those built.

    Attributes:
        views: the further views, or None; ``feature_dict`` is the first.
        source: the folder, by its whole path, or the "repo_id[:model_path]" that it was loaded
            from; None for one that was built.

    Raises:
        ValueError: where a given part has another size than the config.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticModelConfig(num_features=16, hidden_dim=4, seed=0)
        >>> model = synthetic.SyntheticModel(cfg)
        >>> hidden, features = model.sample_with_features(batch_size=3, seed=0)
        >>> hidden.shape, features.shape
        (torch.Size([3, 4]), torch.Size([3, 16]))
    """

    def __init__(
        self,
        cfg: SyntheticModelConfig,
        feature_dict: Any = None,
        activation_generator: Any = None,
        hierarchy: Hierarchy | None = None,
        correlation_matrix: LowRankCorrelationMatrix | None = None,
        device: torch.device | str = "cpu",
        views: Views | None = None,
    ) -> None:
        super().__init__()
        self.cfg = cfg = as_model_config("cfg", cfg)
        self.source: str | None = None
        if hierarchy is not None:
            hierarchy = as_hierarchy("hierarchy", hierarchy)
        given: Any = correlation_matrix
        if isinstance(given, list):
            correlation_matrix = LowRankCorrelationMatrix(*given)
        if correlation_matrix is not None and not isinstance(correlation_matrix, tuple):
            raise TypeError(
                f"correlation_matrix must be a tuple or None, got {correlation_matrix!r}"
            )
        if feature_dict is not None:
            sizes = tuple(check_dictionary("feature_dict", feature_dict).shape)
            _check_size("feature_dict", sizes, (cfg.num_features, cfg.hidden_dim))
        if activation_generator is not None:
            sampler_of("activation_generator", activation_generator)
            size = (getattr(activation_generator, "num_features", cfg.num_features),)
            _check_size("activation_generator", size, (cfg.num_features,))
        # What the methods below, which subclasses may override, see while there are no parts yet.
        self._asked_device = as_device("device", device)
        self._correlation: LowRankCorrelationMatrix | None = None
        self.hierarchy = self._create_hierarchy() if hierarchy is None else hierarchy
        if activation_generator is None:
            self._correlation = correlation_matrix or self._create_correlation_matrix()
        # In SAELens' order, of which draws from torch's global generator depend.
        self.feature_dict: Any = (
            self._create_feature_dict() if feature_dict is None else feature_dict
        )
        self.activation_generator: Any = (
            self._create_activation_generator()
            if activation_generator is None
            else activation_generator
        )
        self._correlation = None
        self._has_own_generator = activation_generator is not None
        if views is None:
            views = build_views(cfg, self.feature_dict, self._untwinned())
        else:
            check_views("views", views, cfg)
        self.views: Views | None = views
        self.to(self._asked_device)
        if cfg.noise is not None:
            self._add_noise(is_built=feature_dict is None)

    def _add_noise(self, *, is_built: bool) -> None:
        """Give a dictionary that was built the config's noise, which may be in proportion to what
        the parts make together.
        """
        dictionary, recipe = self.feature_dict, self.cfg.noise
        assert recipe is not None
        if noise_of(dictionary) is not None:
            return
        if not is_built:
            warn(
                "feature_dict has no noise and is used as it is: that of the config is left out; "
                "assign a HiddenNoise to its attribute noise",
                stacklevel=4,
            )
            return
        if not isinstance(dictionary, FeatureDictionary):
            raise TypeError(
                "feature_dict must be a FeatureDictionary to be given the config's noise, "
                f"got {dictionary!r}"
            )
        signal = None
        if recipe.snr_db is not None:
            parts = SimpleNamespace(feature_dict=dictionary, activation_generator=self._untwinned())
            signal = signal_variance(parts).value
        noise = build_noise(recipe, self.cfg.hidden_dim, signal, part_seed(self.cfg, 5))
        dictionary.noise = noise.to(dictionary.feature_vectors.device)

    def _untwinned(self) -> Any:
        """The generator by which noise and thresholds are set: of a twin that is built, its
        world's, as :meth:`shifted` keeps these.
        """
        shift = self.cfg.shift
        if shift is None or not shift.is_twin or self._has_own_generator:
            return self.activation_generator
        cfg = replace(self.cfg, shift=replace(shift, side=TRAINING))
        return build_generator(cfg, self.hierarchy, build_correlation(cfg))

    def _create_hierarchy(self) -> Hierarchy | None:
        """The forest, where none is given; under SAELens' name, as the next three, for subclasses
        that override it.
        """
        return build_hierarchy(self.cfg)

    def _create_correlation_matrix(self) -> LowRankCorrelationMatrix | None:
        """The copula, where neither one nor a generator is given."""
        return build_correlation(self.cfg)

    def _create_feature_dict(self) -> Any:
        """The dictionary, where none is given."""
        if self.cfg.manifolds is None:
            return build_dictionary(self.cfg)
        return build_dictionary(self.cfg, self.hierarchy)

    def _create_activation_generator(self, use_sparse_tensors: bool = False) -> Any:
        """The generator, where none is given, of :attr:`hierarchy` and the correlation."""
        generator = build_generator(self.cfg, self.hierarchy, self.correlation_matrix)
        generator.use_sparse_tensors = use_sparse_tensors
        return generator

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Follow nn.Module.to and its kin to a dtype that holds the numbers."""
        # Before the generator follows, which comes first.
        if isinstance(self.feature_dict, nn.Module):
            check_converted(self.feature_dict, fn)
        dtype = fn(self.feature_dict.feature_vectors.new_empty(0)).dtype
        check_sums(self.activation_generator, self.feature_dict, dtype)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    @property
    def correlation_matrix(self) -> LowRankCorrelationMatrix | None:
        """The low-rank correlation of the features, on the model's device; assigning gives the
        generator another, or with None independent features.
        """
        generator = getattr(self, "activation_generator", None)
        if generator is None:
            return self._correlation
        return generator.correlation if isinstance(generator, ActivationGenerator) else None

    @correlation_matrix.setter
    def correlation_matrix(self, value: LowRankCorrelationMatrix | None) -> None:
        generator = self.activation_generator
        if not isinstance(generator, ActivationGenerator):
            raise TypeError(
                "correlation_matrix can be assigned where activation_generator is an "
                f"ActivationGenerator, got {generator!r}"
            )
        generator.correlation = value

    @property
    def device(self) -> DeviceName:
        """Where samples are made: a string as in SAELens, with a torch.device's ``type`` and
        ``index``, equal to either. Assigning moves the model there.
        """
        if getattr(self, "feature_dict", None) is None:
            return DeviceName(self._asked_device)
        generator = getattr(self, "activation_generator", None)
        if isinstance(generator, ActivationGenerator) and "_plan" in vars(generator):
            return DeviceName(generator.device)
        return DeviceName(self.feature_dict.feature_vectors.device)

    @device.setter
    def device(self, device: torch.device | str) -> None:
        self.to(as_device("device", device))

    @property
    def use_sparse_tensors(self) -> bool:
        """Whether the generator returns sparse COO tensors; assigning sets it there."""
        return bool(getattr(self.activation_generator, "use_sparse_tensors", False))

    @use_sparse_tensors.setter
    def use_sparse_tensors(self, value: bool) -> None:
        self.activation_generator.use_sparse_tensors = as_bool("use_sparse_tensors", value)

    @property
    def fingerprint(self) -> str | None:
        """What this world is known by: 64 hexadecimal digits of its config and its numbers.

        Two models of one fingerprint give the same samples of a seed, on every device; another
        dtype only rounds them differently. It is computed when it is asked for, of the numbers as
        they are then: 54 ms for SynthSAEBench-16k. :mod:`synthkern.model.fingerprint` has the
        definition. None where samples depend on code of the user's: a generator, a dictionary, a
        modifier or a subclass of their own, or a hook.
        """
        dictionary, generator = self.feature_dict, self.activation_generator
        is_known = has_fingerprint(self.cfg, dictionary, generator, self.views)
        if not is_known or not runs_own(self, "sample", "forward"):
            return None
        return world_fingerprint(saved_config(self._parts()), dictionary, generator, self.views)

    @property
    def has_positions(self) -> bool:
        """Whether ``seed`` and ``start`` name samples: not where a generator, or a ``sample``, of
        the user's own takes neither.
        """
        if not runs_own(self, "sample", "forward"):
            return has_positions(sampler_of("model", self))
        return has_positions(sampler_of("activation_generator", self.activation_generator))

    @own
    @torch.no_grad()
    def sample(
        self, batch_size: int, *, seed: int | None = None, start: int = 0, noise: bool = True
    ) -> torch.Tensor:
        """Hidden activations [B, D].

        Args:
            batch_size: B, at least 0.
            seed: in [0, 2**64): samples start ... start + B - 1 of the endless stream that it
                names. None draws a fresh one from torch's global generator.
            start: index of the first sample, in [0, 2**64); indices wrap.
            noise: whether they have the noise of the dictionary; without it they are the same
                samples, noise-free.
        """
        parts = self.activation_generator, self.feature_dict
        return draw_hidden(*parts, batch_size, seed, start, features=False, noise=noise)[0]

    @overload
    def sample_with_features(
        self,
        batch_size: int,
        *,
        sparse: Literal[False] = ...,
        seed: int | None = ...,
        start: int = ...,
        noise: bool = ...,
    ) -> tuple[torch.Tensor, torch.Tensor]: ...

    @overload
    def sample_with_features(
        self,
        batch_size: int,
        *,
        sparse: Literal[True],
        seed: int | None = ...,
        start: int = ...,
        noise: bool = ...,
    ) -> tuple[torch.Tensor, SparseActivations]: ...

    @own
    @torch.no_grad()
    def sample_with_features(
        self,
        batch_size: int,
        *,
        sparse: bool = False,
        seed: int | None = None,
        start: int = 0,
        noise: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor | SparseActivations]:
        """Hidden activations [B, D] and the feature activations [B, N] that they are made of.

        Of these without rounding, ``sparse=True``, ``feature_dict(features)`` are the hidden
        activations without noise.

        Args:
            batch_size: B, at least 0.
            sparse: whether the features come as SparseActivations; else as the generator's
                ``sample`` returns them.
            seed: see :meth:`sample`.
            start: see :meth:`sample`.
            noise: see :meth:`sample`.
        """
        parts = self.activation_generator, self.feature_dict
        hidden, features = draw_hidden(*parts, batch_size, seed, start, features=True, noise=noise)
        assert features is not None
        if sparse:
            return hidden, as_entries(features)
        return hidden, self._as_tensor(features)

    @overload
    def sample_sequences(
        self,
        num_sequences: int,
        *,
        with_features: Literal[False] = ...,
        seed: int | None = ...,
        start: int = ...,
    ) -> torch.Tensor: ...

    @overload
    def sample_sequences(
        self,
        num_sequences: int,
        *,
        with_features: Literal[True],
        seed: int | None = ...,
        start: int = ...,
    ) -> tuple[torch.Tensor, SparseActivations]: ...

    def sample_sequences(
        self,
        num_sequences: int,
        *,
        with_features: bool = False,
        seed: int | None = None,
        start: int = 0,
    ) -> torch.Tensor | tuple[torch.Tensor, SparseActivations]:
        """Hidden activations [S, T, D] of whole sequences: those of
        ``sample(S * T, seed=seed, start=start * T)``.

        Args:
            num_sequences: S, at least 0.
            with_features: whether the features along time come too: SparseActivations [S * T, N],
                sequence after sequence.
            seed: see :meth:`sample`.
            start: number of the first sequence, not of its first sample.

        Raises:
            ValueError: without a SequenceConfig, or where indices of samples pass 2**64.

        Example:
            >>> import synthkern as synthetic
            >>> sequence = synthetic.SequenceConfig(length=8, feature_persistence=0.9)
            >>> cfg = synthetic.SyntheticModelConfig(16, 4, sequence=sequence, seed=0)
            >>> model = synthetic.SyntheticModel(cfg)
            >>> hidden, features = model.sample_sequences(3, with_features=True, seed=1)
            >>> hidden.shape, features.shape
            (torch.Size([3, 8, 4]), torch.Size([24, 16]))
            >>> hidden[2, 7].equal(model.sample(1, seed=1, start=2 * 8 + 7)[0])
            True
        """
        length = length_of("model", self)
        count, first = samples_of(num_sequences, start, length)
        if not as_bool("with_features", with_features):
            return in_sequences(self.sample(count, seed=seed, start=first), length)
        hidden, features = self.sample_with_features(count, sparse=True, seed=seed, start=first)
        return in_sequences(hidden, length), features

    @torch.no_grad()
    def sample_sparse(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> SparseActivations:
        """The feature activations [B, N] alone, in CSR form; see :meth:`sample`."""
        name, generator = "activation_generator", self.activation_generator
        if isinstance(generator, ActivationGenerator):
            return generator.sample_sparse(batch_size, seed=seed, start=start)
        count = as_int("batch_size", batch_size, low=0, high=2**31 - 1)
        drawn = draw_from(name, generator, count, seed, start)
        return as_entries(as_activations(name, drawn, count, self.cfg.num_features))

    @torch.no_grad()
    def sample_views(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> tuple[torch.Tensor, ...]:
        """Hidden activations [B, D_v] of the same samples in every view, view 0 those of
        :meth:`sample`; see there.

        Raises:
            ValueError: where the world has no views.

        Example:
            >>> import synthkern as synthetic
            >>> views = synthetic.ViewsConfig(hidden_dims=[6])
            >>> cfg = synthetic.SyntheticModelConfig(16, 4, seed=0, views=views)
            >>> model = synthetic.SyntheticModel(cfg)
            >>> first, second = model.sample_views(3, seed=0)
            >>> first.equal(model.sample(3, seed=0)), second.shape
            (True, torch.Size([3, 6]))
        """
        return self.draw_views(batch_size, seed=seed, start=start).hidden

    @torch.no_grad()
    def sample_views_with_features(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> tuple[tuple[torch.Tensor, ...], tuple[SparseActivations, ...]]:
        """The same, and of each view the activations that it is made of: the features [B, N], and
        where the last view is of a map's outputs, these [B, K]. See :meth:`sample_views`.
        """
        hidden, features = self.draw_views(batch_size, seed=seed, start=start)
        return hidden, features

    @torch.no_grad()
    def draw_views(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        start: int = 0,
        which: Sequence[int] | None = None,
    ) -> DrawnViews:
        """Both in some views alone, by their numbers; None is for all. See :meth:`sample_views`."""
        if self.views is None:
            raise ValueError(
                "model must have views to be sampled in several, SyntheticModelConfig(views=...), "
                "got a world without"
            )
        parts = self.activation_generator, self.feature_dict, self.views
        return draw_views(*parts, batch_size, seed, start, which)

    @property
    def view_widths(self) -> tuple[int, ...]:
        """The widths D_v of all views; of a world without views the hidden one alone."""
        if self.views is None:
            return (self.feature_dict.feature_vectors.shape[1],)
        return self.views.widths(self.feature_dict)

    def _as_tensor(self, features: torch.Tensor | SparseActivations) -> torch.Tensor:
        """Features as the generator's ``sample`` returns them, or dense."""
        if not isinstance(features, SparseActivations):
            return features
        if isinstance(self.activation_generator, ActivationGenerator):
            return self.activation_generator.as_tensor(features)
        return features.to_dense()

    @own
    def forward(self, batch_size: int, *, seed: int | None = None, start: int = 0) -> torch.Tensor:
        """Hidden activations [B, D]; see :meth:`sample`."""
        # A subclass's sample may take a batch size and nothing else.
        place = {} if seed is None and start == 0 else {"seed": seed, "start": start}
        return self.sample(batch_size, **place)  # type: ignore[arg-type]

    def describe(self) -> WorldDescription:
        """Rates, L0, magnitudes and exclusivity, level by level, the noise and the fingerprint;
        print it for a table.
        """
        generator = self.activation_generator
        if not isinstance(generator, ActivationGenerator):
            raise TypeError(
                f"activation_generator must be an ActivationGenerator to be described, "
                f"got {generator!r}"
            )
        feature_map = None if self.views is None else self.views.map
        return replace(
            describe_world(self.cfg, generator, feature_map),
            fingerprint=self.fingerprint,
            noise=describe_noise(self),
        )

    def shifted(self) -> SyntheticModel:
        """This world's twin out of its distribution; see :class:`synthkern.ShiftConfig`.

        It has the same dictionary, which is the same object, and its numbers are made of this
        model's own as they are now. It is a model like any other, whose config has the shift with
        side "evaluation", and can be saved as such.

        Raises:
            ValueError: where the config has no shift, or is a twin's already; where the generator
                does not apply what the shift forbids.
            TypeError: where the generator is not an ActivationGenerator.
        """
        cfg, generator = twin_config(self.cfg), self.activation_generator
        if not isinstance(generator, ActivationGenerator):
            raise TypeError(
                "activation_generator must be an ActivationGenerator to have a shifted twin, "
                f"got {generator!r}"
            )
        twin = twin_generator(self.cfg, self.hierarchy, generator, build_correlation(cfg))
        parts = self.feature_dict, twin, self.hierarchy
        return SyntheticModel(cfg, *parts, device=self.device, views=self.views)

    def save(self, path: AnyPath) -> None:
        """Write the model to a directory, in the field's format.

        The config and the hierarchy as JSON; the parameters, base probabilities, magnitudes and
        correlation as safetensors. Whenever the process dies, what is read there are the old
        files or the new ones, all of them; files and folders of others in the directory stay.

        Args:
            path: a directory, made where it does not exist; a symbolic link is followed.

        Raises:
            ValueError: where the generator holds what the format cannot: callables other than
                the model's hierarchy, or a full correlation matrix; for parts that are not ours.
            NotADirectoryError: where there is something else.
            OSError: where the system refuses.

        Warns where a generator or a dictionary runs code of its user's (a subclass, a patch, a
        hook), which is not saved.
        """
        write_model(path, self.check_savable(stacklevel=3))

    def check_savable(self, *, stacklevel: int = 2) -> ModelParts:
        """What :meth:`save` would write, before the work that it is to be the end of.

        Raises:
            ValueError: as :meth:`save`, which also warns as this does.
        """
        generator, dictionary = self.activation_generator, self.feature_dict
        if not isinstance(generator, ActivationGenerator):
            raise ValueError(
                "activation_generator must be an ActivationGenerator to be saved, "
                f"got {generator!r}"
            )
        if not isinstance(dictionary, FeatureDictionary):
            raise ValueError(
                f"feature_dict must be a FeatureDictionary to be saved, got {dictionary!r}"
            )
        parts = self._parts()
        check_parts(parts)
        for name, is_own in (
            ("activation_generator", runs_own(generator, "sample", "forward")),
            ("feature_dict", dictionary.is_own),
            ("views", self.views is None or self.views.is_own),
        ):
            if not is_own:
                warn(
                    f"{name} samples or maps by code or hooks of its user's "
                    f"({type(getattr(self, name)).__qualname__}), which are not saved: what is "
                    "read back is the package's own with the same numbers",
                    stacklevel=stacklevel,
                )
        return parts

    def _parts(self) -> ModelParts:
        parts = self.feature_dict, self.activation_generator, self.hierarchy, self.views
        return ModelParts(self.cfg, *parts)

    @classmethod
    def load_from_disk(cls, path: AnyPath, device: torch.device | str = "cpu") -> SyntheticModel:
        """The model that :meth:`save` wrote: it samples the same bits.

        Directories that SAELens saved are read too. It saves no magnitudes: they
        follow from the config's seed, and without one are drawn afresh, with a warning where that
        makes a difference. Only safetensors and JSON are read, nothing that could be executed.

        Args:
            path: the directory of a model's two or three files.
            device: where samples are made.

        Raises:
            FileNotFoundError: where the directory, its config or its weights are missing.
            ValueError: where the files do not make a model; it names the file, what it says and
                what was expected.
        """
        parts = read_model(path)
        model = cls(
            parts.cfg,
            parts.feature_dict,
            parts.activation_generator,
            parts.hierarchy,
            device=device,
            views=parts.views,
        )
        model.source = os.path.abspath(as_path("path", path))
        return model

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        model_path: str | None = None,
        device: torch.device | str = "cpu",
        force_download: bool = False,
        *,
        revision: str | None = None,
    ) -> SyntheticModel:
        """The model in a repository on the Hugging Face Hub; see :meth:`load_from_disk`.

        The model's own two or three files are fetched, all of one commit, and kept in the Hub
        client's cache, which also serves without a network. Needs ``pip install 'synthkern[hub]'``.
        Warns of ``decoderesearch/synth-sae-bench-16k-v1``, which is not the published world.

        Args:
            repo_id: "name" or "owner/name".
            model_path: folder in the repository; None is its root.
            device: where samples are made.
            force_download: whether to fetch again what the cache holds.
            revision: branch, tag or commit; None is the main branch.

        Raises:
            ImportError: where huggingface_hub is not installed.
            FileNotFoundError: where there is no model, or none in the cache and the Hub is out of
                reach.
            OSError: where the Hub refuses or a transfer fails.
            ValueError: where the files do not make a model.
        """
        as_bool("force_download", force_download)
        folder = download_files(
            as_repo_id("repo_id", repo_id),
            as_folder("model_path", model_path),
            (SYNTHETIC_MODEL_CONFIG_FILENAME, SYNTHETIC_MODEL_WEIGHTS_FILENAME),
            (SYNTHETIC_MODEL_HIERARCHY_FILENAME,),
            revision=None if revision is None else as_revision("revision", revision),
            force_download=force_download,
        )
        model = cls.load_from_disk(folder, device)
        _warn_of_unscaled(repo_id, model.activation_generator)
        return model

    @classmethod
    def load_from_source(
        cls,
        source: SyntheticModelConfig | AnyPath,
        device: torch.device | str = "cpu",
        *,
        cache: WorldCache | None = None,
    ) -> SyntheticModel:
        """A model built from a config, loaded from a directory or from the Hugging Face Hub.

        Args:
            source: a config; a directory, which a string is taken for where there is something of
                that name, or it starts with "/", "./", "../" or "~"; else "repo_id" or
                "repo_id:model_path" (see :meth:`from_pretrained`).
            device: where samples are made.
            cache: where a config's world is looked up, and kept once it is built; None builds it
                and writes nothing. What a subclass builds is not kept.

        Raises:
            FileNotFoundError: where the directory is missing; else as the methods it calls.
        """
        if isinstance(source, SyntheticModelConfig) or is_foreign(source, SyntheticModelConfig):
            cfg = as_model_config("source", source)
            if cache is None or cls is not SyntheticModel:
                return cls(cfg, device=device)
            parts = cache.parts(cfg, lambda: cls(cfg)._parts())
            return cls(
                cfg,
                parts.feature_dict,
                parts.activation_generator,
                parts.hierarchy,
                device=device,
                views=parts.views,
            )
        folder = local_folder("source", source)
        if folder is not None:
            return cls.load_from_disk(folder, device)
        repo_id, colon, model_path = str(source).partition(":")
        if ":" in model_path:
            raise ValueError(f"source must be 'repo_id' or 'repo_id:model_path', got {source!r}")
        model = cls.from_pretrained(repo_id, model_path if colon else None, device)
        model.source = str(source)
        return model


def _warn_of_unscaled(repo_id: str, generator: ActivationGenerator) -> None:
    """Warn of SynthSAEBench as it was uploaded first, without a setting that it is defined with."""
    if repo_id.lower() != f"{HUB_OWNER}/{UNSCALED_16K}":
        return
    if not any(forest.scales for forest in generator.plan.forests):
        warn(
            f"{repo_id} lacks scale_children_by_parent: it is not the world of the published table "
            f"(arXiv 2602.14687), which is {HUB_OWNER}/{PUBLISHED_16K}-v2 and the preset "
            f"{PUBLISHED_16K}; the preset {UNSCALED_16K} is the recipe of this one",
            stacklevel=3,
        )


def local_folder(name: str, source: Any, base: Path | None = None) -> Path | None:
    """The folder that a model's source names; None where it is a repository's name.

    Args:
        name: of the argument.
        source: as :meth:`SyntheticModel.load_from_source` takes it, but no config.
        base: that a relative path starts from; None is the working directory.

    Raises:
        TypeError: for what is neither a string nor a path.
        FileNotFoundError: where there is no such folder.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"{name} must be a config, a directory or a repo_id, got {source!r}")
    folder = (base or Path()) / as_path(name, source)
    is_marked = not isinstance(source, str) or source.startswith(("/", "./", "../", "~"))
    if not is_marked and not folder.exists():
        return None
    if not folder.is_dir():
        where = "" if base is None else f" in {base}"
        raise FileNotFoundError(f"{name} must be a directory, got {source!r}{where}")
    return folder


def shifted_generator(model: SyntheticModel) -> ActivationGenerator | None:
    """What samples a world's shifted twin; None where the world has no shift, or is a twin."""
    shift = model.cfg.shift
    if shift is None or shift.is_twin:
        return None
    found: ActivationGenerator = model.shifted().activation_generator
    return found


class _Adopted(SyntheticModel):
    """SAELens' model as one of ours: its own ``sample`` and ``save`` are called, whoever wrote
    them.
    """

    def __init__(self, model: Any) -> None:
        parts = model.feature_dict, model.activation_generator, getattr(model, "hierarchy", None)
        super().__init__(model.cfg, *parts, device=parts[0].feature_vectors.device)
        # In a tuple, as torch would take a module's module for a part of it.
        self._model = (model,)

    def sample(self, batch_size: int) -> torch.Tensor:  # type: ignore[override]
        hidden: torch.Tensor = sampler_of("model", self._model[0])(batch_size)
        return hidden.detach()

    def check_savable(self, *, stacklevel: int = 2) -> Any:
        """Nothing that could be known before: SAELens' model saves itself."""

    def save(self, path: AnyPath) -> None:
        self._model[0].save(as_path("path", path))


def is_foreign_model(value: Any) -> bool:
    """Whether ``value`` is a model of another package, SAELens' above all."""
    parts = ("cfg", "feature_dict", "activation_generator", "sample")
    return not isinstance(value, SyntheticModel) and all(hasattr(value, part) for part in parts)


def as_model(name: str, value: Any) -> SyntheticModel:
    """A model as it is; SAELens' as one of ours that draws and saves as SAELens does.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, SyntheticModel):
        return value
    if not is_foreign_model(value):
        raise TypeError(f"{name} must be a SyntheticModel, got {value!r}")
    return _Adopted(value)


def _check_size(name: str, sizes: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if sizes != expected:
        raise ValueError(f"{name} must have the size {expected} of the config, got {sizes}")
