"""A folder that cannot be written is told before a training; a mounted one can."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import synthkern as synthetic
from synthkern.sae import BatchTopKTrainingSAEConfig, make_sae
from synthkern.training import TrainingConfig, train_sae

TRAIN = """
import sys
import synthkern as synthetic
from synthkern.sae import BatchTopKTrainingSAEConfig, TrainingSAE

result = synthetic.SyntheticSAERunner(synthetic.SyntheticSAERunnerConfig(
    synthetic_model=synthetic.SyntheticModelConfig(12, 6, seed=1),
    sae=BatchTopKTrainingSAEConfig(d_in=6, d_sae=8, k=2),
    training_samples=320, batch_size=32, seed=2, eval_samples=64, output_path=sys.argv[1],
)).run()
assert TrainingSAE.load_from_disk(sys.argv[1]).W_dec.shape == result.sae.W_dec.shape
"""


def small_run(place: Path) -> synthetic.SyntheticSAERunner:
    return synthetic.SyntheticSAERunner(
        synthetic.SyntheticSAERunnerConfig(
            synthetic_model=synthetic.SyntheticModelConfig(12, 6, seed=1),
            sae=BatchTopKTrainingSAEConfig(d_in=6, d_sae=8, k=2),
            training_samples=320,
            batch_size=32,
            seed=2,
            eval_samples=64,
            output_path=str(place),
        )
    )


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_what_cannot_be_saved_is_told_before_the_training(tmp_path: Path, name: str) -> None:
    (tmp_path / "out" / name).mkdir(parents=True)
    runner = small_run(tmp_path / "out")
    before = runner.sae.W_dec.clone()
    with pytest.raises(IsADirectoryError, match=str(tmp_path / "out" / name)):
        runner.run()
    assert torch.equal(runner.sae.W_dec, before)


def test_a_checkpoint_folder_is_tried_before_the_training(tmp_path: Path) -> None:
    world = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(12, 6, seed=1))
    sae = make_sae(BatchTopKTrainingSAEConfig(d_in=6, d_sae=8, k=2))
    before = sae.W_dec.clone()
    (tmp_path / "file").touch()
    cfg = TrainingConfig(training_samples=64, batch_size=32, seed=1)
    with pytest.raises(NotADirectoryError, match=str(tmp_path / "file")):
        train_sae(sae, world, cfg, checkpoint_dir=tmp_path / "file" / "checkpoint")
    assert torch.equal(sae.W_dec, before)


def test_a_run_writes_to_a_mount_point_in_a_read_only_folder(tmp_path: Path) -> None:
    steps = ("mount -t tmpfs none {0}", "mkdir {0}/out", "mount -t tmpfs none {0}/out")
    mount = " && ".join([*steps, "mount -o remount,ro {0}"])
    command = ["unshare", "-rm", "sh", "-c"]
    mounted = mount.format(tmp_path)
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, mounted], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs mounts of its own")
    script = tmp_path.with_name("train.py")
    script.write_text(TRAIN)
    words = f"{mounted} && exec {sys.executable} {script} {tmp_path}/out"
    done = subprocess.run([*command, words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
