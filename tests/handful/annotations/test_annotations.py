"""Attributes and masks from files, and those of the toy birds."""

import numpy as np
import pytest
import torch
from PIL import Image

from handful.annotations import BirdAnnotations, MaskFolder, read_class_attributes
from handful.birds import PART_NAMES, ToyBirdsDataset
from handful.errors import UserError


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path)


def test_masks_of_every_form_are_the_same(tmp_path):
    half = np.zeros((8, 8))
    half[:, :4] = 1
    save(tmp_path / "object/a/test/x.png", half * 255)
    Image.fromarray(half.astype(bool)).save(tmp_path / "object/a/test/y.png")  # one bit per pixel
    save(tmp_path / "object/a/z.png", np.kron(half, np.ones((4, 4))) * 255)  # larger, by its last name
    save(tmp_path / "object/a/w.png", np.zeros((8, 8)))
    masks = MaskFolder(tmp_path, ["test/x.jpg", "test/y.jpg", "test/z.jpg", "test/w.jpg", "test/v.jpg"], 8)
    found = masks.masks(range(5))[:, 0]
    expected = torch.from_numpy(half.astype(bool))
    assert all(torch.equal(found[i], expected) for i in range(3))
    assert not found[3:].any()
    assert masks.annotated(range(5))[:, 0].tolist() == [True, True, True, True, False]
    assert torch.equal(masks.segmentation([0, 3]), found[[0, 3]])


def test_a_wide_mask_is_cropped_as_its_image_is(tmp_path):
    wide = np.zeros((8, 16))
    wide[:, 4:8] = 255
    save(tmp_path / "wing/x.png", wide)
    found = MaskFolder(tmp_path, ["x.jpg"], 8).masks([0])[0, 0]
    assert found[:, :4].all()
    assert not found[:, 4:].any()


def test_a_mask_narrower_than_a_pixel_does_not_vanish_in_silence(tmp_path):
    """A leg of two pixels is grey below half once the picture is small: an empty mask, "the part is not there"."""
    line, edge = np.zeros((64, 64)), np.zeros((64, 128))
    line[:, 36:38] = 255
    edge[:, :33] = 255  # in a picture of which the middle is used, and only its soft edge reaches into that
    save(tmp_path / "part/leg/x.png", line)
    save(tmp_path / "part/leg/y.png", edge)
    masks = MaskFolder(tmp_path, ["x.jpg", "y.jpg"], 8)
    with pytest.warns(UserWarning, match=r"masks such as x\.png are narrower than a pixel of the network's"):
        found = masks.masks([0])[0, 0]
    assert found[:, 4].all()
    assert found.sum() == 8
    assert not masks.masks([1]).any()


def test_many_narrow_masks_are_said_once(tmp_path):
    line = np.zeros((64, 64))
    line[:, 36:38] = 255
    for number in range(3):
        save(tmp_path / f"part/leg/{number}.png", line)
    masks = MaskFolder(tmp_path, [f"{number}.jpg" for number in range(3)], 8)
    with pytest.warns(UserWarning, match="the pixels that they cover most belong") as said:
        masks.masks([0, 1, 2])
    assert len(said) == 1


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "no mask belongs to an image"),
        (["part/wing/other.png"], "no mask belongs to an image"),
        (["part/wing/x.png", "colors/red/x.png"], "colors is not one of the kinds"),
    ],
)
def test_folders_that_are_no_masks(tmp_path, files, sentence):
    for file in files:
        save(tmp_path / file, np.zeros((4, 4)))
    with pytest.raises(UserError, match=sentence):
        MaskFolder(tmp_path, ["test/x.jpg"], 4)


HALF = np.zeros((8, 8), np.uint8)
HALF[:, :4] = 1


@pytest.mark.parametrize(
    "mask",
    [Image.fromarray(HALF), Image.fromarray(HALF.astype(np.uint16)), Image.fromarray(HALF.astype(np.uint16) * 65535),
     Image.fromarray(np.dstack([HALF * 255, HALF * 0, HALF * 0])),
     Image.fromarray(np.dstack([HALF * 255] * 3 + [HALF * 0 + 255])),
     Image.fromarray(np.dstack([HALF * 255, HALF * 0 + 255]))],
    ids=["0 and 1", "16 bits, 0 and 1", "16 bits", "red", "RGBA, opaque", "LA, opaque"],
)  # fmt: skip
def test_files_of_every_depth_and_colour_are_the_same_mask(tmp_path, mask):
    """A mask of 0 and 1 was an empty one, without a word."""
    (tmp_path / "wing").mkdir()
    mask.save(tmp_path / "wing/x.png")
    assert torch.equal(MaskFolder(tmp_path, ["x.jpg"], 8).masks([0])[0, 0], torch.from_numpy(HALF.astype(bool)))


