"""A matrix as a picture: colours, names of rows and columns, and sizes that dashboards can show."""

import numpy as np

from handful.report.heat_map import heat

RED, BLUE, WHITE = (200, 50, 45), (47, 95, 184), (255, 255, 255)


def test_names_stand_beside_the_cells_which_keep_their_colours():
    values = np.array([[2.0, 0.0, -2.0], [0.0, 2.0, 0.0]])
    plain = heat(values)
    named = heat(values, ["wren", "yellow_headed_blackbird"], ["feature 1", "red eye (23)", "feature 4"])
    cell = plain.width // 3
    left, top = named.width - plain.width, named.height - plain.height
    assert left > top > 40  # as long as the longest names
    half = cell // 2
    middle = [[named.getpixel((left + cell * c + half, top + cell * r + half)) for c in range(3)] for r in range(2)]
    assert middle == [[RED, WHITE, BLUE], [WHITE, RED, WHITE]]
    dark = np.asarray(named.convert("L")) < 120
    assert dark[top + cell : top + 2 * cell, :left].any()  # the second row's name
    assert not dark[:top, :left].any()
    assert dark[top - cell : top, left : left + cell].any()  # the first column's name begins at its cells


def test_a_thousand_classes_make_a_picture_of_bounded_size_and_nothing_breaks_it():
    names = [f"class {number}" for number in range(1000)]
    assert max(heat(np.eye(1000), names, names).size) <= 3200
    assert heat(np.zeros((1, 1)), ["$x_1$ \x1b[31m"], ["\U0001f426" * 90]).getpixel((0, 0)) == WHITE
