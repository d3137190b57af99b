"""`python -m benchmarks`: every benchmark at its default size, one after another; each writes its own section."""

import subprocess
import sys

#: Modules with a `main`; those that need real data take the folder from HANDFUL_DATA and pass over what is not there.
BENCHMARKS = ("sparse_solver", "attribution", "plugin", "filters", "pipeline")


def main() -> None:
    """Run them, each in a process of its own, so that none inherits the memory of another."""
    failed = [name for name in BENCHMARKS if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
