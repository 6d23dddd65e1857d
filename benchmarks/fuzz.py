"""Damaged files of every kind that is read: read, or refused by name, soon and in little memory?

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --cases 40000 --seed 3
    python benchmarks/fuzz.py --kind model --first 812 --cases 1

Each case takes whole files of a kind (a model, an SAE, a checkpoint, samples, a suite, a database,
...), damages them as its number and the seed say, and reads them as a user's program does. That
must give what is there, or a ValueError or an OSError that names the file, within a minute and with
a few GiB more than the process has. Prints a table and every case that went otherwise, and ends
with status 1 where there is one.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from harness import command_line
from harness.mutations import mutate
from harness.report import Table

import synthkern as synthetic
from synthkern.data.shards import SampleJob, write_samples
from synthkern.evaluation.files import read_evaluation, write_evaluation
from synthkern.sae import TrainingSAE, get_architecture, make_sae
from synthkern.storage.files import errors_naming, read_json, write_json
from synthkern.suite.database import LATENT_COLUMNS, Outcome, RunDatabase
from synthkern.suite.plan import plan_runs
from synthkern.suite.suite import load_suite
from synthkern.training import SyntheticSAERunnerConfig, TrainingConfig, TrainingHistory, train_sae
from synthkern.training.run import TrainingRun

N, D, M, BATCH = 12, 6, 10, 32

#: Seconds that a case may take, and bytes that the process may grow by.
_SECONDS, _BYTES = 60, 4 * 2**30

WORLD = synthetic.SyntheticModelConfig(
    N,
    D,
    hierarchy=synthetic.HierarchyConfig(3, 2, 2, mutually_exclusive_portion=0.5),
    correlation=synthetic.LowRankCorrelationConfig(2, 0.2),
    seed=7,
)
JOB = SampleJob(WORLD, samples=40, seed=1, batch_size=16, what="both")
TRAINING = TrainingConfig(training_samples=4 * BATCH, batch_size=BATCH, seed=5, log_every=1)
ARCHITECTURES = ("topk", "jumprelu", "batchtopk")


@dataclass
class Kind:
    """Files that are read together.

    Attributes:
        write: makes them in a folder.
        read: reads them.
        outcomes: how many cases were read, and how many refused.
        slowest: seconds of the case that took longest.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], object]
    outcomes: dict[str, int] = field(default_factory=lambda: {"read": 0, "refused": 0})
    slowest: float = 0.0


def small_sae(architecture: str = "topk") -> TrainingSAE:
    torch.manual_seed(3)
    more = {"k": 3} if "topk" in architecture else {}
    return make_sae(get_architecture(architecture).config_class(d_in=D, d_sae=M, **more))


def write_run(folder: Path) -> None:
    train_sae(small_sae(), synthetic.SyntheticModel(WORLD), TRAINING, checkpoint_dir=folder)


def write_config(folder: Path) -> None:
    cfg = SyntheticSAERunnerConfig(synthetic_model=WORLD, sae=small_sae().cfg)
    write_json(folder / "runner_config.json", cfg.to_dict())


def read_config(folder: Path) -> None:
    path = folder / "runner_config.json"
    data = read_json(path)
    with errors_naming(path):
        SyntheticSAERunnerConfig.from_dict(data)


