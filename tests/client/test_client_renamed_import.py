"""Scripts that were written for SAELens, after one rename or with none at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: What another's script does with the package, whatever its name.
SCRIPT = """
import torch
from {package} import SyntheticModel, SyntheticModelConfig
from {package}.evals import eval_sae_on_synthetic_data, mean_correlation_coefficient
from {package}.hierarchy.node import HierarchyNode
from {package}.hierarchy.modifier import hierarchy_modifier
import {package}.firing_probabilities as probabilities

tree = {{"feature_index": 0, "children": [{{"feature_index": 1}}]}}
root = HierarchyNode.from_dict(tree_dict=tree)
modifier = hierarchy_modifier(roots=[root])
assert modifier(torch.tensor([[0.0, 1.0]])).tolist() == [[0.0, 0.0]]
cfg = SyntheticModelConfig(8, 4, probabilities.ConstantFiringProbabilityConfig(0.2), seed=0)
model = SyntheticModel(cfg)
vectors = model.feature_dict.feature_vectors
assert abs(mean_correlation_coefficient(vectors, vectors) - 1) < 1e-6
assert model.sample(3).shape == (3, 4)
assert SyntheticModel.__module__.startswith("synthkern.")
"""


def run(code: str, place: Path) -> None:
    """Run a script as users do, away from the checkout: a folder named synthkern beside it wins."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=place,
    )
    assert done.returncode == 0, done.stderr


def test_a_script_with_its_import_renamed(tmp_path: Path) -> None:
    run(SCRIPT.format(package="synthkern.synthetic"), tmp_path)


def test_a_script_that_cannot_be_edited_without_saelens(tmp_path: Path) -> None:
    hide = "import sys\nclass Hidden:\n    def find_spec(self, name, *rest):\n"
    hide += "        if name.partition('.')[0] == 'sae_lens':\n"
    hide += "            raise ModuleNotFoundError(name)\nsys.meta_path.insert(0, Hidden())\n"
    gone = (
        "import importlib.util\nreal = importlib.util.find_spec\n"
        "import synthkern.synthetic._install as target\ntarget.find_spec = lambda name: None\n"
    )
    end = (
        "\nsynthkern.synthetic.uninstall()\n"
        "assert not any(name.partition('.')[0] == 'sae_lens' for name in sys.modules)\n"
    )
    install = "import synthkern.synthetic\nsynthkern.synthetic.install()\n"
    run(hide + gone + install + SCRIPT.format(package="sae_lens.synthetic") + end, tmp_path)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_a_script_that_cannot_be_edited_beside_saelens(tmp_path: Path) -> None:
    pytest.importorskip("sae_lens")
    code = "import sys, warnings\nwarnings.simplefilter('ignore')\nimport synthkern.synthetic\n"
    code += "with synthkern.synthetic.install(), synthkern.synthetic.install():\n"
    code += "    import sae_lens\n    assert sae_lens.synthetic is synthkern.synthetic\n"
    code += "".join(
        f"    {line}\n" for line in SCRIPT.format(package="sae_lens.synthetic").splitlines()
    )
    code += "from sae_lens.synthetic import SyntheticModel\n"
    code += "assert SyntheticModel.__module__.startswith('sae_lens.')\n"
    code += "assert sae_lens.synthetic is not synthkern.synthetic\n"
    run(code, tmp_path)


def test_the_package_alone_brings_no_mirror_along(tmp_path: Path) -> None:
    run("import sys, synthkern\nassert 'synthkern.synthetic' not in sys.modules\n", tmp_path)
