import numpy as np
import torch

from handful.report.information_maps import comparison_sheet, episode_sheet, information_sheet


def test_a_row_an_image_and_a_column_a_map() -> None:
    images = torch.rand(3, 3, 20, 20)
    maps = {"general": torch.randn(3, 10, 10), "sufficient": torch.rand(3, 10, 10), "keep": torch.rand(3, 10, 10)}
    one, more = information_sheet(images[:1], {k: v[:1] for k, v in maps.items()}), information_sheet(images, maps)
    assert more.width == one.width
    assert more.height > 2.5 * one.height
    narrow = information_sheet(images, {"sufficient": maps["sufficient"]})
    assert narrow.width < 0.6 * more.width


def test_a_map_lights_the_place_it_marks() -> None:
    images, values = torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, 32, 32)
    values[0, 4:10, 20:28] = 1.0
    sheet = np.asarray(information_sheet(images, {"sufficient": values}, side=64)).astype(int)
    colourful = np.abs(sheet[..., 0] - sheet[..., 2]) > 60
    rows, columns = np.nonzero(colourful)
    half = sheet.shape[1] // 2
    assert (columns > half).all()
    assert rows.max() < 40
    assert len(rows) > 100


def test_networks_stand_side_by_side() -> None:
    images = torch.rand(2, 3, 16, 16)
    maps = {name: {"sufficient": torch.rand(2, 8, 8)} for name in ("early", "late")}
    both = comparison_sheet(images, maps, ["sufficient"])
    one = comparison_sheet(images, {"early": maps["early"]}, ["sufficient"])
    assert both.width > 1.3 * one.width


def test_an_episode_has_a_row_a_class() -> None:
    pictures, maps = torch.rand(5, 3, 16, 16), torch.rand(5, 16, 16)
    names = list("abcde")
    sheet = episode_sheet(pictures, maps, pictures, {"general": maps, "sufficient": maps}, names, names)
    assert sheet.height > 5 * 120
    assert sheet.width > 5 * 120
