import itertools

import pytest

from handful.birds import PART_NAMES, PARTS, class_table
from handful.errors import UserError


def distance(table, first, second):
    one, other = table[first].variants, table[second].variants
    return sum(one[part] != other[part] for part in one)


@pytest.mark.parametrize("min_distance", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_two_classes_differ_in_enough_parts_and_families_in_few(min_distance, seed):
    table = class_table(24, min_distance, seed=seed)
    pairs = list(itertools.combinations(range(24), 2))
    assert min(distance(table, a, b) for a, b in pairs) >= min_distance
    for a, b in pairs:
        assert len(table.differing_parts(a, b)) == distance(table, a, b)
    assert len(set(table.names)) == 24
    # the first of a family is as near to the others as may be
    first_to_rest = [distance(table, a, b) for a, b in pairs if a % 4 == 0 and table[a].family == table[b].family]
    assert set(first_to_rest) == {min_distance}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_single_deciding_part_makes_classes_that_differ_in_it_alone(part):
    table = class_table(len(part.variants), 3, [part.name])
    assert table.deciding_parts == (part.name,)
    assert sorted(bird.variants[part.name] for bird in table.classes) == list(range(len(part.variants)))
    assert all(set(bird.variants) == {part.name} for bird in table.classes)
    for a, b in itertools.combinations(range(len(table)), 2):
        assert table.differing_parts(a, b) == (part.name,)
    with pytest.raises(UserError, match=f"only {len(part.variants)} classes were found"):
        class_table(len(part.variants) + 1, 3, [part.name])


def test_tables_are_the_same_for_the_same_seed_and_grow_at_the_end():
    assert class_table(12, seed=4) == class_table(12, seed=4)
    assert class_table(12, seed=4) != class_table(12, seed=5)
    assert class_table(20, seed=4).classes[:12] == class_table(12, seed=4).classes


def test_two_hundred_classes_are_found():
    assert len(class_table(200, 2)) == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_classes": 1}, "n_classes must be at least 2, not 1"),
        (
            {"n_classes": 4, "deciding_parts": ["beak", "ear"]},
            "different names among beak, wing, tail, breast, eye, feet",
        ),
        ({"n_classes": 4, "deciding_parts": []}, "deciding_parts takes"),
        ({"n_classes": 4, "deciding_parts": ["beak", "beak"]}, "deciding_parts takes"),
    ],
)
def test_impossible_tables_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        class_table(**arguments)


def test_variants_of_a_part_differ_in_shape_and_in_colour():
    for part in PARTS:
        assert len(part.variants) >= 4
        outlines = {variant.shapes[0].outline.tobytes() for variant in part.variants}
        colours = {tuple(shape.colour for shape in variant.shapes) for variant in part.variants}
        assert len(outlines) == len(colours) == len({variant.name for variant in part.variants}) == len(part.variants)
    assert tuple(part.name for part in PARTS) == PART_NAMES
