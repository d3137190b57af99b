"""Pictures of maps: sizes, colours, constant maps, captions."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from handful.attribution import attribute, contributions
from handful.report import attribution_sheets
from handful.report.attribution_sheets import attribution_caption, features_sheet, method_sheet
from handful.report.overlays import captioned, data_uri, denormalise, overlay, picture, sheet
from tests.handful.attribution.nets import images, relu_classifier
from tests.handful.attribution.test_class_maps import sparse_classifier


def test_denormalise_inverts_the_normalisation():
    pixels = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    normalised = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(denormalise(normalised, mean, std), pixels)
    assert float(denormalise(9 * normalised, mean, std).amax()) == 1
    assert float(denormalise(9 * normalised, mean, std).amin()) == 0
    unknown = denormalise(normalised)
    torch.testing.assert_close(unknown.amax(dim=(1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(unknown.amin(dim=(1, 2, 3)), torch.zeros(2))
    assert not denormalise(torch.zeros(1, 3, 4, 4)).isnan().any()


def test_pictures_keep_their_shape():
    assert picture(torch.rand(3, 10, 20), 100).size == (100, 50)
    assert overlay(torch.rand(3, 10, 20), torch.rand(3, 5), side=100).size == (100, 50)


def test_pictures_keep_their_colours_and_sides():
    image = torch.zeros(3, 4, 4)
    image[0, :2] = 1  # red above
    image[2, 2:, 2:] = 1  # blue below on the right
    drawn = np.asarray(picture(image, 4))
    assert drawn[0, 3].tolist() == [255, 0, 0]
    assert drawn[3, 3].tolist() == [0, 0, 255]
    assert drawn[3, 0].tolist() == [0, 0, 0]


def test_the_map_lies_where_it_belongs():
    values = torch.zeros(4, 4)
    values[0, 3] = 1
    spread = np.ptp(colours(torch.full((3, 8, 8), 0.5), values), axis=2)
    assert spread[4, 35] > 60
    assert max(spread[35, 35], spread[35, 4], spread[4, 4]) == 0


def test_maps_of_very_small_numbers_are_drawn_like_any_other():
    image, values = torch.full((3, 8, 8), 0.5), torch.zeros(40, 40)
    values[:20, :20] = 1
    values[30, 30] = -0.5
    drawn = colours(image, values, True)
    few = torch.zeros(40, 40)
    few[3, 3], few[20, 20] = 1, 0.25  # fewer than the full strength's share of the places
    for one in (values, few):
        assert np.array_equal(colours(image, 1e-6 * one, True), colours(image, one, True))
    assert np.ptp(drawn[5, 5]) > 60
    sparse = colours(image, few, True)
    assert np.ptp(sparse[3, 3]) > 2 * np.ptp(sparse[20, 20]) > 0


def colours(image, values, signed=False):
    return np.asarray(overlay(image, values, signed, 40)).astype(int)


def test_colour_is_where_the_map_is_and_its_sign_shows():
    grey = torch.full((3, 8, 8), 0.5)
    values = torch.zeros(8, 8)
    values[:, :3] = 1.0
    values[:, 5:] = -1.0
    drawn = colours(grey, values, signed=True)
    left, middle, right = drawn[20, 2], drawn[20, 20], drawn[20, 37]
    assert left[0] > left[2] + 80
    assert right[2] > right[0] + 80
    assert middle.max() - middle.min() < 40
    unsigned = colours(grey, values)
    assert np.ptp(unsigned[20, 37]) == 0  # the negative part is not drawn
    assert np.ptp(unsigned[20, 2]) > 60


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("value", [0.0, 5.0, -2.0, float("nan")])
def test_constant_maps_leave_the_image_grey(signed, value):
    drawn = colours(torch.rand(3, 8, 8), torch.full((4, 4), value), signed)
    assert np.ptp(drawn, axis=2).max() == 0


def test_one_bright_pixel_does_not_darken_the_rest():
    values = torch.full((40, 40), 0.5)
    values[:20] = 0
    values[30, 30] = 1000.0
    drawn = colours(torch.full((3, 40, 40), 0.5), values)
    assert np.ptp(drawn[35, 5]) > 60


def test_captions_and_sheets():
    tile = captioned(Image.new("RGB", (80, 80)), ["a caption that is longer than the picture", "→ × ∂"])
    assert tile.width == 80
    assert tile.height > 80 + 2 * 12
    edge = np.asarray(captioned(Image.new("RGB", (80, 8), (255, 255, 255)), ["W" * 60]))[:, -1]
    assert (edge == 255).all()  # nothing is cut off
    whole = sheet([tile] * 5, 3, "title", gap=4)
    assert whole.width == 3 * 80 + 4 * 4
    assert whole.height > 2 * tile.height
    with pytest.raises(ValueError, match="at least one"):
        sheet([], 3)


def test_tiles_of_a_sheet_lie_row_by_row():
    tiles = [Image.new("RGB", (10, 6), (40 * number, 0, 0)) for number in range(5)]
    drawn = np.asarray(sheet(tiles, 3, gap=2))
    assert drawn.shape[:2] == (2 * 6 + 3 * 2, 3 * 10 + 4 * 2)
    for number in range(5):
        top, left = 2 + 8 * (number // 3), 2 + 12 * (number % 3)
        assert (drawn[top : top + 6, left : left + 10] == [40 * number, 0, 0]).all()
    assert (drawn[10:16, 26:] == 255).all()  # where a sixth would be


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_data_uri_holds_the_picture(kind):
    uri = data_uri(Image.new("RGB", (7, 5), (200, 10, 10)), kind)
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        assert image.size == (7, 5)
        assert image.format == kind


def test_captions_tell_target_probability_and_what_is_missed():
    model, x, names = relu_classifier(), images(2), list("abcd")
    found = attribute(model, x, torch.tensor([2, 0]), method="integrated_gradients", steps=2)
    lines = attribution_caption(found, 0, names)
    assert lines[:2] == ["c", f"p = {float(found.probabilities[0]):.3f}"]
    assert lines[2] == f"misses {float(found.completeness[0]):+.2g} of {float(found.scores[0]):.2f}"
    plain = attribute(model, x, lambda logits: logits[:, 0], method="gradient")
    assert attribution_caption(plain, 1, names) == [f"score {float(plain.scores[1]):.2f}"]


def test_sheets_have_a_tile_for_every_map():
    model, x = sparse_classifier(), images(3)
    pixels = denormalise(x)
    found = attribute(model, x, method="cam")
    drawn = method_sheet(pixels, found, list("abcd"), ["one", "two", "three"], side=40, columns=2)
    assert drawn.width >= 4 * 40
    features = features_sheet(pixels, contributions(model, x), list("abcd"), ["one", "two", "three"], 2, side=40)
    assert features.height >= 3 * 40


@pytest.fixture
def tiles(monkeypatch):
    """The tiles of a sheet as they are put together: pictures with their captions."""
    kept = []

    def keep(image, lines, size):
        kept.append((image, lines))
        return captioned(image, lines, size)

    monkeypatch.setattr(attribution_sheets, "captioned", keep)
    return kept


def test_each_map_stands_beside_its_own_image(tiles):
    model, x = sparse_classifier(), images(3)
    pixels, names = denormalise(x), list("abcd")
    for method in ("cam", "gradcam"):
        tiles.clear()
        found = attribute(model, x, torch.tensor([2, 0, 3]), method=method)
        method_sheet(pixels, found, names, ["one", "two", "three"], side=40)
        assert len(tiles) == 6
        for row, title in enumerate(["one", "two", "three"]):
            (image, label), (drawn, lines) = tiles[2 * row : 2 * row + 2]
            assert label == [title]
            assert np.array_equal(image, picture(pixels[row], 40))
            assert lines == attribution_caption(found, row, names)
            assert np.array_equal(drawn, overlay(pixels[row], found.map()[row], method == "cam", 40))


def test_each_feature_stands_in_its_images_row(tiles, monkeypatch):
    monkeypatch.setattr(attribution_sheets, "sheet", lambda every, columns, title: (every, columns))
    model, x = sparse_classifier(), images(3)
    pixels, parts = denormalise(x), contributions(model, x, torch.tensor([0, 1, 3]))
    every, columns = features_sheet(pixels, parts, list("abcd"), ["one", "two", "three"], 2, side=40)
    expected = []
    for row, (title, target) in enumerate([("one", 0), ("two", 1), ("three", 3)]):
        logit = float(parts.logits[row, target])
        expected.append((picture(pixels[row], 40), [title, f"{'abcd'[target]}: {logit:.2f}"]))
        for feature in parts.values[row].abs().argsort(descending=True)[: 1 if target == 1 else 2].tolist():
            part = parts.weights[row, feature] * parts.maps[row, feature]
            lines = [f"feature {feature}", f"w·f = {float(parts.values[row, feature]):+.2f}"]
            expected.append((overlay(pixels[row], part, True, 40), lines))
    assert [lines for _, lines in tiles] == [lines for _, lines in expected]
    assert all(np.array_equal(drawn, wanted) for (drawn, _), (wanted, _) in zip(tiles, expected, strict=True))
    assert (len(every), columns) == (9, 3)
    assert (np.asarray(every[5]) == 255).all()  # the class of one feature has an empty place
