"""The Python of docs/notebook.md runs, block after block, on a finished run."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.finished_run import Run
from tests.helpers.finished_run import write_run

PAGE = Path(__file__).parents[1] / "docs" / "notebook.md"


@pytest.fixture
def birds(tmp_path, monkeypatch):
    """A folder with `runs/birds` and `robin.jpg`, as the page has it."""
    run = tmp_path / "runs/birds"
    run.mkdir(parents=True)
    write_run(run)
    (run / "results.json").write_text(json.dumps({"data": Run(run).datamodule().summary()}))
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "robin.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_blocks_of_the_page_run(birds, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/notebook.md, block {number + 1}", "exec"), names)
    assert "robin.jpg: " in capsys.readouterr().out
    assert (birds / "why.html").stat().st_size > 10_000
    assert names["why"].prediction.name == names["prediction"].classes[0]
    probability = float(names["prediction"].probabilities.max())
    assert names["why"].prediction.probability == pytest.approx(probability, rel=1e-5)


def test_the_package_and_the_function_of_one_name_are_one():
    """`handful.explain` is the package where somebody imported that first, else the function."""
    import handful
    from handful.explain import explain

    for found in (handful.explain, sys.modules["handful.explain"], explain):
        with pytest.raises(handful.UserError, match="must be a torch module, not str"):
            found("model", "robin.jpg")
