"""Time and memory of each stage against the number of scans: `python studies/cost/stages.py WORK`, on a machine that does nothing else.

Each stage is the command that a user gives, a process of its own. Adds rows to data/cost/stages.csv; run again, it goes on where it stopped.
Memory is the anonymous memory of the command and its workers together, sampled; what is mapped from the disk can be given back and does not count.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from msvae_nbdev.core import atomic_path
from msvae_nbdev.phantom.imaging import plan_cohort

KEPT = Path(__file__).parents[2] / "data" / "cost" / "stages.csv"
MSVAE = Path(sys.executable).with_name("msvae")
RAW = (0.001, 0.008, 0.016, 0.032)  # of the paper's patients, by the raw route
PREPARED = (0.025, 0.05, 0.1, 0.2)  # straight into the prepared layout
WORKERS = (1, 2, 4)  # of a dask cluster on this machine


def anonymous_memory(process: int) -> float:
    "Gigabytes of a process and all that it has started."
    total = 0.0
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                total = int(line.split()[1]) / 1e6
        tasks = Path(f"/proc/{process}/task").glob("*/children")
        children = " ".join(task.read_text() for task in tasks).split()
    except OSError:  # it has just ended
        return total
    return total + sum(anonymous_memory(int(child)) for child in children)


def run_stage(*command) -> dict:
    "Seconds and gigabytes of a command."
    begun, most = time.monotonic(), 0.0
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None:
            most = max(most, anonymous_memory(process.pid))
            time.sleep(0.1)
        said = process.stderr.read().decode()
    if process.returncode:
        raise RuntimeError(f"{command}: {said[-500:]}")
    return {"seconds": round(time.monotonic() - begun, 1), "gigabytes": round(most, 2)}


def raw_stages(work: Path, scale: float) -> dict:  # stage: its command
    "Simulation and preparation of raw scans."
    raw, prepared = work / f"raw-{scale:g}", work / f"chain-{scale:g}"
    return {
        "simulate": (MSVAE, "simulate", raw, "--scale", scale),
        "prepare": (MSVAE, "prepare", raw, prepared),
    }


def run_stages(work: Path, scale: float) -> dict:  # stage: its command
    "All that follows; one epoch of a VAE, and one of each phase of an IntroVAE."
    prepared, run = work / f"prepared-{scale:g}", work / f"vae-{scale:g}"
    intro = work / f"introvae-{scale:g}"
    train = (MSVAE, "train", prepared)
    return {
        "simulate --prepared": (MSVAE, "simulate", prepared, "--prepared", "--scale", scale),
        "train vae, 1 epoch": (*train, run, "--epochs", 1),
        "train introvae, 2 epochs": (*train, intro, "--objective", "introvae", "--epochs", 2),
        "encode": (MSVAE, "encode", run, prepared),
        "evaluate": (MSVAE, "evaluate", run),
        "classify": (MSVAE, "classify", run),
        "bias": (MSVAE, "bias", run),
    }


def cluster_stage(work: Path, scale: float, workers: int) -> tuple:
    "Preparation by a dask cluster on this machine: this script, called with --cluster."
    raw, prepared = work / f"raw-{scale:g}", work / f"cluster-{workers}"
    return sys.executable, __file__, raw, "--cluster", prepared, workers


def prepare_by_cluster(raw: Path, prepared: Path, workers: int) -> None:
    "Prepare a dataset with workers of one thread each."
    from distributed import LocalCluster

    from msvae_nbdev.preparation.prepare import prepare

    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
        prepare(raw, prepared, scheduler=cluster.scheduler_address)


def main(work: Path) -> None:
    "Add the rows that are missing."
    rows = pd.read_csv(KEPT).to_dict("records") if KEPT.exists() else []
    done = {(row["stage"], row["scans"]) for row in rows}
    plans = [(scale, raw_stages(work, scale)) for scale in RAW]
    plans += [(scale, run_stages(work, scale)) for scale in PREPARED]
    names = {f"prepare, dask, {n} workers": cluster_stage(work, RAW[1], n) for n in WORKERS}
    for scale, stages in [*plans, (RAW[1], names)]:
        scans = len(plan_cohort(scale, 0, 1.0))
        for stage, command in stages.items():
            if (stage, scans) in done:
                continue
            rows.append({"stage": stage, "scans": scans, **run_stage(*command)})
            print(rows[-1], flush=True)
            with atomic_path(KEPT) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for cohorts and runs, some 3 GB")
    parser.add_argument("--cluster", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cluster:
        prepare_by_cluster(options.work, Path(options.cluster[0]), int(options.cluster[1]))
    else:
        options.work.mkdir(parents=True, exist_ok=True)
        main(options.work)
