"""A disk that is full: the file is named, what was written stays, and the rest is done later."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from small_suites import assert_as_alone, bench, small_suite, write_suite

from synthkern.storage.files import save_tensors
from synthkern.suite.database import RunDatabase
from synthkern.suite.disk import is_disk_error
from synthkern.suite.plan import plan_runs

pytestmark = pytest.mark.usefixtures("one_thread")


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file may grow beyond a size: the system says EFBIG, and Python ignores its signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


#: The command where no file may grow beyond 400,000 bytes.
LIMITED = """
import resource
from synthkern.cli import main
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
raise SystemExit(main())
"""


def test_tensors_that_have_no_room(tmp_path: Path) -> None:
    path = tmp_path / "tensors.safetensors"
    tensors = {"a": torch.zeros(10_000)}
    with files_up_to(20_000), pytest.raises(OSError, match="File too large") as found:
        save_tensors(path, tensors)
    assert (found.value.errno, found.value.filename) == (errno.EFBIG, str(path))
    assert is_disk_error(found.value)
    assert not list(tmp_path.iterdir())


def test_a_database_that_has_no_room(tmp_path: Path) -> None:
    database = RunDatabase(tmp_path, create=True)
    suite = small_suite(seeds=range(100))
    planned = plan_runs(suite)
    database.add(suite.name, suite.to_dict(), planned[:3])
    with files_up_to(50_000), pytest.raises(OSError, match="disk I/O error") as found:
        database.add(suite.name, suite.to_dict(), planned)
    assert (found.value.errno, found.value.filename) == (errno.EIO, str(database.path))
    assert is_disk_error(found.value)
    assert len(database.runs()) == 3
    database.add(suite.name, suite.to_dict(), planned)
    assert len(database.runs()) == 100


def test_a_suite_on_a_full_disk(tmp_path: Path) -> None:
    out = tmp_path / "out"
    saes = {"TopK": "topk", "Wide": {"architecture": "topk", "sae": {"d_sae": 4000}}, "L": "gated"}
    write_suite(tmp_path, seeds=[0], saes=saes)
    words = ("suite.yaml", "--out", str(out), "--jobs", "1", "--no-share-batches")
    with bench(tmp_path, *words, how=("-c", LIMITED)) as process:
        text = process.communicate()[1]
    assert process.returncode == 2, text
    runs = RunDatabase(out).runs()
    assert [run.state for run in runs] == ["done", "running", "pending"]
    assert text.splitlines()[-1].startswith("synthkern: [Errno 27] File too large: '")
    assert "training_state.safetensors" in text.splitlines()[-1]
    assert_as_alone(out, runs[:1])
    with bench(tmp_path, *words) as process:
        assert process.communicate()[0]
    assert process.returncode == 0
    later = RunDatabase(out).runs()
    assert later[0] == runs[0]
    assert_as_alone(out, later)
