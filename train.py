"""Entry point: `python train.py --help`."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
