"""The figures of class-specific filters: what they draw is what they were given."""

import numpy as np
import torch
from torch import nn

from handful.networks import Classifier, DenseHead
from handful.report.class_filters import accuracy_grid_figure, class_filters_figure, draw_class_filters, spotlight


def test_the_grid_writes_every_number_in_its_cell():
    accuracy = torch.tensor([[60.8, 91.73, 1.0], [10.456, 20.0, 30.0]])
    axes = accuracy_grid_figure((3, 0.5), (1, 5, 64), accuracy, dense=91.73).axes[0]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written[(1, 0)] == "91.73"
    assert written[(0, 1)] == "10.46"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["3", "0.5"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "5", "64"]
    assert "91.73" in axes.get_title()


def test_the_light_falls_where_the_map_is_high():
    images = torch.ones(1, 2, 3, 8, 8)
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 0, 0, 1] = 4
    maps[0, 1, 1, 0] = 2  # on the scale of the row: half as bright
    maps[0, 1, 0, 0] = -9
    lit = spotlight(images, maps, dim=0.2)
    assert lit[0, 0, 0, 0, 7] == 1
    assert lit[0, 0, 0, 7, 0] == torch.tensor(0.2)
    torch.testing.assert_close(lit[0, 1, 0, 7, 0], torch.tensor(0.6))
    assert lit.min() == torch.tensor(0.2)
    assert torch.equal(spotlight(images, torch.zeros(1, 2, 2, 2), dim=0.5), images / 2)


def test_a_class_is_drawn_row_by_row():
    generator = torch.Generator().manual_seed(0)
    images, maps = torch.rand(2, 3, 3, 8, 8, generator=generator), torch.rand(2, 3, 4, 4, generator=generator)
    figure = class_filters_figure("bird", ["filter 4", "filter 9"], images, maps, [["a", "b", "c"], ["d", "e", "f"]])
    assert len(figure.axes) == 12
    second = figure.axes[6]
    assert second.get_ylabel() == "filter 9"
    assert [figure.axes[i].get_title(loc="left") for i in (6, 8, 10)] == ["d", "e", "f"]
    np.testing.assert_array_equal(figure.axes[8].images[0].get_array(), images[1, 1].permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(
        figure.axes[9].images[0].get_array(), spotlight(images, maps)[1, 1].permute(1, 2, 0).numpy()
    )


class Squares:
    """Image i is one bright pixel in a corner, normalised; label i mod 2."""

    def __getitem__(self, index):
        image = torch.zeros(3, 4, 4)
        image[index % 3, 0, 0] = 1
        return (image - 0.5) / 0.25, index % 2


def test_every_filter_is_drawn_with_its_own_images_and_map():
    classifier = Classifier(nn.Conv2d(3, 3, 1, bias=False), DenseHead(3, 2)).eval()
    with torch.no_grad():  # feature f is colour f, as it was before the normalisation, four times as strong
        classifier.backbone.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
    filters = torch.tensor([[2, 0], [1, 2]])
    strongest = torch.tensor([[0, 3], [1, 4], [2, 5]])
    frequencies = torch.tensor([[0.25, 0.0, 1.0], [0.0, 0.5, 0.75]])
    drawn = dict(
        draw_class_filters(
            classifier, Squares(), filters, strongest, ["even", "odd"], frequencies, [0.5] * 3, [0.25] * 3, [0]
        )
    )
    assert list(drawn) == [0]
    axes = drawn[0].axes
    assert [axes[i].get_ylabel() for i in (0, 4)] == ["filter 2\n100 % of images", "filter 0\n25 % of images"]
    assert [axes[i].get_title(loc="left") for i in (0, 2, 4, 6)] == ["even", "odd", "even", "odd"]
    shown = np.asarray(axes[0].images[0].get_array())
    assert shown[0, 0].tolist() == [0, 0, 1]  # colours are those of the picture, not of the normalised tensor
    assert np.asarray(axes[1].images[0].get_array())[0, 0, 2] == 1
