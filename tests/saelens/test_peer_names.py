"""Every public name, signature and field of SAELens' ``sae_lens.synthetic`` beside ours."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import synthkern.synthetic as ours

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer: Any = pytest.importorskip("sae_lens.synthetic")
    import sae_lens

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

MODULES = [
    "",
    *sorted(
        module.name.removeprefix("sae_lens.synthetic")
        for module in pkgutil.walk_packages(peer.__path__, "sae_lens.synthetic.")
    ),
]

#: Names that SAELens' modules hold and ours do not, with the reason.
MISSING = {
    "SAE": "SAELens' base class of SAEs; ours are TrainingSAEs, and anything is evaluated",
    "DataProvider": "a type that SAELens' trainer is annotated with",
    "SaveCheckpointFn": "a type that SAELens' trainer is annotated with",
    "get_sae_training_class": "SAELens' registry of architectures; ours is get_architecture",
    "str_to_dtype": "a helper of sae_lens.util",
}


def names_of(module: Any) -> set[str]:
    """What a module of SAELens defines, or takes from elsewhere in SAELens, without underscore."""
    names: set[str] = set()
    for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sae_lens"):
            names |= {alias.asname or alias.name for alias in node.names}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("path", MODULES)
def test_every_public_name_is_there(path: str) -> None:
    theirs = importlib.import_module("sae_lens.synthetic" + path)
    mirror = importlib.import_module("synthkern.synthetic" + path)
    lacking = {name for name in names_of(theirs) if not hasattr(mirror, name)}
    assert lacking <= set(MISSING)
    listed = getattr(theirs, "__all__", None)
    assert listed is None or set(listed) <= set(mirror.__all__)


#: Signatures that differ, with the reason.
SIGNATURES = {
    "SyntheticModel.to": "torch's own, which takes SAELens' arguments and moves the dtype too",
}


def callables() -> list[tuple[str, Any, Any]]:
    """The public functions, constructors and methods, in both packages."""
    found = []
    for name in peer.__all__:
        theirs, mine = getattr(peer, name), getattr(ours, name)
        if inspect.isclass(theirs) or inspect.isfunction(theirs):
            found.append((name, theirs, mine))
        if inspect.isclass(theirs):
            found += [
                (f"{name}.{method}", getattr(theirs, method), getattr(mine, method, None))
                for method in vars(theirs)
                if not method.startswith("_") and callable(getattr(theirs, method))
            ]
    return found


CALLABLES = callables()


@pytest.mark.parametrize(("label", "theirs", "mine"), CALLABLES, ids=[c[0] for c in CALLABLES])
def test_every_signature_begins_as_theirs(label: str, theirs: Any, mine: Any) -> None:
    assert mine is not None
    if label in SIGNATURES:
        return
    expected, given = (list(inspect.signature(f).parameters.values()) for f in (theirs, mine))
    for a, b in zip(expected, given, strict=False):
        assert (a.name, a.kind) == (b.name, b.kind)
        # Defaults that are functions, or made anew for every instance, are each package's own.
        if not callable(a.default) and "factory" not in repr(a.default):
            assert a.default == b.default
            assert (a.default is a.empty) == (b.default is b.empty)
    assert len(given) >= len(expected)
    for b in given[len(expected) :]:
        assert b.default is not b.empty or b.kind in (b.VAR_POSITIONAL, b.VAR_KEYWORD)


#: Members of SAELens' classes that ours lack, with the reason.
MEMBERS: dict[str, str] = {}

CLASSES = [name for name in peer.__all__ if inspect.isclass(getattr(peer, name))]


@pytest.mark.parametrize("name", CLASSES)
def test_every_member_and_field_is_there(name: str) -> None:
    theirs, mine = getattr(peer, name), getattr(ours, name)
    lacking = {m for m in vars(theirs) if not m.startswith("_") and not hasattr(mine, m)}
    if dataclasses.is_dataclass(theirs):
        expected = [f.name for f in dataclasses.fields(theirs)]
        assert [f.name for f in dataclasses.fields(mine)][: len(expected)] == expected
        lacking -= set(expected)
    assert {f"{name}.{m}" for m in lacking} <= set(MEMBERS)


def leaf(package: Any, feature: Any) -> Any:
    return package.HierarchyNode(feature)


def sampled(package: Any, modifier: Any) -> Any:
    return package.ActivationGenerator(3, 0.5, modify_activations=modifier).sample(2)


#: Input that one package or both refuse: what is called, and the reason where only ours does.
BAD: dict[str, tuple[Any, str | None]] = {
    "exclusion of one": (lambda p: p.HierarchyNode(0, [leaf(p, 1)], True), None),
    "exclusion of one, read": (
        lambda p: p.HierarchyNode.from_dict({"mutually_exclusive_children": True}),
        None,
    ),
    "feature in two trees": (lambda p: p.hierarchy_modifier([leaf(p, 1), leaf(p, 1)]), None),
    "no magnitude": (lambda p: p.LinearMagnitudeConfig(0.0, 1.0), None),
    "negative magnitude": (lambda p: p.ExponentialMagnitudeConfig(1.0, -1.0), None),
    "no spread": (lambda p: p.FoldedNormalMagnitudeConfig(std=0.0), None),
    "no greatest": (lambda p: p.FoldedNormalMagnitudeConfig(max_value=0.0), None),
    "crossed ends": (lambda p: p.FoldedNormalMagnitudeConfig(min_value=2, max_value=1), None),
    "no roots": (lambda p: p.HierarchyConfig(total_root_nodes=0), None),
    "branching of one": (lambda p: p.HierarchyConfig(branching_factor=1), None),
    "branching backwards": (lambda p: p.HierarchyConfig(branching_factor=(4, 2)), None),
    "portion above 1": (lambda p: p.HierarchyConfig(mutually_exclusive_portion=1.5), None),
    "no features": (lambda p: p.zipfian_firing_probabilities(0), None),
    "no exponent": (lambda p: p.zipfian_firing_probabilities(3, 0.0), None),
    "linear crossed": (lambda p: p.linear_firing_probabilities(3, 0.1, 0.2), None),
    "random without a range": (lambda p: p.random_firing_probabilities(3, 0.2, 0.2), None),
    "unknown law": (lambda p: p.get_firing_probability_class("other"), None),
    "law without a name": (lambda p: p.FiringProbabilityConfig.from_dict({}), None),
    "name taken": (
        lambda p: p.register_magnitude("constant", p.ConstantMagnitudeConfig),
        None,
    ),
    "ratio": (lambda p: p.generate_random_correlations(3, positive_ratio=2), None),
    "strengths": (lambda p: p.generate_random_correlations(3, 0.5, 0.3, 0.9, 0.1), None),
    "no rank": (lambda p: p.generate_random_low_rank_correlation_matrix(3, 0), None),
    "no model": (lambda p: p.SyntheticModelConfig(0, 3), None),
    "one vector": (
        lambda p: p.compute_superposition_stats(p.FeatureDictionary(1, 2, initializer=None)),
        None,
    ),
    "feature that is no number": (lambda p: leaf(p, "1"), "a typing error shows where it is made"),
    "feature below 0": (lambda p: leaf(p, -1), "it would index from the end"),
    "feature twice in a tree": (
        lambda p: p.hierarchy_modifier(p.HierarchyNode(0, [leaf(p, 0)])),
        "its meaning depends on the order of the tree",
    ),
    "law that cannot generate": (
        lambda p: p.ZipfianFiringProbabilityConfig(exponent=-1),
        "refused when made, where SAELens refuses when it generates",
    ),
    "probability above 1": (
        lambda p: p.ConstantFiringProbabilityConfig(1.5),
        "refused when made, where SAELens fails when it samples",
    ),
    "correlation above 1": (
        lambda p: p.create_correlation_matrix_from_correlations(2, {(0, 1): 1.5}),
        "no correlation; SAELens repairs it in silence",
    ),
    "correlation with itself": (
        lambda p: p.create_correlation_matrix_from_correlations(2, {(1, 1): 0.5}),
        "its diagonal would not be 1",
    ),
    "seed below 0": (
        lambda p: p.generate_random_correlation_matrix(3, seed=-1),
        "seeds are 64-bit numbers, the same in every function",
    ),
    "generator of nothing": (
        lambda p: p.ActivationGenerator(0, 0.5),
        "a world has a feature, as SyntheticModelConfig demands in both",
    ),
    "dictionary of nothing": (
        lambda p: p.FeatureDictionary(0, 3, initializer=None),
        "a world has a feature, as SyntheticModelConfig demands in both",
    ),
    "modifier of another shape": (
        lambda p: sampled(p, lambda acts: acts[:, :2]),
        "what is sampled would not fit the dictionary",
    ),
    "modifier that gives NaN": (
        lambda p: sampled(p, lambda acts: acts * float("nan")),
        "it would spoil a training without a word",
    ),
    "trees with more keys": (
        lambda p: p.Hierarchy.from_dict({"roots": [], "leaves": []}),
        "a misspelt key is no hierarchy; of a node's keys it is told",
    ),
    "1 for True": (
        lambda p: p.ActivationGenerator(3, 0.5, use_sparse_tensors=1),
        "a number in its place is more likely another argument",
    ),
    "class of another family": (
        lambda p: p.register_magnitude("another", p.ConstantFiringProbabilityConfig),
        "it could not be read back",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_they_refuse_is_refused_alike(case: str) -> None:
    call, reason = BAD[case]
    with pytest.raises((ValueError, TypeError)) as refused:
        call(ours)
    if reason is None:
        with pytest.raises(refused.type):
            call(peer)
    elif case != "class of another family":  # it would stay registered
        call(peer)


def probabilities_dtype(package: Any) -> Any:
    return package.ActivationGenerator(3, 0.5, dtype=torch.float64).firing_probabilities.dtype


def assigned_size(package: Any) -> Any:
    generator = package.ActivationGenerator(3, 0.5)
    try:
        generator.num_features = 4
    except AttributeError:
        return "refused"
    return generator.num_features


def an_sae() -> Any:
    torch.manual_seed(0)
    return sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(6, 8, k=2))


def mode_after_evaluation(package: Any) -> Any:
    parts = package.FeatureDictionary(8, 6, initializer=None), package.ActivationGenerator(8, 0.3)
    sae = an_sae().train()
    package.eval_sae_on_synthetic_data(sae, *parts, num_samples=20)
    return sae.training


def class_that_is_trained(package: Any) -> Any:
    cfg = package.SyntheticSAERunnerConfig(
        package.SyntheticModelConfig(8, 6), sae_lens.TopKTrainingSAEConfig(6, 8, k=2)
    )
    return type(package.SyntheticSAERunner(cfg).sae).__module__.partition(".")[0]


def patched_global(package: Any) -> Any:
    module = importlib.import_module(f"{package.__name__}.synthetic_model")
    called: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "generate_hierarchy", lambda *a, **k: called.append(a))
        package.SyntheticModel(package.SyntheticModelConfig(8, 6, hierarchy=forest(package)))
    return bool(called)


def forest(package: Any) -> Any:
    return package.HierarchyConfig(2, 2, 1)


def vectors_without_a_seed(package: Any, **parts: Any) -> Any:
    torch.manual_seed(0)
    cfg = package.SyntheticModelConfig(8, 6, **parts)
    return package.SyntheticModel(cfg).feature_dict.feature_vectors.tolist()


#: What both packages do, with another outcome each: the outcome, and the reason.
OUTCOMES: dict[str, tuple[Any, str]] = {
    "dtype of the probabilities": (
        probabilities_dtype,
        "the engine's: float32 whatever the samples are, so that a dtype moves no rate",
    ),
    "another number of features": (assigned_size, "SAELens adds columns that never fire"),
    "mode after an evaluation": (
        mode_after_evaluation,
        "an evaluation in a training must not change what is trained",
    ),
    "class of the SAE": (
        class_that_is_trained,
        "ours of the same architecture, which is faster; its files load in SAELens",
    ),
    "a module's global, patched": (
        patched_global,
        "the modules here only re-export; a subclass's method replaces a part",
    ),
    "forest without a seed": (
        lambda p: vectors_without_a_seed(p, hierarchy=forest(p)),
        "its seed is drawn from torch's generator, so that manual_seed reproduces the trees, which "
        "SAELens takes from the system; what is drawn after is then another",
    ),
    "copula without a seed": (
        lambda p: vectors_without_a_seed(p, correlation=p.LowRankCorrelationConfig(2)),
        "it is drawn from torch's generator, as the vectors after it",
    ),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_what_comes_out_otherwise(case: str) -> None:
    outcome, _ = OUTCOMES[case]
    assert outcome(ours) != outcome(peer)


def test_without_a_seed_and_a_forest_the_vectors_are_the_same() -> None:
    assert vectors_without_a_seed(ours) == vectors_without_a_seed(peer)


def test_warnings_reach_logging_as_theirs_do(caplog: pytest.LogCaptureFixture) -> None:
    for package in (ours, peer):
        caplog.clear()
        package.generate_random_low_rank_correlation_matrix(20, 10, 0.5, seed=0)
        package.SyntheticModel(
            package.SyntheticModelConfig(
                12,
                4,
                package.ConstantFiringProbabilityConfig(0.4),
                package.HierarchyConfig(2, 5, 1, 1.0, compensate_probabilities=True),
                seed=0,
            )
        )
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_their_configs_and_nodes_stand_in_place_of_ours() -> None:
    @dataclasses.dataclass
    class Steps(peer.FiringProbabilityConfig):
        """A law of a user's, written for SAELens."""

        @classmethod
        def generator_name(cls) -> str:
            return "steps"

        def generate(self, num_features: int, seed: int | None = None) -> Any:
            return peer.linear_firing_probabilities(num_features)

    fields = {
        "hierarchy": ("HierarchyConfig", {"total_root_nodes": 3, "branching_factor": (2, 3)}),
        "orthogonalization": ("OrthogonalizationConfig", {"num_steps": 2}),
        "correlation": ("LowRankCorrelationConfig", {"rank": 2}),
        "std_firing_magnitudes": ("FoldedNormalMagnitudeConfig", {"std": 0.5}),
        "mean_firing_magnitudes": ("LinearMagnitudeConfig", {"start": 1.0, "end": 2.0}),
        "firing_probability": ("ZipfianFiringProbabilityConfig", {"exponent": 0.5}),
    }
    mine, theirs = (
        ours.SyntheticModelConfig(
            20,
            6,
            seed=1,
            **{key: getattr(p, kind)(**given) for key, (kind, given) in fields.items()},
        )
        for p in (ours, peer)
    )
    assert mine == theirs
    assert type(theirs.hierarchy) is ours.HierarchyConfig
    own = ours.SyntheticModelConfig(5, 2, Steps())
    generated = ours.SyntheticModel(own).activation_generator.firing_probabilities
    assert generated.tolist() == peer.linear_firing_probabilities(5).tolist()
    assert own.to_dict()["firing_probability"] == {"generator_name": "steps"}
    tree = peer.HierarchyNode(0, [peer.HierarchyNode(1), peer.HierarchyNode(2)], True)
    assert ours.Hierarchy([tree]).to_dict() == peer.Hierarchy([tree], None).to_dict()
    recipe = peer.HierarchyConfig(2, 2, 2, 0.5)
    forests = [p.generate_hierarchy(12, recipe, seed=3).to_dict() for p in (ours, peer)]
    assert forests[0] == forests[1]


def test_an_identity_has_no_correlation() -> None:
    for n in (2, 100, 1500):
        found = ours.compute_correlation_matrix_stats(torch.eye(n))
        assert (found.rms_correlation, found.mean_correlation) == (0.0, 0.0)
