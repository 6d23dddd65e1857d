"""Suites as data: worlds, SAEs, L0s and seeds, and how they are trained and evaluated."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from synthkern._checks import as_float, as_int, check_keys
from synthkern.model.synthetic_model import local_folder
from synthkern.sae.third_party import SAESource
from synthkern.storage.files import errors_naming, read_json
from synthkern.storage.paths import AnyPath, as_optional_path, as_path
from synthkern.storage.python_file import load_python_file
from synthkern.suite.axes import axis_names, read_random, read_vary
from synthkern.suite.baselines import BASELINES
from synthkern.suite.published import Published, read_published
from synthkern.suite.search import Search, read_search
from synthkern.suite.yaml_file import parse_yaml, read_yaml
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.presets import PRESETS

#: A Python file with a suite has it under this name, as a Suite or what YAML would hold.
SUITE_NAME = "SUITE"

_KEYS = {
    "name",
    "about",
    "worlds",
    "saes",
    "l0",
    "seeds",
    "world",
    "training",
    "sae",
    "vary",
    "random",
    "search",
    "published",
}
_SAE_KEYS = {"architecture", "file", "sae", "training", "vary", "baseline", "of"}

#: Keys of an SAE that is given, beside those of its source.
_GIVEN_KEYS = {each.name for each in fields(SAESource)} | {"training"}


@dataclass(frozen=True)
class SuiteSAE:
    """An SAE of a suite: one that is trained, a floor or a ceiling, or one that is given.

    Attributes:
        architecture: the name it is registered under; "" of one that is given.
        file: of Python, that defines it, or None.
        sae: fields of its config, over the suite's.
        training: fields of :class:`SyntheticSAERunnerConfig`, over the suite's.
        vary: lists of values by the field of the SAE or its training, over the suite's.
        baseline: makes it a row to compare the others with, and not an SAE that is trained:

            - "random" (a floor): as it is before training;
            - "permuted_decoder" (a floor): as it is trained, with its decoder's rows permuted
              afterwards. Where the suite has the same SAE without this, that one's training is it;
            - "frozen_decoder" (a floor): trained but for the decoder, which stays random;
            - "true_features" (a ceiling, of F1 none for encoders that are trained to tell
              overlapping features apart): the most frequent features are its latents, with
              thresholds of best F1 where the architecture has some (JumpReLU where none is said);
            - "linear_probes" (a ceiling): F1, precision and recall of logistic probes on the
              hidden activations, for 64 of the ``d_sae`` most frequent features.
        source: of an SAE that is given, which is evaluated and not trained; see
            :class:`SAESource`.

    Raises:
        ValueError: for an unknown baseline, or a source beside what only trained ones have.

    Example:
        >>> import synthkern as synthetic
        >>> wide = synthetic.SuiteSAE("topk", sae={"d_sae": 1024})
        >>> list(synthetic.load_suite("quick").with_saes({"wide TopK": wide}).saes)[-1]
        'wide TopK'
    """

    architecture: str
    file: Path | None = None
    sae: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    vary: dict[str, list[Any]] = field(default_factory=dict)
    baseline: str | None = None
    source: SAESource | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", as_optional_path("file", self.file))
        if self.baseline is not None and self.baseline not in BASELINES:
            raise ValueError(
                f"baseline must be one of {', '.join(BASELINES)}, got {self.baseline!r}"
            )
        if self.source is not None and (
            self.architecture or self.file or self.sae or self.vary or self.baseline
        ):
            raise ValueError(
                "source must be without architecture, file, sae, vary and baseline, which are of "
                f"SAEs that are trained, got {self.source.source!r}"
            )


@dataclass(frozen=True)
class Suite:
    """Worlds x SAEs x axes x L0s x seeds.

    A run asks for its L0 by what its architecture's config says in ``l0_setting``: most often a
    field of that config, or a target for the training. An architecture that has none there is
    trained once in a world and for a seed, with no L0 asked for.

    **Axes.** Any field of a world, an SAE or the training may vary: over lists in ``vary``, of
    which every combination is a run, and over points drawn in ``random``. A field is named as its
    config has it, one of a part with a dot ("hierarchy.max_depth"), and with "world.", "sae." or
    "training." before it where several have it. An SAE takes the axes on fields that its
    architecture has and that it does not set itself; what differs in others is one run to it.

    **Expressions.** Where a field takes numbers, a text is arithmetic over others of the run:
    numbers, names of fields, ``+ - * / // ** %``, parentheses, ``min``, ``max``, ``round``,
    ``floor``, ``ceil``, ``sqrt`` and ``log``. ``training_steps``, ``l0`` and ``d_in`` may be named
    too. A field of whole numbers takes the nearest one, and 2e6 where a number is given.

    Attributes:
        name: of the suite.
        about: a line on it.
        worlds: from a name to a config's dictionary, or a saved model's directory or
            REPO[:SUBFOLDER].
        saes: by name.
        l0: numbers of active latents to ask for; empty asks for none.
        seeds: of the weights and the samples.
        training: fields of :class:`SyntheticSAERunnerConfig` that all runs share.
        sae: fields of the SAEs' configs that all runs share.
        published: values that results are put beside.
        world: fields of :class:`SyntheticModelConfig` that all worlds get, over their own.
        vary: lists of values by field. ``l0`` may be one, where the suite has none besides.
        random: ``count`` points, drawn by ``seed`` (0 where it is not said), and for each field a
            mapping of ``uniform``, ``log_uniform`` or ``integers`` to [low, high], or of
            ``choices`` to a list. Numbers have six digits. More points leave those that there
            were as they are.
        search: values of more fields are looked for, or None; see :class:`Search`.

    Example:
        >>> import synthkern as synthetic
        >>> suite = synthetic.Suite.from_dict(
        ...     {
        ...         "name": "mine",
        ...         "worlds": {"toy": {"num_features": 16, "hidden_dim": 8, "seed": 0}},
        ...         "saes": {"TopK": "topk", "BatchTopK": "batchtopk"},
        ...         "l0": [2, 4],
        ...         "seeds": [0, 1],
        ...         "sae": {"d_sae": 16},
        ...     }
        ... )
        >>> suite.saes["TopK"].architecture, suite.l0
        ('topk', [2, 4])

        A sweep over the superposition, with more samples where there is less of it:

        >>> sweep = synthetic.Suite.from_dict(
        ...     {
        ...         "name": "sweep",
        ...         "worlds": {"toy": {"num_features": 16, "hidden_dim": 8, "seed": 0}},
        ...         "saes": {"TopK": "topk"},
        ...         "l0": [2],
        ...         "seeds": [0],
        ...         "sae": {"d_sae": "2 * hidden_dim"},
        ...         "training": {"training_samples": "1e6 * (hidden_dim / 8) ** 0.6"},
        ...         "vary": {"hidden_dim": [4, 8, 12]},
        ...         "random": {"count": 10, "lr": {"log_uniform": [1e-4, 1e-2]}},
        ...     }
        ... )
        >>> sweep.vary
        {'hidden_dim': [4, 8, 12]}
    """

    name: str
    about: str
    worlds: dict[str, dict[str, Any] | str]
    saes: dict[str, SuiteSAE]
    l0: list[float]
    seeds: list[int]
    training: dict[str, Any] = field(default_factory=dict)
    sae: dict[str, Any] = field(default_factory=dict)
    published: list[Published] = field(default_factory=list)
    world: dict[str, Any] = field(default_factory=dict)
    vary: dict[str, list[Any]] = field(default_factory=dict)
    random: dict[str, Any] = field(default_factory=dict)
    search: Search | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name must be a string, got {self.name!r}")
        if not self.name.isprintable() or set(self.name) & {"/", "\\"} or len(self.name) > 100:
            raise ValueError(
                "name must be part of a folder's name, of at most 100 printable characters and "
                f"without '/' and '\\', got {self.name!r}"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: AnyPath | None = None) -> Suite:
        """The suite that a mapping describes.

        Args:
            data: ``name``; ``worlds``, a list of presets and paths, or a mapping of names to
                these or to configs; ``saes``, a mapping of names to architectures or to mappings
                of ``architecture``, ``file``, ``sae``, ``training``, ``vary`` and ``baseline`` (see
                :class:`SuiteSAE`; with ``of: NAME`` for the settings of another of the SAEs), or,
                for SAEs that are given, of the fields of :class:`SAESource`; ``seeds``; and, if
                wanted, ``about``, ``l0``, ``world``, ``training``, ``sae``, ``vary``,
                ``random``, ``search`` (see :func:`read_search`) and ``published`` (see
                :func:`read_published`).
            folder: that relative paths start from; None is the working directory.

        Raises:
            ValueError: naming the part that is wrong.
            TypeError: naming it, where it is of a wrong type.
        """
        check_keys("data", data, _KEYS)
        missing = {"name", "worlds", "saes", "seeds"} - data.keys()
        if missing:
            raise ValueError(f"data must have {', '.join(sorted(missing))}, got {sorted(data)}")
        base = Path() if folder is None else as_path("folder", folder)
        worlds = _worlds(data["worlds"], base)
        return cls(
            name=data["name"],
            about=str(data.get("about", "")),
            worlds=worlds,
            saes=_saes(data["saes"], base),
            l0=[_l0(value) for value in _list("l0", data.get("l0", []))],
            seeds=[_seed(value) for value in _filled_list("seeds", data["seeds"])],
            training=_mapping("training", data.get("training", {})),
            sae=_mapping("sae", data.get("sae", {})),
            published=read_published(data.get("published", []), worlds),
            world=_mapping("world", data.get("world", {})),
            vary=read_vary("vary", data.get("vary", {})),
            random=_random(data.get("random", {})),
            search=read_search("search", data.get("search", {})),
        )

    def with_saes(self, saes: Mapping[str, SuiteSAE]) -> Suite:
        """The same with more SAEs; one of the same name takes the place of the old."""
        return Suite(**{**vars(self), "saes": {**self.saes, **saes}})

    def to_dict(self) -> dict[str, Any]:
        """What is told of the suite beside its results, as JSON types."""
        found: dict[str, Any] = {
            "name": self.name,
            "about": self.about,
            "worlds": list(self.worlds),
            "saes": list(self.saes),
            "l0": self.l0,
            "seeds": self.seeds,
            "published": [value.to_dict() for value in self.published],
        }
        search = self.search
        searched = {} if search is None else search.ranges
        if search is not None:
            found["search"] = search.to_dict()
        axes = axis_names(
            self.vary, self.random, searched, *(sae.vary for sae in self.saes.values())
        )
        # Suites without any are told of as they were before there were any.
        return {**found, "axes": axes} if axes else found


def suite_names() -> list[str]:
    """The suites that come with the package, from the shortest on."""
    return [
        "quick",
        "views",
        "laptop-sweep-l0",
        "laptop-sweep-superposition",
        "worlds",
        "laptop",
        "synth-sae-bench-16k",
        "sweep-l0",
        "sweep-superposition",
    ]


def load_suite(source: AnyPath) -> Suite:
    """The suite that a name, or the path of a YAML or Python file, stands for.

    Raises:
        ValueError: naming what is wrong, and in which file.
        FileNotFoundError: where there is no such file.

    Example:
        >>> import synthkern as synthetic
        >>> suite = synthetic.load_suite("quick")
        >>> list(suite.worlds), suite.l0, suite.seeds
        (['synth-sae-bench-1k'], [5], [0, 1])
    """
    if isinstance(source, str) and source in suite_names():
        text = (
            resources.files("synthkern.suite.suites").joinpath(f"{source}.yaml").read_text("utf-8")
        )
        return Suite.from_dict(parse_yaml(text))
    path = as_path("SUITE", source)
    if path.suffix not in (".yaml", ".yml", ".py"):
        raise ValueError(
            f"SUITE must be one of {', '.join(suite_names())} or a .yaml or .py file, got "
            f"{str(source)!r}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"SUITE must be a file, but there is no {path}")
    data = _read_python(path) if path.suffix == ".py" else read_yaml(path)
    if isinstance(data, Suite):
        return data
    with errors_naming(path):
        return Suite.from_dict(data, path.parent)


def _read_python(path: Path) -> Any:
    module = load_python_file(path)
    if not hasattr(module, SUITE_NAME):
        raise ValueError(f"{path} must define {SUITE_NAME}, but it does not")
    return getattr(module, SUITE_NAME)


def _worlds(data: Any, folder: Path) -> dict[str, dict[str, Any] | str]:
    if isinstance(data, list):
        data = {str(world): world for world in _list("worlds", data)}
    if not isinstance(data, Mapping):
        raise ValueError(f"worlds must be a list or a mapping, got {data!r}")
    return {
        str(name): _world(f"worlds[{name!r}]", world, folder)
        for name, world in _filled_mapping("worlds", data).items()
    }


def _world(name: str, data: Any, folder: Path) -> dict[str, Any] | str:
    if isinstance(data, Mapping):
        return _config(name, data)
    if not isinstance(data, str) or not data:
        raise ValueError(f"{name} must be a preset, a path or a mapping, got {data!r}")
    if data in PRESETS:
        return PRESETS[data]
    path = folder / as_path(name, data)
    if path.is_file():
        return _config(f"{name} in {path}", read_json(path))
    saved = local_folder(name, data, folder)
    return data if saved is None else str(saved.resolve())


def _config(name: str, data: Any) -> dict[str, Any]:
    """What a world's config says, with everything that it leaves out."""
    try:
        return SyntheticModelConfig.from_dict(data).to_dict()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def _saes(data: Any, folder: Path) -> dict[str, SuiteSAE]:
    given = _filled_mapping("saes", data)
    found: dict[str, SuiteSAE] = {}
    for name, each in given.items():
        found[name] = _sae(f"saes[{name!r}]", each, given, folder)
    return found


