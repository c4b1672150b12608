"""``python -m bench.training [--half] [RUN ...]``: ships finished runs, writes RESULTS.md.

With ``--measure NAME`` a shipped checkpoint's accuracy, MACs and dynamics are measured again first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.training.results import TRAIN, measure_again, results, ship, write


def main() -> None:
    """Ships what the command line names, then writes RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.training")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--half", action="store_true", help="weights in half precision")
    parser.add_argument(
        "--measure",
        action="append",
        default=[],
        metavar="NAME",
        help="measure this shipped checkpoint again, over the whole test set; repeatable",
    )
    arguments = parser.parse_args()
    for name in arguments.measure:
        measure_again(name)
        print(f"measured {name}")
    for run in arguments.runs:
        print(f"shipped {ship(run, arguments.half)}")
    write(TRAIN / "RESULTS.md", results().encode())
    print(f"wrote {TRAIN / 'RESULTS.md'}")


if __name__ == "__main__":
    main()
