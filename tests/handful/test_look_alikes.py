"""Names that look alike are found, and those that do not are left alone."""

import re
import unicodedata

import pytest

from handful.look_alikes import look_alike_warning, look_alikes


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("owl", "Owl", "case"),
        ("STRASSE", "straße", "case"),
        ("owl", "owl ", "spaces at an end"),
        ("owl", "\u00a0owl", "spaces at an end"),
        ("brown owl", "brown_owl", "spaces, dashes or underscores"),
        ("brown-owl", "brown\u2013owl", "spaces, dashes or underscores"),
        ("brown owl", "brown  owl", "spaces, dashes or underscores"),
        ("owl", "o\u200bwl", "cannot be seen"),
        ("owl", "owl\u200d", "cannot be seen"),
        ("owl", "\ufeffowl", "cannot be seen"),
        ("owl", "owl\ufe0f", "cannot be seen"),
        ("owl", "\u202eowl", "cannot be seen"),
        ("owl", "ow\u00adl", "cannot be seen"),
        ("owl", "owl\u2800", "cannot be seen"),
        ("Käuzchen", unicodedata.normalize("NFD", "Käuzchen"), "Unicode form"),
        ("owl", "\uff4f\uff57\uff4c", "Unicode form"),
        ("finch", "\ufb01nch", "case"),  # the ligature, which folding case takes apart
        ("owl2", "owl²", "Unicode form"),
        ("owl", "\u043ewl", "cyrillic small letter o, U\\+043E"),
        ("tit", "\u03c4it", "greek small letter tau"),
        ("Wren", "W\u0433en", "U\\+0433"),
        ("Parrot", "\u0420arrot", "U\\+0420"),
        ("owl", "\u0585wl", "armenian"),
        ("Ibis", "lbis", "drawn alike"),
        ("model 10", "model lO", "drawn alike"),
        ("heron", "herorn", None),
        ("Corn", "Com", "drawn alike"),
        ("swan", "svvan", "drawn alike"),
        ("Brown Owl", "brown_\u043ewl\u200b ", "U\\+043E"),
        ("owl's", "owl\u2019s", "spaces, dashes"),
    ],
)
def test_pairs(one, other, how):
    assert look_alikes(["zebra", one, "yak", other]) == ([] if how is None else [[one, other]])
    said = look_alike_warning([one, other])
    if how is not None:
        assert re.search(how, said), said
        assert all(c.isprintable() for c in said)


def test_groups_of_several_and_the_same_name_twice():
    assert look_alikes(["owl", "Owl", "tit", "OWL", "Tit", "owl"]) == [["owl", "Owl", "OWL"], ["tit", "Tit"]]
    assert look_alikes(["Ill", "lll", "ill"]) == [["Ill", "lll", "ill"]]
    said = look_alike_warning([f"{name}{n}" for name in ("a", "A") for n in "234567"])
    assert "and 3 more groups" in said


@pytest.mark.parametrize(
    "names",
    [
        [str(n) for n in range(1000)],
        ["Black-footed Albatross", "Laysan Albatross", "Sooty Albatross"],
        ["сова", "снегирь", "синица", "кот", "код"],
        ["Käuzchen", "Kauzchen"],
        ["猫", "犬", "鸟"],
        ["class_2", "class_3"],
        ["زاغ", "کلاغ"],
    ],
)
def test_names_that_do_not(names):
    assert look_alikes(names) == []
    assert look_alike_warning(names) == ""
