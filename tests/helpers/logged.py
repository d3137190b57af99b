"""What real loggers kept, read back: pictures, captions and tables of offline W&B runs and of TensorBoard."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.helpers.wandb_file import records, wait_for_end


@dataclass
class Kept:
    """A picture or table at a step."""

    step: int
    content: object
    caption: str | None = None


def wandb_kept(folder: Path) -> dict[str, list[Kept]]:
    """Pictures (PIL) and tables (dictionaries) of every W&B run beneath a folder, by key, in order."""
    found: dict[str, list[Kept]] = {}
    for file in sorted(folder.rglob("*.wandb")):
        wait_for_end(file)
        for record in records(file):
            if record.WhichOneof("record_type") != "history":
                continue
            row: dict = {}
            for item in record.history.item:
                keys, place = list(item.nested_key) or [item.key], row
                for key in keys[:-1]:
                    place = place.setdefault(key, {})
                place[keys[-1]] = json.loads(item.value_json)
            for key, value in row.items():
                if not isinstance(value, dict) or "_type" not in value:
                    continue
                captions = value.get("captions") or [None]
                for number, name in enumerate(value.get("filenames") or [value["path"]]):
                    path = file.parent / "files" / name
                    content = json.loads(path.read_text()) if path.suffix == ".json" else _opened(path.read_bytes())
                    caption = captions[number] if number < len(captions) else None
                    found.setdefault(key, []).append(Kept(row["trainer/global_step"], content, caption))
    return found


def tensorboard_kept(folder: Path) -> dict[str, list[Kept]]:
    """Pictures (PIL) and texts of every event file beneath a folder, by tag, in order."""
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, TENSORS, EventAccumulator

    found: dict[str, list[Kept]] = {}
    for place in _runs(folder):
        events = EventAccumulator(str(place), {IMAGES: 0, TENSORS: 0}).Reload()
        for tag in events.Tags()["images"]:
            found[tag] = [Kept(e.step, _opened(e.encoded_image_string)) for e in events.Images(tag)]
        for tag in events.Tags()["tensors"]:
            name = tag.removesuffix("/text_summary")
            found[name] = [Kept(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(tag)]
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values that TensorBoard shows for every measure beneath a folder."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    found = {}
    for place in _runs(folder):
        events = EventAccumulator(str(place), {SCALARS: 0}).Reload()
        found |= {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return found


def _runs(folder: Path) -> list[Path]:
    """Folders of event files, each one run to TensorBoard, in which later files continue earlier ones."""
    return sorted({file.parent for file in folder.rglob("events.out.tfevents.*")})


def _opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image.convert("RGB")