def write_suite(folder: Path) -> None:
    data = {
        "name": "small",
        "worlds": {"small": "world.json"},
        "saes": {"A": "topk", "B": {"architecture": "jumprelu", "sae": {"d_sae": M}}},
        "l0": [2, 3],
        "seeds": [0, 1],
        "training": {"training_samples": 64, "batch_size": BATCH, "lr": 0.01},
        "sae": {"d_sae": M},
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    write_json(folder / "world.json", WORLD.to_dict())


def read_suite(folder: Path) -> None:
    suite = load_suite(folder / "suite.yaml")
    # Anything else is a folder, or a repository on the Hub.
    if all(isinstance(world, dict) for world in suite.worlds.values()):
        with errors_naming(folder / "suite.yaml"):
            plan_runs(suite)


def write_database(folder: Path) -> None:
    place = folder.with_name("suite-of-database")
    place.mkdir()
    write_suite(place)
    suite = load_suite(place / "suite.yaml")
    database, runs = RunDatabase(folder, create=True), plan_runs(suite)
    database.add(suite.name, suite.to_dict(), runs)
    latents = {name: torch.arange(float(M)).numpy() for name in LATENT_COLUMNS}
    history = TrainingHistory([{"step": 1, "samples": 32, "loss": 0.5}])
    for run in runs:
        database.start(run.key, "0", 1, {"cpu": "x"})
        database.finish(run.key, Outcome({"mcc": 0.5}, {"mcc": 0.1}, history, latents, 1, 1, 1))


def read_database(folder: Path) -> None:
    database = RunDatabase(folder)
    database.suites()
    keys = [run.key for run in database.runs()]
    list(database.curves(keys))
    list(database.latents(keys))


def write_results(folder: Path) -> None:
    model = synthetic.SyntheticModel(WORLD)
    parts = (small_sae(), model.feature_dict, model.activation_generator)
    write_evaluation(folder, synthetic.eval_sae_on_synthetic_data(*parts, 64, BATCH, seed=1))
    TrainingHistory([{"step": 1, "samples": 32}]).save(folder / "training_history.json")


def read_results(folder: Path) -> None:
    read_evaluation(folder)
    TrainingHistory.load(folder / "training_history.json")


def write_saes(folder: Path) -> None:
    for architecture in ARCHITECTURES:
        small_sae(architecture).save_model(folder / architecture)


def read_saes(folder: Path) -> None:
    for architecture in ARCHITECTURES:
        TrainingSAE.load_from_disk(folder / architecture)


def all_kinds() -> dict[str, Kind]:
    world = synthetic.SyntheticModel(WORLD)
    return {
        "model": Kind(world.save, synthetic.SyntheticModel.load_from_disk),
        "saes": Kind(write_saes, read_saes),
        "checkpoint": Kind(
            write_run,
            lambda folder: TrainingRun(small_sae(), world, TRAINING, checkpoint_dir=folder),
        ),
        "runner config": Kind(write_config, read_config),
        "suite": Kind(write_suite, read_suite),
        "samples": Kind(
            lambda folder: write_samples(JOB, folder, show_progress=False),
            lambda folder: write_samples(JOB, folder, show_progress=False),
        ),
        "database": Kind(write_database, read_database),
        "results": Kind(write_results, read_results),
    }


def attempt(kind: Kind, folder: Path) -> str | None:
    """Read a folder: None where that went as it may, else what happened."""
    began = time.monotonic()
    signal.alarm(_SECONDS)
    try:
        kind.read(folder)
        kind.outcomes["read"] += 1
        return None
    except TimeoutError:
        return f"took more than {_SECONDS} s: {traceback.format_exc()}"
    except (ValueError, OSError) as error:
        kind.outcomes["refused"] += 1
        return None if str(folder) in str(error) else f"names no file: {traceback.format_exc()}"
    except ImportError:  # of what a config asks for and is not installed
        kind.outcomes["refused"] += 1
        return None
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
        kind.slowest = max(kind.slowest, time.monotonic() - began)


def main() -> int:
    args = _parse()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _late)
    kinds = all_kinds()
    names = [args.kind] if args.kind else list(kinds)
    failures = []
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            (Path(place) / name).mkdir()
            kinds[name].write(Path(place) / name)
        grown = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (grown + _BYTES, resource.RLIM_INFINITY))
        for number in range(args.first, args.first + args.cases):
            name = names[number % len(names)]
            work = Path(place) / "work"
            shutil.copytree(Path(place) / name, work)
            done = mutate(work, random.Random(f"{args.seed} {name} {number}"))
            trouble = attempt(kinds[name], work)
            shutil.rmtree(work)
            if trouble is not None:
                failures.append(f"--kind {name!r} --first {number} ({done}): {trouble}")
    rows = [
        (name, *(str(n) for n in kinds[name].outcomes.values()), f"{kinds[name].slowest:.2f} s")
        for name in names
    ]
    print(Table(f"{args.cases} cases", ("kind", "read", "refused", "slowest"), rows))
    for failure in failures:
        print(failure)
    return 1 if failures else 0


def _late(*_: object) -> None:
    raise TimeoutError


def _parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--kind", help="files of this kind alone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
