"""Small copies of published data sets, written in the form on disk in which their authors distribute them."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

CUB_CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
CUB_PARTS = ("back", "beak", "belly")
CUB_ATTRIBUTES = ("has_bill_shape::dagger", "has_wing_color::blue")


def picture(path: Path, size: tuple[int, int] = (40, 20), seed: int = 0, mode: str = "RGB") -> Path:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def lines(path: Path, rows) -> None:
    """Write a text file of lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))


def write_cub(root: Path, per_class: int = 4, side: tuple[int, int] = (40, 20)) -> Path:
    """`CUB_200_2011` beside `attributes.txt`, as the archive has them; every second image is a training image."""
    home = root / "CUB_200_2011"
    rows = [(name, f"{name}/{name[4:]}_{i:04d}_{1000 + i}.jpg") for name in CUB_CLASSES for i in range(per_class)]
    modes = {1: "L", 2: "CMYK"}
    for number, (_, path) in enumerate(rows, start=1):
        picture(home / "images" / path, side, number, modes.get(number, "RGB"))
    lines(home / "images.txt", [f"{n} {path}" for n, (_, path) in enumerate(rows, 1)])
    lines(home / "classes.txt", [f"{n} {name}" for n, name in enumerate(CUB_CLASSES, 1)])
    lines(home / "image_class_labels.txt", [f"{n} {int(name[:3])}" for n, (name, _) in enumerate(rows, 1)])
    lines(home / "train_test_split.txt", [f"{n} {n % 2}" for n in range(1, len(rows) + 1)])
    lines(home / "bounding_boxes.txt", [f"{n} 10.0 5.0 20.0 10.0" for n in range(1, len(rows) + 1)])
    lines(home / "parts/parts.txt", [f"{n} {name}" for n, name in enumerate(CUB_PARTS, 1)])
    lines(home / "parts/part_locs.txt", [
        f"{n} {part} {x} 9.5 {seen}" for n in range(1, len(rows) + 1) for part, x, seen in ((1, 19.5, 1), (2, 0.0, 1),
                                                                                        (3, 0.0, 0))
    ])  # fmt: skip
    lines(root / "attributes.txt", [f"{n} {name}" for n, name in enumerate(CUB_ATTRIBUTES, 1)])
    lines(home / "attributes/certainties.txt", ["1 not visible", "2 guessing", "3 probably", "4 definitely"])
    # some official lines have a sixth cell
    labels = [
        f"{n} {a} {(n + a) % 2} {4 if a == 1 else 2}{' 0' if n == 3 else ''} 1.609"
        for n in range(1, len(rows) + 1)
        for a in (1, 2)
    ]
    lines(home / "attributes/image_attribute_labels.txt", labels)
    return home


def write_nabirds(root: Path) -> Path:
    """`nabirds` with two leaf classes of one species and one of another."""
    home = root / "nabirds"
    classes = {"0": "Birds", "1": "Ducks", "2": "Common Eider", "817": "Common Eider (Adult male)", "900": "Owl"}
    lines(home / "classes.txt", [f"{n} {name}" for n, name in classes.items()])
    lines(home / "hierarchy.txt", ["1 0", "2 1", "817 2", "900 0"])
    rows = []
    for n, label in enumerate(("2", "2", "817", "817", "900", "900")):
        uuid = f"{n:08x}-21dc-4d0c-bfe1-4cae3c85c829"
        path = f"{int(label):04d}/{uuid.replace('-', '')}.jpg"
        picture(home / "images" / path, (30, 30), n)
        rows.append((uuid, path, label))
    lines(home / "images.txt", [f"{uuid} {path}" for uuid, path, _ in rows])
    lines(home / "image_class_labels.txt", [f"{uuid} {label}" for uuid, _, label in rows])
    lines(home / "train_test_split.txt", [f"{uuid} {n % 2}" for n, (uuid, _, _) in enumerate(rows)])
    lines(home / "bounding_boxes.txt", [f"{uuid} 3 6 12 15" for uuid, _, _ in rows])
    lines(home / "sizes.txt", [f"{uuid} 30 30" for uuid, _, _ in rows])
    lines(home / "parts/parts.txt", ["0 bill", "1 left eye"])
    lines(home / "parts/part_locs.txt", [f"{uuid} {p} {14 if p else -1} 14 {p}" for uuid, _, _ in rows for p in (0, 1)])
    return home