def palette(*colours):
    image = Image.fromarray(HALF).convert("P")
    image.putpalette([part for colour in colours for part in colour] + [0] * (768 - 3 * len(colours)))
    return image


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (Image.fromarray(HALF * 2), "no pixel of the mask is brighter than half, though some are not black"),
        (Image.fromarray(HALF.astype(np.uint16) * 100), "no pixel of the mask is brighter than half"),
        (palette((0, 0, 0), (100, 0, 0)), "no pixel of the mask is brighter than half"),
        (palette((255, 255, 255), (128, 0, 0)), "every pixel of the mask is brighter than half, whatever its colour"),
        (Image.fromarray(np.dstack([HALF * 200] * 3 + [HALF * 255])), "a mask with transparent pixels"),
        (Image.fromarray(np.dstack([HALF * 255, HALF * 255])), "a mask with transparent pixels"),
    ],
)
def test_masks_whose_brightness_says_nothing_are_refused(tmp_path, mask, sentence):
    """What is transparent became white, and so part of the concept."""
    (tmp_path / "wing").mkdir()
    mask.save(tmp_path / "wing/x.png")
    with pytest.raises(UserError, match=rf"x\.png: {sentence}.*; save it with 0"):
        MaskFolder(tmp_path, ["x.jpg"], 8).masks([0])


def test_a_file_that_is_no_picture(tmp_path):
    (tmp_path / "wing").mkdir()
    (tmp_path / "wing/x.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"x\.png cannot be read"):
        MaskFolder(tmp_path, ["x.jpg"], 4).masks([0])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected a line of attribute names"),
        ("class,red\nowl,5\n", "no line for the class 'wren'"),
        ("class,red\nowl,5\nwrenn,2\n", "did you mean 'wrenn'"),
        ("class,red\nowl,5\nowl,5\nwren,1\n", "two lines, the second is line 3"),
        ("class,red\nowl,x\nwren,1\n", "line 2 has 'x' for 'red'"),
        ("class,red\nowl,101\nwren,1\n", "not a percentage"),
        ("class,red\nowl,nan\nwren,1\n", "not a percentage"),
        ("class,red\nowl,1,2\nwren,1\n", "line 2 has 3 cells"),
    ],
)
def test_tables_of_attributes_that_are_refused(tmp_path, text, sentence):
    path = tmp_path / "attributes.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_class_attributes(path, ["owl", "wren"])


def test_the_birds_know_where_their_parts_are():
    birds = BirdAnnotations(ToyBirdsDataset("test", n_classes=4, images_per_class=3, size=48))
    masks, segmentation = birds.masks(range(12)), birds.segmentation(range(12))
    assert torch.equal(masks[:, 0], segmentation)
    kinds = [concept.kind for concept in birds.concepts]
    scene = masks[:, [kind == "scene" for kind in kinds]]
    assert torch.equal(scene.any(dim=1), ~segmentation)
    assert (scene.flatten(2).any(dim=2).sum(dim=1) == 1).all()
    textured = masks[:, [kind == "texture" for kind in kinds]].any(dim=1)
    assert textured.any()
    assert not (textured & ~masks[:, 1:7].any(dim=1)).any()
    positions, seen = birds.positions(range(12))
    assert torch.equal(seen, masks[:, 1:7].flatten(2).any(dim=2))
    beak = PART_NAMES.index("beak")
    for image in range(12):
        y, x = masks[image, 1 + beak].nonzero().double().mean(dim=0)
        assert torch.dist(positions[image, beak], torch.stack([x, y])) < 5
    table = birds.attributes()
    assert table.present.sum(dim=1).tolist() == [float(len(PART_NAMES))] * 12
    shares = table.of_classes(torch.arange(12) % 4, 4).present
    assert shares.sum(dim=1).tolist() == pytest.approx([len(PART_NAMES)] * 4)
