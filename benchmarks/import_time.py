"""What `import kstyle_torch` adds to `import torch`, in CPU time.

Run: `python benchmarks/import_time.py [--repetitions 11]`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

TORCH = "import torch"
BOTH = "import torch, kstyle_torch"
CLOCK = "import time; start = time.process_time(); {}; print(time.process_time() - start)"
ADDED = "import torch; " + CLOCK.format("import kstyle_torch")


def seconds(program: str) -> float:
    """What a fresh interpreter prints."""
    command, environment = [sys.executable, "-c", program], {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def main() -> None:
    """Measures, taking turns, and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=11)
    repetitions = parser.parse_args().repetitions
    programs = {TORCH: CLOCK.format(TORCH), BOTH: CLOCK.format(BOTH), "kstyle_torch alone, after torch": ADDED}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for program in programs.values():
        seconds(program)  # warm-up: bytecode is written, files are cached
    for _ in range(repetitions):
        for name, program in programs.items():
            times[name].append(seconds(program))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:32} {median:.3f} s")
    print(f"{'difference of the first two':32} {medians[BOTH] - medians[TORCH]:.3f} s")


if __name__ == "__main__":
    main()
