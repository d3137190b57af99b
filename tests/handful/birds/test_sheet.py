import runpy
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from handful.birds import ToyBirdsDataset
from handful.birds.sheet import contact_sheet


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (2, 1), (6, 3)])
def test_a_sheet_shows_classes_by_row_and_a_bird_taken_apart(rows, columns):
    birds = ToyBirdsDataset("train", 6, 4, size=32)
    sheet = np.asarray(contact_sheet(birds, rows, columns, taken_apart=3))
    assert sheet.shape == (32 * max(rows, 4), 32 * columns + 4 + 64, 3)
    for row in range(rows):
        for column in range(columns):
            tile = sheet[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
            assert np.array_equal(tile, birds[row + 6 * column][0].permute(1, 2, 0).numpy())
    right = sheet[:, 32 * columns + 4 :]
    assert np.array_equal(right[:32, :32], birds.rendering(3).image)
    assert np.array_equal(right[32:64, :32], birds.rendering(3, remove={"beak"}).image)
    assert np.array_equal(right[96:128, 32:], birds.rendering(3, remove={"feet"}).image)


def test_the_command_writes_a_sheet_and_refuses_the_impossible(tmp_path, monkeypatch, capsys):
    command = ["-m", "handful.birds", str(tmp_path / "sheet.png")]
    assert subprocess.run([sys.executable, *command, "--size", "32"]).returncode == 0
    assert Image.open(tmp_path / "sheet.png").size == (32 * 4 + 4 + 64, 32 * 4)
    monkeypatch.setattr(sys, "argv", [*command[1:], "--n_classes", "1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("handful.birds", run_name="__main__")
    assert ended.value.code == 2
    assert "n_classes must be at least 2" in capsys.readouterr().err
