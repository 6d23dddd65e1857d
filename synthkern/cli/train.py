"""The command that trains an SAE, in a folder of its own."""

from __future__ import annotations

import argparse
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import torch

from synthkern.cli.arguments import (
    add_cache,
    as_count,
    as_counts,
    as_number,
    cache_of,
    world_or_source,
)
from synthkern.cli.evaluate import source_beside, table
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.sae.registry import architecture_names, get_architecture
from synthkern.sae.saelens import config_class_of
from synthkern.sae.views import ViewsTrainingSAEConfig
from synthkern.storage.files import errors_naming, read_json
from synthkern.storage.paths import as_path
from synthkern.training import SyntheticSAERunner, SyntheticSAERunnerConfig
from synthkern.training.runner import check_output_folder
from synthkern.training.runner_config import flat, set_target_l0

#: Fields of the runner's config that the command line says otherwise.
_OTHERWISE = {
    "synthetic_model",
    "sae",
    "sae_lens_version",
    "output_path",
    "logger",
    "resume",
    "training_samples",
}

#: Fields of the runner's config that are options.
_RUNNER = {f.name for f in fields(SyntheticSAERunnerConfig)} - _OTHERWISE

#: Fields of an SAE's config that follow from the world and the device.
_FOLLOW = {"d_in", "device", "metadata"}


def named_architecture(arguments: Sequence[str]) -> str | None:
    """The architecture that a command line names, itself or in its --config."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--architecture")
    parser.add_argument("--config")
    given, _ = parser.parse_known_args(arguments)
    if given.architecture is None and given.config is not None:
        return _architecture_in(read_json(as_path("--config", given.config)))
    name: str | None = given.architecture
    return name


def add_train_command(commands: Any, architecture: str | None) -> None:
    """Add "train" to a parser's commands, with an architecture's options where one is named."""
    train = commands.add_parser(
        "train",
        help="train an SAE on a world, evaluate it and save both",
        description="Train an SAE. Run again after an interruption, it continues and ends with "
        "the same weights. With --architecture NAME, --help shows that one's options too.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    _add_train_options(train)
    if architecture in _architectures():
        _add_sae_options(train, architecture)
    add_cache(train)
    train.set_defaults(run=_train)


def _architectures() -> list[str]:
    """Those that are trained on single tensors, as a world's samples are."""
    return [
        name
        for name in architecture_names()
        if not issubclass(get_architecture(name).config_class, ViewsTrainingSAEConfig)
    ]


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "world",
        metavar="WORLD",
        nargs="?",
        help="a preset, a config's JSON file, a saved model's directory or REPO[:SUBFOLDER]; "
        "may be left out with --config",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where to write")
    parser.add_argument("--config", metavar="FILE", help="a runner_config.json")
    parser.add_argument("--architecture", choices=_architectures(), help="of the SAE")
    parser.add_argument("--samples", type=as_count, help="to train on, such as 2e6")
    parser.add_argument(
        "--log", choices=("tensorboard", "wandb", "none"), help="where figures go besides"
    )
    group = parser.add_argument_group("training")
    for each in fields(SyntheticSAERunnerConfig):
        if each.name in _RUNNER:
            _add_option(group, each, SyntheticSAERunnerConfig)


def _add_sae_options(parser: argparse.ArgumentParser, architecture: str) -> None:
    config_class = get_architecture(architecture).config_class
    group = parser.add_argument_group(architecture)
    for each in fields(config_class):
        if each.name not in _FOLLOW | _RUNNER:
            _add_option(group, each, config_class)


def _add_option(group: Any, each: Field[Any], owner: type[Any]) -> None:
    """An option for a dataclass's field, named as it is with dashes."""
    name = "--" + each.name.replace("_", "-")
    default = None if each.default is MISSING else each.default
    about = "required" if each.default is MISSING else f"default: {default}"
    kind = _plain(typing.get_type_hints(owner)[each.name])
    if kind is bool:
        group.add_argument(name, action=argparse.BooleanOptionalAction, help=about)
    else:
        group.add_argument(name, type=_reader(kind), metavar=each.name.upper(), help=about)


