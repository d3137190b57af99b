"""Boxes, parts and masks of pictures that their EXIF tag turns: they lie on the picture as the network sees it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin

from datamodules import CUB200
from handful.errors import UserError
from handful.images import open_image
from handful.images.upright import Turn
from tests.datamodules import official_forms as forms

WIDTH, HEIGHT, AT = 80, 56, (52, 20)


def _picture(path, orientation, kind="JPEG", mask_of=lambda mask, orientation: mask):
    """A grey picture with a white square, by the pixels of the file; JPEG's blocks keep within it."""
    pixels = np.full((HEIGHT, WIDTH, 3), 60, dtype=np.uint8)
    pixels[AT[1] - 4 : AT[1] + 4, AT[0] - 4 : AT[0] + 4] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(path, kind, exif=exif, **options)
    mask = path.parents[2] / "segmentations" / path.parent.name / f"{path.stem}.png"
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask_of(Image.fromarray((pixels[:, :, 0] == 255).astype(np.uint8) * 255), orientation).save(mask)


def birds(tmp_path, kind="JPEG", mask_of=lambda mask, orientation: mask, **options):
    home = forms.write_cub(tmp_path, per_class=6)
    paths = sorted((home / "images").rglob("*.jpg"))
    for orientation, path in enumerate(paths):
        _picture(path, orientation % 9, kind, mask_of)  # 0 is no orientation
    count = range(1, len(paths) + 1)
    left, top = AT[0] - 4, AT[1] - 4
    forms.lines(home / "bounding_boxes.txt", [f"{n} {left} {top} 8 8" for n in count])
    x, y = AT[0] - 0.5, AT[1] - 0.5
    forms.lines(home / "parts/part_locs.txt", [f"{n} {part} {x} {y} 1" for n in count for part in (1, 2, 3)])
    return CUB200(str(home), complete=False, batch_size=4, cache_dir=str(tmp_path / "cache"), **options)


def _white(image):
    rows, columns = torch.nonzero(image.double().mean(dim=0) > 160, as_tuple=True)
    edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return torch.tensor([float(edge) for edge in edges])


def _upright(mask, orientation):
    """As tools write masks that turn pictures by their tag."""
    mask.getexif()[0x0112] = orientation
    return ImageOps.exif_transpose(mask)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("cache", [True, False])
def test_marks_lie_on_the_upright_picture(kind, fit, cache, tmp_path):
    """The size of the file and its positions were taken as if the picture had not been turned."""
    _check(birds(tmp_path, kind, image_size=56, fit=fit, cache=cache))


def test_masks_that_are_upright_already(tmp_path):
    """Those of pictures on their side were refused; where only a mirror or a half turn is noted, no size shows it."""
    _check(birds(tmp_path, mask_of=lambda mask, turn: _upright(mask, turn) if turn > 4 else mask, image_size=56))


def _check(data):
    looked_at = 0
    for split in ("train", "test"):
        found, images = data.annotations(split), data._dataset(split)
        for index in range(len(images)):
            image = images[index][0] * torch.tensor(data.std)[:, None, None] + torch.tensor(data.mean)[:, None, None]
            box, (parts, seen) = found.boxes.boxes([index])[0], found.parts.positions([index])
            edges = _white(image * 255)
            if edges[:2].min() > 0 and edges[2:].max() < 56:
                looked_at += 1
                assert (box - edges).abs().max() < 1.6, (split, index)
                assert seen.all()
                centre = torch.stack([(edges[0] + edges[2]) / 2, (edges[1] + edges[3]) / 2]) - 0.5
                assert (parts[0, 0] - centre).abs().max() < 1.1, (split, index)
                mask = found.segmentation.segmentation([index])[0]
                assert (_white(255 * mask[None].double()) - edges).abs().max() < 1.6
    assert looked_at >= 12


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
@pytest.mark.parametrize("cache", [True, False])
def test_the_box_that_is_cut_out_is_that_of_the_upright_picture(kind, cache, tmp_path):
    """All that is left of the picture is the white square."""
    data = birds(tmp_path, kind, image_size=16, crop_to_box=True, fit="squash", cache=cache, augmentation="none")
    for split in data.splits.values():
        for index in range(len(split)):
            assert split.pixels(index).double().mean() > 245
    marks = data.augmented(3).marks
    assert marks.box.tolist() == pytest.approx([0, 0, 16, 16])


