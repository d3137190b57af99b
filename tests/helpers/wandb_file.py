"""Reading an offline W&B run: a log of records, each a protocol buffer, in blocks of 32 KiB as LevelDB has them."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from wandb.proto import wandb_internal_pb2

BLOCK, FILE_HEADER, RECORD_HEADER = 32768, 7, 7


def records(path: Path) -> Iterator[wandb_internal_pb2.Record]:
    """All records of a `.wandb` file."""
    data = path.read_bytes()
    place, whole = FILE_HEADER, b""
    while place + RECORD_HEADER <= len(data):
        if BLOCK - place % BLOCK < RECORD_HEADER:  # the rest of a block is padding
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + RECORD_HEADER])
        place += RECORD_HEADER
        whole += data[place : place + length]
        place += length
        if kind in (1, 4):  # full, or the last part
            record = wandb_internal_pb2.Record()
            try:
                record.ParseFromString(whole)
            except DecodeError:  # the file is being written
                return
            whole = b""
            yield record


def wait_for_end(path: Path, patience: float = 300.0) -> None:
    """Wait until a finished run's file holds its end: W&B's own process may write it after `finish` has returned."""
    deadline = time.monotonic() + patience
    while not any(record.WhichOneof("record_type") == "exit" for record in records(path)):
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.05)


def run_of(path: Path) -> tuple[wandb_internal_pb2.RunRecord, dict, list[dict]]:
    """The run's own record, its configuration, and its history: a dictionary a step."""
    run, config, history = None, {}, []
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
        elif kind == "config":
            config |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.config.update}
        elif kind == "history":
            items = record.history.item
            history.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    return run, config, history


def summary_of(path: Path) -> dict:
    """The last value of every measure."""
    found = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "summary":
            found |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.summary.update}
    return found