def _sae(name: str, data: Any, others: Mapping[str, Any], folder: Path) -> SuiteSAE:
    if isinstance(data, str):
        return SuiteSAE(data)
    if isinstance(data, Mapping) and "source" in data:
        return _given(name, data, folder)
    check_keys(name, data, _SAE_KEYS)
    if "of" in data:
        return _changed(name, data, others, folder)
    baseline = data.get("baseline")
    usual = BASELINES[baseline].architecture if baseline in BASELINES else None
    architecture = data.get("architecture", usual)
    if not isinstance(architecture, str):
        raise ValueError(f"{name} must have architecture, a name, got {dict(data)!r}")
    file = data.get("file")
    parts = (
        architecture,
        None if file is None else folder / as_path(f"{name}.file", file),
        _mapping(f"{name}.sae", data.get("sae", {})),
        _mapping(f"{name}.training", data.get("training", {})),
        read_vary(f"{name}.vary", data.get("vary", {})),
    )
    with _naming(name):
        return SuiteSAE(*parts, baseline=baseline)


def _given(name: str, data: Mapping[str, Any], folder: Path) -> SuiteSAE:
    check_keys(name, data, _GIVEN_KEYS)
    training = _mapping(f"{name}.training", data.get("training", {}))
    with _naming(name):
        source = SAESource.from_dict({k: v for k, v in data.items() if k != "training"}, folder)
        return SuiteSAE("", training=training, source=source)


