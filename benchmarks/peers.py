"""Us against everybody who trains such networks: `python benchmarks/peers.py [--check] [--gpu]`.

`pip install .[bench]` brings the others; who is not installed is left out. Every contender runs each workload in a fresh
process, pinned to one core (`--cores 2`: to two), and they take turns, round by round. Figures are medians over the
rounds; ratios are taken within a round.

    --check     holds us to the bars of `bars.py`, prints each, and exits with 1 if one is missed
    --gpu       on CUDA: wall times between events
    --only      some contenders, by parts of their names
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from bars import BARS, interval, verdict
from contenders import HAND_TUNED, OURS, available
from reference import print_table
from workloads import WORKLOADS

HERE = Path(__file__).resolve().parent
LONG_STEPS = 20_000
Rounds = dict[tuple[str, str], list[dict[str, float]]]  # workload and contender -> the figures of each round


def run(contender: str, workload: str, cores: int, *options: str) -> dict[str, float] | None:
    """The figures of one fresh process; None, with its last words on stderr, if it failed."""
    command = [sys.executable, str(HERE / "peer_worker.py"), contender, workload, *options]
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    environment = (
        os.environ | dict.fromkeys(names, str(cores)) | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    )
    if "cuda" in options:
        environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0")

    def pin() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])

    pinned = {} if os.name == "nt" else {"preexec_fn": pin}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parent, **pinned)
    if done.returncode:
        print(f"{contender} on {workload}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(workloads: list[str], chosen: list[str], rounds: int, cores: int, options: list[str]) -> Rounds:
    """All rounds; a contender that fails once is left out from then on."""
    pairs = [(workload, name) for workload in workloads for name in available(workload)]
    pairs = [(w, name) for w, name in pairs if not chosen or any(part in name for part in chosen)]
    results: Rounds = {pair: [] for pair in pairs}
    for number in range(rounds):
        for workload, name in pairs:
            if number == len(results.get((workload, name), ())):
                print(f"round {number + 1}: {workload}, {name}", file=sys.stderr)
                figures = run(name, workload, cores, *options)
                if figures is None:
                    del results[workload, name]
                else:
                    results[workload, name].append(figures)
    return results


def print_workload(workload: str, results: Rounds, figure: str) -> None:
    """The table of one workload."""
    rows = []
    base = results.get((workload, HAND_TUNED))
    for (other, name), rounds in results.items():
        if other != workload:
            continue
        columns = (f"train_{figure}", f"evaluate_{figure}", f"predict_{figure}", f"predict_one_{figure}")
        row = [name, *(_median(rounds, column, "{:.0f}") for column in columns)]
        ratio = "" if base is None else f"{interval(_ratios(rounds, base, f'train_{figure}'))[0]:.2f}"
        row.insert(2, ratio)
        for column, form in (
            ("first_epoch_s", "{:.2f}"),
            ("import_s", "{:.2f}"),
            ("peak_mb", "{:.0f}"),
            ("loss", "{:.3f}"),
        ):
            row.append(_median(rounds, column, form))
        rows.append(row)
    print(f"\n**{WORKLOADS[workload].title}**\n")
    header = ["", "train", "ratio", "evaluate", "predict", "one row", "first epoch s", "import s", "peak MB", "loss"]
    print_table(header, rows)


def _median(rounds: list[dict[str, float]], figure: str, form: str) -> str:
    values = [figures[figure] for figures in rounds if figure in figures]
    return form.format(statistics.median(values)) if values else ""


def _ratios(ours: list[dict[str, float]], theirs: list[dict[str, float]], figure: str) -> list[float]:
    return [mine[figure] / other[figure] for mine, other in zip(ours, theirs) if figure in mine and figure in other]


def check(results: Rounds, rounds: int, cores: int) -> bool:
    """Prints every bar; gives whether all are met."""
    terminal: list[dict[str, float]] = [f for _ in range(rounds) if (f := run(OURS, "small", cores, "--terminal"))]
    long = [f for _ in range(rounds) if (f := run(OURS, "small", cores, "--long", str(LONG_STEPS)))]
    rows, missed = [], 0
    for bar in BARS:
        if bar.workload == "long":
            ratios = [figures[bar.ours] / figures[bar.theirs] for figures in long]
        elif bar.ours.endswith("verbose=1"):
            ratios = [figures["terminal_ratio"] for figures in terminal]
        elif not bar.theirs:
            ratios = [figures[bar.figure] for figures in results.get((bar.workload, bar.ours), ())]
        else:
            pair = [results.get((bar.workload, name), []) for name in (bar.ours, bar.theirs)]
            ratios = _ratios(*pair, bar.figure)
        if not ratios:
            rows.append([bar.title, f"{bar.limit:g}", "", "", "not measured"])
            missed += 1
            continue
        median, low, high = interval(ratios)
        word = verdict(bar.limit, median, low)
        missed += word != "met"
        rows.append([bar.title, f"{bar.limit:g}", f"{median:.3f}", f"{low:.3f} to {high:.3f}", word])
    print("\n**Bars**\n")
    print_table(["ours / theirs", "bar", "median", "95 % interval", ""], rows)
    return missed == 0


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3, help="measured turns within a process")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    arguments = parser.parse_args()
    options = ["--turns", str(arguments.turns)]
    if arguments.gpu:
        import torch

        if not torch.cuda.is_available():
            print("No CUDA device: torch.cuda.is_available() is False, so there is nothing to measure.")
            return
        options += ["--device", "cuda"]
    results = measure(arguments.workloads, arguments.only, arguments.rounds, arguments.cores, options)
    figure = "wall_us" if arguments.gpu else "cpu_us"
    what = "wall microseconds between CUDA events" if arguments.gpu else "CPU microseconds"
    print(
        f"{what} per step, medians of {arguments.rounds} fresh processes, {arguments.cores} core(s); the ratio is that of"
    )
    print(f"training to the {HAND_TUNED}; {platform.processor() or platform.machine()}, {platform.system()}, ", end="")
    print(f"Python {platform.python_version()}")
    for workload in arguments.workloads:
        print_workload(workload, results, figure)
    if arguments.check and not check(results, arguments.rounds, arguments.cores):
        sys.exit(1)


if __name__ == "__main__":
    main()
