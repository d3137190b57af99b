"""A file of tensors in which a bit has changed is refused wherever it is read, with a digest beside it or without."""

import hashlib
import json

import pytest
import torch

from handful import build_classifier, load, save
from handful.errors import UserError
from handful.networks.weights import load_weights
from handful.tensor_files import check_sums, read_tensors
from tests.helpers.finished_run import write_run

NETWORK = {"backbone": "conv4", "options": {"width": 48}}


def flip(path, where):
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("where", [0.3, 0.5, 0.7])
def test_a_flipped_bit_of_a_saved_model(tmp_path, where):
    save(build_classifier(NETWORK, 2), tmp_path / "model.ckpt")
    assert load(tmp_path).num_features == 48
    flip(tmp_path / "model.ckpt", where)
    with pytest.raises(UserError, match=r"model\.ckpt: damaged since it was written: part '.*' has another check sum"):
        load(tmp_path)


def test_a_flipped_bit_of_weights_from_elsewhere(tmp_path):
    model = build_classifier(NETWORK, 2)
    torch.save(model.backbone.state_dict(), tmp_path / "a.pth")
    flip(tmp_path / "a.pth", 0.5)
    with pytest.raises(UserError, match=r"a\.pth: damaged since"):
        load_weights(model, tmp_path / "a.pth")


def test_files_without_check_sums_and_of_the_old_form_are_read(tmp_path):
    tensors = {"a": torch.arange(2000.0)}
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(tensors, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    torch.save(tensors, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    for name in ("a.pth", "b.pth"):
        assert torch.equal(read_tensors(tmp_path / name, ours=False)["a"], tensors["a"])


def swap(phase):
    """Weights of another training, and their digest in the record."""
    content = torch.load(phase / "best.ckpt", weights_only=True)
    content["state_dict"]["model.head.bias"] += 1
    torch.save(content, phase / "best.ckpt")
    digest = hashlib.sha256((phase / "best.ckpt").read_bytes()).hexdigest()
    edit(phase, lambda record: record["files"]["best.ckpt"].update(sha256=digest))


def edit(phase, change):
    record = json.loads((phase / "done.json").read_text())
    change(record)
    (phase / "done.json").write_text(json.dumps(record))


EDITS = {
    "the digest is that of other weights": swap,
    "the digest is removed": lambda phase: edit(phase, lambda record: record["files"].pop("best.ckpt")),
    "another number": lambda phase: edit(phase, lambda record: record.update(seconds=9.0)),
    "an entry more": lambda phase: edit(phase, lambda record: record.update(more=1)),
}


@pytest.mark.parametrize("how", EDITS)
def test_an_edited_record_of_a_phase_is_noticed(tmp_path, how):
    (tmp_path / "run").mkdir()
    phase = write_run(tmp_path / "run") / "finetune"
    assert load(phase).num_features
    EDITS[how](phase)
    for place in (phase, tmp_path / "run", phase / "best.ckpt"):
        with pytest.raises(UserError, match=r"done\.json: damaged or changed since it was written; best\.ckpt is not"):
            load(place)


def test_a_list_of_parts_that_cannot_be_read(tmp_path):
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 128  # the version that reading it takes
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pt: damaged since it was written: its list of parts"):
        check_sums(tmp_path / "a.pt")
