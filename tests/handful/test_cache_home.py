"""Caches lie where they can be written, also without a home folder, and a warning says where."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from handful import cache_home as module
from handful.cache_home import cache_home, settle_cache_home
from tests.helpers.pipeline import ROOT


@pytest.fixture(autouse=True)
def unsettled(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_settled", {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()


def environment(monkeypatch, home, cache):
    for name, value in (("HOME", home), ("XDG_CACHE_HOME", cache), ("MPLCONFIGDIR", None)):
        monkeypatch.setenv(name, "")  # so that it is put back, whatever is set meanwhile
        monkeypatch.delenv(name)
        if value is not None:
            monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("cache", [None, "", "relative"])
def test_the_home_folder_where_no_absolute_path_is_given(monkeypatch, tmp_path, cache):
    environment(monkeypatch, tmp_path, cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache_home() == tmp_path / ".cache"
    assert list(tmp_path.iterdir()) == [tmp_path / "tmp"]


@pytest.mark.parametrize(
    ("home", "cache", "reason"),
    [
        ("/proc/nowhere", None, "No such file"),
        ("/dev/null/x", None, "Not a directory"),
        ("{tmp}/file", None, "Not a directory"),
        ("relative", None, "the home folder is not an absolute path"),
        ("{tmp}", "{tmp}/file", "Not a directory"),
        ("{tmp}", "{tmp}/file/x", "Not a directory"),
        ("{tmp}", "/proc/nowhere", "No such file"),
    ],
)
def test_a_private_folder_where_it_cannot_be_written(monkeypatch, tmp_path, home, cache, reason):
    (tmp_path / "file").touch()
    environment(monkeypatch, home.format(tmp=tmp_path), cache and cache.format(tmp=tmp_path))
    with pytest.warns(UserWarning, match=rf"The cache folder .* cannot be used \({reason}.*XDG_CACHE_HOME"):
        settle_cache_home()
    found = Path(os.environ["XDG_CACHE_HOME"])
    assert (found.parent, found.stat().st_mode & 0o077) == (tmp_path / "tmp", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert cache_home() == found


def test_a_folder_of_somebody_else_is_not_taken(monkeypatch, tmp_path):
    environment(monkeypatch, "/dev/null", None)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tmp" / f"handful-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="cannot be used"):
        assert cache_home().parent == tmp_path / "tmp"
    assert not cache_home().is_symlink()


def test_a_command_without_a_home(tmp_path):
    """One sentence, of ours, and no other library complains."""
    given = {**os.environ, "HOME": "/dev/null/x", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    given.pop("XDG_CACHE_HOME")
    script = "import sys; from pipelines.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", script, "report", "--run_dir", str(tmp_path / "no")],
        env=given, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    said = done.stderr.splitlines()
    assert done.returncode == 2
    assert len(said) == 2
    assert said[0].startswith("handful: warning: The cache folder /dev/null/x/.cache cannot be used")
