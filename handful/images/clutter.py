"""Files and folders that no photographer made: of operating systems, network storage, archives and notebooks."""

from collections.abc import Iterator

from handful.images.formats import is_image_name
from handful.text import safe_text

_FOLDERS = {
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx", "$recycle.bin",
    "system volume information", "network trash folder", "temporary items", "__pycache__",
}  # fmt: skip
#: Where Windows keeps what a user has deleted: in a folder for each, within `RECYCLER`.
_OF_USERS = "s-1-5-"
#: Names that a person may give to a class.
_DOUBTFUL = {"thumbnails", "_thumbnails", "_thumbs", "recycler", "lost+found"}
_FILES = {"thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini",
          "zbthumbnail.info", "icon\r", "folder.jpg:zone.identifier"}  # fmt: skip
_PREFIXES = ("synofile_thumb_", "synophoto_thumb_", "synoindex_media_info")
#: Reasons in the plural, and what a single file is called.
_OF_ONE = {
    "thumbnails and system files": "thumbnail or system file",
    "unfinished files and backup copies": "unfinished file or backup copy",
    "that are not images": "that is not an image",
    "archives, which are not unpacked": "archive, which is not unpacked",
    "links to nothing": "link to nothing",
    "files that are not regular": "file that is not regular",
    "images outside class folders": "image outside the class folders",
    "links or devices in the archive": "link or device in the archive",
    "symbolic links that lead in a circle": "symbolic link that leads in a circle",
    "with names that lead outside the archive": "with a name that leads outside the archive",
    "replaced by later ones of the same name": "replaced by a later one of the same name",
}
_SUFFIXES = (":zone.identifier", "@synoeastream", "@synoresource")
_UNFINISHED = (".crdownload", ".part", "~")
#: Behind the name of an image: what a browser, an editor or a synchronisation keeps beside it or has not finished.
_COPIES = (".bak", ".orig", ".old", ".tmp", ".temp", ".swp", ".partial", ".filepart", ".download", ".opdownload")


def is_doubtful(folder: str) -> bool:
    """Say whether a folder's name is mostly that of thumbnails or system files, but may be that of a class.

    Example:
        >>> is_doubtful("Thumbnails"), is_doubtful("owl")
        (True, False)
    """
    return folder.lower() in _DOUBTFUL


def clutter(path: str, folder: bool = False) -> str | None:
    """Say why a path of a data set is left out as clutter; None for what may be the user's.

    What lies in folders of a doubtful name (`is_doubtful`) is not judged here.

    Args:
        path: inside the data set, `/` between folders.
        folder: whether it is that of a folder.

    Example:
        >>> clutter("train/owl/@eaDir/001.jpg/SYNOPHOTO_THUMB_M.jpg")
        'thumbnails and system files'
        >>> clutter("train/owl/._001.jpg")
        'hidden'
        >>> clutter("train/owl/001.jpg")
    """
    *folders, name = path.split("/")
    for part in (*folders, name):
        if part.lower() in _FOLDERS or part.lower().startswith(_OF_USERS):
            return "thumbnails and system files"
        if part.startswith(".") and part not in (".", ".."):
            return "hidden"
    if folder:
        return None
    lower = name.lower()
    inner, _, last = lower.rpartition(".")
    if lower.endswith(_UNFINISHED) or lower.startswith("~$") or (f".{last}" in _COPIES and is_image_name(inner)):
        return "unfinished files and backup copies"
    if lower in _FILES or lower.startswith(_PREFIXES) or lower.endswith(_SUFFIXES):
        return "thumbnails and system files"
    return None


class LeftOut:
    """What was left out of a data set, counted by reason, with the first example of each."""

    def __init__(self) -> None:
        self._by_reason: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, path: str, count: int = 1) -> None:
        """Count files that were left out.

        Args:
            reason: fits behind a number, such as "hidden".
            path: of one of them.
            count: how many.
        """
        before, example = self._by_reason.get(reason, (0, path))
        self._by_reason[reason] = before + count, example

    def __iter__(self) -> Iterator[tuple[str, int, str]]:
        return ((reason, count, example) for reason, (count, example) in self._by_reason.items())

    def update(self, other: "LeftOut") -> None:
        """Add what another has counted."""
        for reason, count, example in other:
            self.add(reason, example, count)

    def __str__(self) -> str:
        return ", ".join(
            f"{count:,} {_OF_ONE.get(reason, reason) if count == 1 else reason} ({safe_text(example)})"
            for reason, count, example in self
        )
