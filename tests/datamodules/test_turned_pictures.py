"""Boxes, parts and masks of pictures that their EXIF tag turns: they lie on the picture as the network sees it."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import CUB200
from tests.datamodules import official_forms as forms

WIDTH, HEIGHT, AT = 80, 56, (52, 20)


def _picture(path, orientation):
    """A grey picture with a white square, by the pixels of the file; JPEG's blocks keep within it."""
    pixels = np.full((HEIGHT, WIDTH, 3), 60, dtype=np.uint8)
    pixels[AT[1] - 4 : AT[1] + 4, AT[0] - 4 : AT[0] + 4] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, quality=95, subsampling=0)
    mask = path.parents[2] / "segmentations" / path.parent.name / f"{path.stem}.png"
    mask.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels[:, :, 0] == 255).astype(np.uint8) * 255).save(mask)


def birds(tmp_path, **options):
    home = forms.write_cub(tmp_path, per_class=6)
    paths = sorted((home / "images").rglob("*.jpg"))
    for orientation, path in enumerate(paths):
        _picture(path, orientation % 9)  # 0 is no orientation
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


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("cache", [True, False])
def test_marks_lie_on_the_upright_picture(fit, cache, tmp_path):
    """The size of the file and its positions were taken as if the picture had not been turned."""
    data = birds(tmp_path, image_size=56, fit=fit, cache=cache)
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


@pytest.mark.parametrize("cache", [True, False])
def test_the_box_that_is_cut_out_is_that_of_the_upright_picture(cache, tmp_path):
    """All that is left of the picture is the white square."""
    data = birds(tmp_path, image_size=16, crop_to_box=True, fit="squash", cache=cache, augmentation="none")
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