def _plain(hint: Any) -> Any:
    """A type without the None that it may be as well."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (hint,) = [part for part in typing.get_args(hint) if part is not type(None)]
    return hint


def _reader(kind: Any) -> Callable[[str], Any]:
    if kind is int:
        return as_count
    if kind is float:
        return as_number
    if typing.get_origin(kind) is list:
        return as_counts
    return str


def _train(options: argparse.Namespace) -> int:
    cfg, model = described_run(options)
    assert cfg.seed is not None
    check_output_folder(cfg)
    torch.manual_seed(cfg.seed)
    result = SyntheticSAERunner(cfg, model, cache=cache_of(options)).run()
    print(f"{cfg.sae.architecture()} of {cfg.sae.d_sae:,} latents, written to {options.out}")
    if result.final_eval is not None:
        print(table(result.final_eval))
    return 0


def described_run(
    options: argparse.Namespace,
) -> tuple[SyntheticSAERunnerConfig[Any], SyntheticModel | None]:
    """The run that the command line and its config file describe; the former has the last word.

    A world that is a saved model's is loaded, as the SAE's width follows from it.
    """
    given = vars(options)
    out = as_path("--out", given["out"])
    data = _config_file(as_path("--config", given["config"])) if "config" in given else {}
    if given.get("world") is not None:
        world = world_or_source(given["world"])
        data["synthetic_model"] = world if isinstance(world, str) else world.to_dict()
    if data.get("synthetic_model") is None:
        raise ValueError("WORLD must be given, or a --config that names one")
    data |= {name: value for name, value in given.items() if name in _RUNNER}
    if "samples" in given:
        data["training_samples"] = given["samples"]
    # A seed, so that the same command goes on with the same samples and prints the same figures.
    if data.get("seed") is None:
        data["seed"] = 0
    data["output_path"], data["resume"] = str(out), True
    if "checkpoint_path" not in given:
        data["checkpoint_path"] = str(out / "copies")
    if "log" in given:
        places = {f"log_to_{name}": name == given["log"] for name in ("wandb", "tensorboard")}
        data["logger"] = {**data.get("logger", {}), **places}
    world, device = data["synthetic_model"], data.get("device", "cpu")
    model = SyntheticModel.load_from_source(world, device) if isinstance(world, str) else None
    width = world["hidden_dim"] if model is None else model.cfg.hidden_dim
    data["sae"] = {**_sae_config(data.get("sae"), given), "d_in": width, "device": device}
    if "target_l0" in given:
        set_target_l0(data, data.pop("target_l0"))
    return SyntheticSAERunnerConfig.from_dict(data), model


def _config_file(path: Path) -> dict[str, Any]:
    """What a runner_config.json says, of this package's or SAELens': the right kinds at least."""
    data = read_json(path)
    with errors_naming(path):
        if not isinstance(data, dict):
            raise ValueError(f"this must be a run's config, got {data!r}")
        for name, kinds in (
            ("sae", dict | None),
            ("logger", dict | None),
            ("synthetic_model", dict | str | None),
        ):
            if not isinstance(data.get(name, {}), kinds):
                raise ValueError(f"{name} must not be {data[name]!r}")
        if isinstance(data.get("synthetic_model"), str):
            data["synthetic_model"] = source_beside(path.parent, data["synthetic_model"])
        return flat(data)


def _sae_config(saved: dict[str, Any] | None, given: dict[str, Any]) -> dict[str, Any]:
    saved = dict(saved or {})
    architecture = given.get("architecture", _architecture_in({"sae": saved}))
    if architecture is None:
        raise ValueError("--architecture must be given, or a --config that names one")
    if architecture != saved.get("architecture"):
        saved = {"architecture": architecture}
    kind = config_class_of(architecture)
    names = {f.name for f in fields(kind)} - _FOLLOW - _RUNNER
    saved |= {name: value for name, value in given.items() if name in names}
    if "d_sae" not in saved:
        raise ValueError("--d-sae must be given, or a --config that has it")
    return saved


def _architecture_in(data: Any) -> str | None:
    sae = data.get("sae") if isinstance(data, dict) else None
    found: str | None = sae.get("architecture") if isinstance(sae, dict) else None
    return found