def test_marks_of_augmented_images_turn_too(tmp_path):
    """Under a flip and a padded random crop the part stays on the square's middle."""
    data = birds(tmp_path, image_size=56, fit="pad", augmentation="crop_flip")
    for index in range(len(data.splits["train"])):
        for epoch in range(3):
            moved = data.augmented(index, epoch)
            image = moved.image * torch.tensor(data.std)[:, None, None] + torch.tensor(data.mean)[:, None, None]
            edges = _white(255 * image)
            centre = torch.stack([(edges[0] + edges[2]) / 2, (edges[1] + edges[3]) / 2]) - 0.5
            assert (moved.marks.parts[0] - centre).abs().max() < 1.1


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turn_knows_the_size_in_the_file(kind, orientation):
    """That of a TIFF is turned when Pillow opens it: a box of an upright picture came to lie on its side."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(file, kind, exif=exif)
    turn = Turn.of(file.getvalue())
    assert turn.stored == (40, 20)
    assert turn.size == open_image(file.getvalue(), "a").size


def _png(behind, noted):
    """A PNG that is to be turned, by its EXIF or XMP, before or behind its pixels."""
    exif, file, info = Image.Exif(), io.BytesIO(), PngImagePlugin.PngInfo()
    exif[0x0112] = 6
    if noted == "xmp":
        info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 400, 3), dtype=np.uint8)).save(
        file, "PNG", pnginfo=info, **({"exif": exif} if noted == "exif" else {})
    )
    content, parts, at = file.getvalue(), [], 8
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        parts.append(content[at:end])
        at = end
    if behind:
        parts.sort(key=lambda part: (part[4:8] == b"IEND", part[4:8] in (b"eXIf", b"iTXt")))
    return content[:8] + b"".join(parts)


@pytest.mark.parametrize("noted", ["exif", "xmp", ""])
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("as_path", [False, True])
def test_a_png_is_not_decoded_to_see_how_it_lies(behind, noted, as_path, tmp_path, monkeypatch):
    """Unless something is noted behind its pixels; each PNG with a box was decoded twice."""
    content, decoded, load = _png(behind, noted), [], PngImagePlugin.PngImageFile.load
    (tmp_path / "a.png").write_bytes(content)
    upright = open_image(content, "a.png").size
    assert upright == ((200, 400) if noted else (400, 200))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: decoded.append(1) or load(self))
    assert Turn.of(tmp_path / "a.png" if as_path else content).size == upright
    assert bool(decoded) == bool(behind and noted)


@pytest.mark.parametrize(("size", "fits"), [
    ((80, 56), True), ((40, 28), True), ((13, 10), True), ((11, 7), True), ((7, 5), True), ((160, 112), True),
    ((78, 56), True), ((56, 80), False), ((56, 56), False), ((80, 40), False),
])  # fmt: skip
def test_masks_of_about_the_shape_of_the_picture(size, fits, tmp_path):
    """Small ones were refused for how their size had been rounded."""
    data = birds(tmp_path, mask_of=lambda mask, _: mask.resize(size), image_size=56)
    index = next(i for i, name in enumerate(data.splits["train"].names) if Turn.of(data.root / name).how is None)
    if fits:
        assert data.annotations("train").segmentation.segmentation([index]).shape == (1, 56, 56)
    else:
        with pytest.raises(UserError, match="it is not its mask"):
            data.annotations("train").segmentation.segmentation([index])


@pytest.mark.parametrize("cache", [True, False])
def test_boxes_outside_their_pictures_are_warned_of(cache, tmp_path):
    """The whole picture was taken in silence."""
    data = birds(tmp_path, image_size=16, crop_to_box=True, cache=cache)
    boxes = (data.root / "bounding_boxes.txt").read_text().splitlines()
    forms.lines(data.root / "bounding_boxes.txt", [f"{n} 90 20 8 8" if n in (2, 3) else line
                                                   for n, line in enumerate(boxes, 1)])  # fmt: skip
    with pytest.warns(UserWarning, match=r"2 boxes lie outside their pictures, such as that of .*\.jpg: all of the"):
        _ = data.splits
    with pytest.warns(UserWarning, match=r"The box of .*\.jpg lies outside the picture, and so may others") as said:
        data.annotations("train").boxes.boxes(range(len(data.splits["train"])))
    assert len([one for one in said if "lies outside" in str(one.message)]) == 1
