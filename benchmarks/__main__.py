"""`python -m benchmarks`: every benchmark at its default size, one after another; each writes its own section.

Those on real images run where HANDFUL_DATA names the folder with `cub100.zip`, `cifar10.zip` and
`resnet20_cifar10.pth`. All of them take hours; each also runs alone, `python -m benchmarks.sparse_solver`.
"""

import os
import subprocess
import sys

#: Modules with a `main`, with their arguments.
BENCHMARKS = (
    "pipeline",
    "cpu_speed",
    "sparse_solver",
    "sparse_growth",
    "sparse_imagenet",
    "assignment",
    "attribution",
    "attribution_birds",
    "attribution_measures",
    "faithfulness",
    "plugin toy",
    "plugin cost",
    "filters",
    "filters_birds",
    "measures birds",
    "measures filter_loss",
    "measures cost",
)

#: Those that need real images.
ON_REAL_IMAGES = (
    "sparse_accuracy",
    "photographs",
    "heads",
    "plugin cifar",
    "plugin fewshot",
    "filters_cifar10",
    "measures photographs",
)


def main() -> None:
    """Run them, each in a process of its own, so that none inherits the memory of another."""
    chosen = list(BENCHMARKS)
    if os.environ.get("HANDFUL_DATA"):
        chosen += ON_REAL_IMAGES
    else:
        print(f"HANDFUL_DATA is not set, left out: {', '.join(ON_REAL_IMAGES)}", flush=True)
    failed = []
    for name in chosen:
        module, *arguments = name.split()
        print(f"── {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *arguments]).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
