"""Zip archives as they come damaged, from other systems, or from somebody who means harm."""

import io
import random
import struct
import tarfile
import zipfile

from tests.soak.values import damaged_bytes

_NAMES = (
    "../../outside.png", "/abs.png", "C:\\x.png", "train\\robin\\b.png", "./train/robin/c.png",
    "train/robin/../../d.png",
    "train//robin//e.png", "train/robin/\x1b[31m.png", "train/robin/a\nb.png", "train/robin/" + "n" * 255 + ".png",
    "train/" + "d/" * 200 + "x.png", "__MACOSX/train/robin/._0.png", "train/robin/._0.png", "train/robin/Thumbs.db",
    "train/.DS_Store",
    "train/robin/@eaDir/0.png", "train/Robin/0.png", "train/e\u0301/0.png", "train/\u00e9/0.png",
    "train/\u202egnp/0.png", "train",
    "train/robin", "train/robin/0.png/x.png", "", "/", "train/robin/ .png", "train/$x^{2/0.png", "train/=cmd()/0.png",
    "train/robin/",
)  # fmt: skip


def damaged_archive(rng: random.Random, entries: dict[str, bytes], content: bytes) -> bytes:
    """An archive's bytes.

    Args:
        rng: decides.
        entries: the files of a good archive.
        content: of the good archive itself.
    """
    kind = rng.randrange(12)
    if kind <= 3:
        return damaged_bytes(rng, content, rng.choice([1, 2]))
    if kind <= 6:
        extra = {rng.choice(_NAMES): rng.choice(list(entries.values())) for _ in range(rng.choice([1, 1, 3]))}
        return _packed({**entries, **extra})
    if kind == 7:
        return _packed(entries, rng.choice([zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED]))
    if kind == 8:  # lies in the central directory: sizes, methods, flags, offsets
        changed = bytearray(content)
        at = content.rindex(b"PK\x01\x02") if rng.random() < 0.5 else content.index(b"PK\x01\x02")
        place, form, value = rng.choice([
            (8, "<H", 1), (10, "<H", rng.choice([9, 12, 14, 99, 97])), (16, "<I", 1), (20, "<I", 2**32 - 2), (24, "<I",
            2**32 - 2),
            (24, "<I", 2**31), (28, "<H", 65535), (38, "<I", 0xA1FF0000), (42, "<I", 2**32 - 2), (24, "<I", 0), (6,
            "<H", 99),
        ])  # fmt: skip
        struct.pack_into(form, changed, at + place, value)
        return bytes(changed)
    if kind == 9:  # a bomb: little that becomes much
        name = rng.choice(["train/robin/bomb.png", "notes.txt", "test/wren/bomb.bmp"])
        return _packed({**entries, name: bytes(3 * 2**27)}, zipfile.ZIP_DEFLATED)
    if kind == 10:
        return _other(rng, entries)
    prefixes = ("photos/", "a/b/", "./", "photos\\", "")
    prefix = rng.choice(prefixes)
    return _packed({prefix + name: data for name, data in entries.items()})


def _packed(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.filename, info.compress_type = name, method
            file.writestr(info, data)
    return buffer.getvalue()


def _other(rng: random.Random, entries: dict[str, bytes]) -> bytes:
    """A tar with the wrong suffix, an empty archive, an archive in an archive, one after other bytes."""
    kind = rng.randrange(5)
    if kind == 0:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as file:
            for name, data in entries.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
        return buffer.getvalue()
    good = _packed(entries)
    return (
        _packed({}),
        _packed({"photos.zip": good}),
        b"#!/bin/sh\n" + good,
        _packed({"train/robin/link.png": b"../../../etc/passwd"}),
    )[kind - 1]