def write_aircraft(root: Path) -> Path:
    """`fgvc-aircraft-2013b/data` with two variants of one family."""
    home = root / "fgvc-aircraft-2013b" / "data"
    variants = ("707-320", "Falcon 2000")
    lines(home / "variants.txt", variants)
    lines(home / "families.txt", ["Boeing 707", "Falcon 2000"])
    lines(home / "manufacturers.txt", ["Boeing", "Dassault Aviation"])
    images = {f"{n:07d}": variants[n % 2] for n in range(12)}
    for n, image in enumerate(images):
        picture(home / "images" / f"{image}.jpg", (60, 50), n)
    parts = {"train": slice(0, 4), "val": slice(4, 8), "trainval": slice(0, 8), "test": slice(8, 12)}
    for level, rename in (("variant", {}), ("family", {"707-320": "Boeing 707"}),
                          ("manufacturer", {"707-320": "Boeing", "Falcon 2000": "Dassault Aviation"})):  # fmt: skip
        for part, chosen in parts.items():
            rows = [f"{image} {rename.get(name, name)}" for image, name in list(images.items())[chosen]]
            lines(home / f"images_{level}_{part}.txt", rows)
    lines(home / "images_box.txt", [f"{image} 11 6 40 25" for image in images])
    return home.parent


def _annotations(rows, keys) -> np.ndarray:
    found = np.zeros((1, len(rows)), dtype=[(key, object) for key in keys])
    for n, row in enumerate(rows):
        for key, value in zip(keys, row, strict=True):
            found[0, n][key] = value if isinstance(value, str) else np.array([[value]])
    return found


_NAMES = np.array([["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"]], dtype=object)


def write_cars(root: Path) -> Path:
    """The devkit's form: `cars_train`, `cars_test`, `devkit` and the labels of the test images."""
    home = root / "stanford_cars"
    keys = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    for split, name in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = [(3, 2, 30, 18, n % 2 + 1, f"{n + 1:05d}.jpg") for n in range(4)]
        for n, row in enumerate(rows):
            picture(home / f"cars_{split}" / row[-1], (40, 20), n + 10 * (split == "test"))
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        savemat(home / name, {"annotations": _annotations(rows, keys)})
    savemat(home / "devkit/cars_meta.mat", {"class_names": _NAMES})
    return home


def write_cars_single(root: Path) -> Path:
    """The single form: `car_ims` and `cars_annos.mat`."""
    home = root / "cars"
    keys = ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    rows = [(f"car_ims/{n + 1:06d}.jpg", 3, 2, 30, 18, n % 2 + 1, int(n >= 4)) for n in range(8)]
    for n, row in enumerate(rows):
        picture(home / row[0], (40, 20), n)
    savemat(home / "cars_annos.mat", {"annotations": _annotations(rows, keys), "class_names": _NAMES})
    return home


def write_tiny_imagenet(root: Path, val_in_folders: bool = False) -> Path:
    """`tiny-imagenet-200` with two classes."""
    home = root / "tiny-imagenet-200"
    ids = ("n01443537", "n01629819")
    lines(home / "wnids.txt", ids[::-1])
    lines(home / "words.txt", ["n01443537\tgoldfish, Carassius auratus", "n01629819\tEuropean fire salamander, x"])
    rows = []
    for k, wnid in enumerate(ids):
        for n in range(3):
            picture(home / f"train/{wnid}/images/{wnid}_{n}.JPEG", (64, 64), 10 * k + n)
        lines(home / f"train/{wnid}/{wnid}_boxes.txt", [f"{wnid}_{n}.JPEG\t0\t10\t63\t58" for n in range(3)])
        for n in (2 * k, 2 * k + 1):
            folder = wnid + "/images" if val_in_folders else "images"
            picture(home / f"val/{folder}/val_{n}.JPEG", (64, 64), 50 + n)
            rows.append(f"val_{n}.JPEG\t{wnid}\t0\t32\t44\t62")
    lines(home / "val/val_annotations.txt", rows)
    picture(home / "test/images/test_0.JPEG", (64, 64), 99)
    return home


def write_imagenet(root: Path, form: str = "folders") -> Path:
    """ImageNet with two classes; validation in "folders", by "kaggle"'s table or by the "devkit"."""
    home = root / ("ILSVRC/Data/CLS-LOC" if form == "kaggle" else "imagenet")
    ids = ("n01440764", "n01443537")
    labels = (1, 0, 1, 0)
    for k, wnid in enumerate(ids):
        for n in range(3):
            picture(home / f"train/{wnid}/{wnid}_{n}.JPEG", (30, 40), 10 * k + n, "CMYK" if n == 2 else "RGB")
    for n, label in enumerate(labels, 1):
        folder = f"{ids[label]}/" if form == "folders" else ""
        picture(home / f"val/{folder}ILSVRC2012_val_{n:08d}.JPEG", (40, 30), 40 + n)
    if form == "kaggle":
        rows = [f"ILSVRC2012_val_{n:08d},{ids[label]} 1 2 3 4 " for n, label in enumerate(labels, 1)]
        lines(root / "LOC_val_solution.csv", ["ImageId,PredictionString", *rows])
        lines(root / "LOC_synset_mapping.txt", ["n01440764 tench, Tinca tinca", "n01443537 goldfish, Carassius"])
        return root
    if form == "devkit":
        data = home / "ILSVRC2012_devkit_t12/data"
        lines(data / "ILSVRC2012_validation_ground_truth.txt", [5 if label else 7 for label in labels])
        synsets = np.zeros((2, 1), dtype=[("ILSVRC2012_ID", object), ("WNID", object)])
        for row, (number, wnid) in enumerate(((7, ids[0]), (5, ids[1]))):
            synsets[row, 0]["ILSVRC2012_ID"], synsets[row, 0]["WNID"] = np.array([[number]]), wnid
        savemat(data / "meta.mat", {"synsets": synsets})
    return home


