"""Each architecture trained here and by the field's trainer: do the outcomes agree?

    python benchmarks/fidelity.py
    python benchmarks/fidelity.py --only batchtopk,jumprelu --samples 100000 --seeds 2

Needs sae-lens beside this package. Both train on the same samples of the world
"synth-sae-bench-1k" (D = 128) with the same settings; weights at the start are each package's own,
from the same seeds of torch. Both are evaluated by this package, on the same samples. It prints a
table in Markdown: mean ± standard deviation over the seeds, and the difference of the means in
standard errors of that difference (Welch).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from harness import command_line
from tqdm.auto import tqdm

import synthkern as synthetic

WORLD = "synth-sae-bench-1k"
D, M, BATCH, LR, EVAL_SAMPLES = 128, 512, 1024, 1e-3, 50_000

#: Settings by architecture, the same for both.
SETTINGS: dict[str, dict[str, Any]] = {
    "standard": {"l1_coefficient": 3.0},
    "topk": {"k": 6},
    "batchtopk": {"k": 6},
    "matryoshka_batchtopk": {"k": 6, "matryoshka_widths": [32, 128, 512]},
    "jumprelu": {"l0_coefficient": 100.0, "jumprelu_init_threshold": 0.1},
    "gated": {"l1_coefficient": 3.0},
    "matching_pursuit": {"max_iterations": 6, "residual_threshold": 0.1},
}

#: What is compared, and how it is read from an evaluation.
FIGURES: dict[str, Callable[[synthetic.SyntheticDataEvalResult], float]] = {
    "MCC": lambda result: result.mcc,
    "F1": lambda result: result.classification.f1_score,
    "L0": lambda result: result.sae_l0,
    "explained variance": lambda result: result.explained_variance,
}


def main() -> None:
    args = _parse()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig.preset(WORLD))
    runs = [(name, seed) for name in args.only for seed in range(args.seeds)]
    found: dict[tuple[str, str], list[list[float]]] = {}
    seconds = {"here": 0.0, "there": 0.0}
    for name, seed in tqdm(runs, desc="training pairs"):
        for where, train in (("here", train_here), ("there", train_there)):
            began = time.perf_counter()
            sae = train(model, name, seed, args.samples)
            seconds[where] += time.perf_counter() - began
            result = synthetic.eval_sae_on_synthetic_data(
                sae,
                model.feature_dict,
                model.activation_generator,
                EVAL_SAMPLES,
                BATCH,
                seed=seed,
                start=2**63,
            )
            row = [read(result) for read in FIGURES.values()]
            found.setdefault((name, where), []).append(row)
    print(f"{WORLD}, M = {M}, {args.samples:,} samples, {args.seeds} seeds\n")
    print(table(args.only, found))
    print(f"\nTraining took {seconds['here']:.0f} s here and {seconds['there']:.0f} s there.")


def train_here(model: synthetic.SyntheticModel, name: str, seed: int, samples: int) -> Any:
    torch.manual_seed(seed)
    kind = synthetic.get_architecture(name)
    sae = kind(kind.config_class(d_in=D, d_sae=M, **SETTINGS[name]))
    cfg = synthetic.TrainingConfig(samples, BATCH, seed=seed, lr=LR, max_grad_norm=1.0)
    with contextlib.redirect_stderr(io.StringIO()):  # the bars of single runs
        synthetic.train_sae(sae, model, cfg)
    return sae


def train_there(model: synthetic.SyntheticModel, name: str, seed: int, samples: int) -> Any:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(seed)
    sae_class, config_class = get_sae_training_class(name)
    sae = sae_class(config_class(d_in=D, d_sae=M, **SETTINGS[name]))
    cfg = SAETrainerConfig(
        total_training_samples=samples,
        train_batch_size_samples=BATCH,
        lr=LR,
        lr_end=LR,
        logger=LoggingConfig(log_to_wandb=False),
    )
    with contextlib.redirect_stderr(io.StringIO()):  # the bars of single runs
        SAETrainer(cfg, sae, iter(synthetic.SyntheticStream(model, BATCH, seed))).fit()
    return sae


def table(names: list[str], found: dict[tuple[str, str], list[list[float]]]) -> str:
    lines = [
        "| architecture | figure | synthkern | sae-lens | difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in names:
        here, there = (torch.tensor(found[name, where]) for where in ("here", "there"))
        for column, figure in enumerate(FIGURES):
            a, b = here[:, column], there[:, column]
            error = ((a.var() + b.var()) / len(a)).sqrt()
            gap = float((a.mean() - b.mean()) / error) if error > 0 else 0.0
            lines.append(f"| {name} | {figure} | {_spread(a)} | {_spread(b)} | {gap:+.1f} errors |")
    return "\n".join(lines)


def _spread(values: torch.Tensor) -> str:
    return f"{float(values.mean()):.4f} ± {float(values.std()):.4f}"


def _parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("--samples", type=int, default=250_000, help="of each training")
    parser.add_argument("--seeds", type=int, default=5, help="at least 2")
    command_line.add_only(parser, SETTINGS, "architectures")
    args = parser.parse_args()
    if args.seeds < 2 or args.samples < 1:
        parser.error("--seeds must be at least 2 and --samples at least 1")
    return args


if __name__ == "__main__":
    main()
