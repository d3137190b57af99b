"""What a stranger's file would run, if anything of it ran."""

from pathlib import Path


class Touch:
    """Leaves a file where it is built, called or unpickled."""

    def __init__(self, path: str = "canary") -> None:
        self.path = path
        Path(path).touch()

    def __reduce__(self):
        return Touch, (self.path,)