def _changed(name: str, data: Any, others: Mapping[str, Any], folder: Path) -> SuiteSAE:
    """The baseline of another of the suite's SAEs, which has all of its settings."""
    known = [each for each, of in others.items() if not isinstance(of, Mapping) or "of" not in of]
    if data.keys() != {"baseline", "of"} or data["of"] not in known:
        raise ValueError(
            f"{name} must have baseline and of, and nothing else: the name of one of "
            f"{', '.join(known)}; got {dict(data)!r}"
        )
    other = _sae(f"saes[{data['of']!r}]", others[data["of"]], others, folder)
    if other.baseline is not None or other.source is not None:
        raise ValueError(f"{name}.of must be an SAE that is trained, got {data['of']!r}")
    with _naming(name):
        return replace(other, baseline=data["baseline"])


@contextmanager
def _naming(part: str) -> Iterator[None]:
    """Errors say which part of the suite they are about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{part}: {error}") from error


def _random(data: Any) -> dict[str, Any]:
    """The section as it is, once it is one that can be read."""
    read_random("random", data)
    return {str(name): value for name, value in data.items()}


def _seed(value: Any) -> int:
    # The largest that SQLite can store.
    return as_int("seeds", value, low=0, high=2**63 - 1)


def _l0(value: Any) -> float:
    as_float("l0", value, low=0, open_low=True)
    # A whole number stays one: some configs take no other.
    return int(value) if value == int(value) else value


def _mapping(name: str, data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{name} must be a mapping, got {data!r}")
    found = {str(key): value for key, value in data.items()}
    if len(found) < len(data):
        raise ValueError(f"{name} must have every name once, got {list(data)!r}")
    return found


def _filled_mapping(name: str, data: Any) -> dict[str, Any]:
    found = _mapping(name, data)
    if not found:
        raise ValueError(f"{name} must not be empty")
    return found


def _list(name: str, data: Any) -> list[Any]:
    if not isinstance(data, list | tuple | range):
        raise ValueError(f"{name} must be a list, got {data!r}")
    values = list(data)
    seen: dict[Any, Any] = {}
    # What cannot be a key is no value of any of the lists, and refused by who reads it.
    for value in (value for value in values if isinstance(value, Hashable)):
        if value in seen:
            raise ValueError(f"{name} must have every value once, got {seen[value]!r} twice")
        seen[value] = value
    return values


def _filled_list(name: str, data: Any) -> list[Any]:
    values = _list(name, data)
    if not values:
        raise ValueError(f"{name} must not be empty")
    return values