def write_traveling_birds(root: Path) -> Path:
    """`CUB_fixed` with the pictures of `write_cub` on other backgrounds."""
    home = root / "CUB_fixed"
    for k, name in enumerate(CUB_CLASSES):
        for i in range(4):
            number = 4 * k + i + 1
            split = "train" if number % 2 else "test"
            picture(home / split / name / f"{name[4:]}_{i:04d}_{1000 + i}.jpg", (40, 20), 200 + number)
    return home


def write_stl10(root: Path, images: int = 20) -> Path:
    """`stl10_binary`; image n of a split is n everywhere but for a red stripe in its first row."""
    home = root / "stl10_binary"
    names = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    lines(home / "class_names.txt", names)
    for split in ("train", "test"):
        pixels = np.zeros((images, 96, 96, 3), dtype=np.uint8) + np.arange(images, dtype=np.uint8)[:, None, None, None]
        pixels[:, 0, :, 0] = 255
        (home / f"{split}_X.bin").write_bytes(pixels.transpose(0, 3, 2, 1).tobytes())  # columns first
        (home / f"{split}_y.bin").write_bytes((np.arange(images, dtype=np.uint8) % 10 + 1).tobytes())
    lines(home / "fold_indices.txt", ["0 1 2"])
    return home


def _rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def _python2(values: dict) -> bytes:
    """A dictionary of lists, texts and one array of pixels, as Python 2 pickled it: strings are bytes."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    def item(value) -> bytes:
        if isinstance(value, int):
            return b"K" + bytes([value])
        if isinstance(value, str):
            return text(value.encode())
        if isinstance(value, list):
            return b"](" + b"".join(map(item, value)) + b"e"
        array = np.asarray(value)
        shape = b"M" + struct.pack("<H", len(array)) + b"M\x00\x0c\x86"
        tail = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + tail
        made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        return made + b"(K\x01" + shape + kind + b"\x89" + text(array.tobytes()) + b"tb"

    return b"\x80\x02}(" + b"".join(text(k.encode()) + item(v) for k, v in values.items()) + b"u."


def write_cifar10(root: Path, form: str = "binary", per_batch: int = 10) -> Path:
    """`cifar-10-batches-bin` or `-py`."""
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    home = root / f"cifar-10-batches-{'bin' if form == 'binary' else 'py'}"
    home.mkdir(parents=True)
    for n, batch in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        pixels, labels = _rows(per_batch, n), [k % 10 for k in range(per_batch)]
        if form == "binary":
            content = np.concatenate([np.array(labels, dtype=np.uint8)[:, None], pixels], axis=1)
            (home / f"{batch}.bin").write_bytes(content.tobytes())
        else:
            names_of = [f"{names[label]}_s_{k:06d}.png" for k, label in enumerate(labels)]
            content = {"batch_label": f"batch {n}", "labels": labels, "data": pixels, "filenames": names_of}
            (home / batch).write_bytes(_python2(content))
    if form == "binary":
        lines(home / "batches.meta.txt", [*names, ""])
    else:
        (home / "batches.meta").write_bytes(
            _python2({"num_cases_per_batch": 100, "label_names": names, "num_vis": 200})
        )
    return home


def write_cifar100(root: Path, form: str = "binary") -> Path:
    """`cifar-100-binary` or `-python`, of six fine classes in three coarse ones."""
    home = root / f"cifar-100-{form}"
    home.mkdir(parents=True)
    fine, coarse = ["apple", "bed", "boy", "chair", "girl", "pear"], ["fruit", "furniture", "people"]
    above = [0, 1, 2, 1, 2, 0]
    for n, split in enumerate(("train", "test")):
        labels = [k % 6 for k in range(12)]
        pixels = _rows(12, n)
        upper = [above[label] for label in labels]
        if form == "binary":
            rows = np.concatenate([np.array([upper, labels], dtype=np.uint8).T, pixels], axis=1)
            (home / f"{split}.bin").write_bytes(rows.tobytes())
        else:
            content = {"filenames": [f"a_{k}.png" for k in range(12)], "batch_label": f"{split}ing batch 1 of 1",
                       "fine_labels": labels, "coarse_labels": upper, "data": pixels}  # fmt: skip
            (home / split).write_bytes(_python2(content))
    if form == "binary":
        lines(home / "fine_label_names.txt", fine)
        lines(home / "coarse_label_names.txt", coarse)
    else:
        (home / "meta").write_bytes(_python2({"fine_label_names": fine, "coarse_label_names": coarse}))
    return home
