"""Kill commands at random moments: afterwards nothing of them runs, and the same command comes to the same result.

`python tests/kill.py 50` kills each command 50 times, which takes hours; `python tests/kill.py 5 train encode` two of them. Of every
three kills one is Ctrl-C, one SIGTERM, one SIGKILL. pytest does it once for a simulation.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

MSVAE = [sys.executable, "-c", "from msvae_nbdev.show.cli import main; main()"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
PATIENCE = 5.0  # seconds until nothing of a command may run any more

# folder: what is written; {cohort}, {raw} and {run} are made once
COMMANDS = {
    "simulate": ["simulate", "{out}", "--prepared", "--scale", "0.0001", "--at-least", "1"],
    "prepare": ["prepare", "{raw}", "{out}"],
    "train": "train {cohort} {out} --objective vae --latent-dim 4 --epochs 8 --deterministic".split(),
    "encode": ["encode", "{out}", "{cohort}"],
    "evaluate": ["evaluate", "{out}", "--samples", "8"],
    "study": "study {out} --scale 0.01 --epochs 1 --models vae-8".split(),
}


def run(arguments: list) -> subprocess.Popen:
    "A command in a session of its own, so that its processes are found."
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    heard = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # what runs in the background is deaf
    return subprocess.Popen([*MSVAE, *arguments], start_new_session=True, preexec_fn=heard, **quiet)


def finish(arguments: list) -> float:
    "Run a command to its end; the seconds that it took."
    begun = time.monotonic()
    process = run(arguments)
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{arguments} ended with {process.returncode}: {said[-500:]}")
    return time.monotonic() - begun


def running(session: int) -> list:
    "The processes of a session that still run."
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == str(session) and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found


def kill(arguments: list, after: float, how: signal.Signals) -> dict:
    "Send a signal to a command after some seconds; what it said, and what of it stayed."
    process = run(arguments)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        pass
    ended = process.poll() is not None
    process.send_signal(how)
    begun = time.monotonic()
    _, said = process.communicate()
    seconds = time.monotonic() - begun
    while left := running(process.pid):
        if time.monotonic() > begun + 2 * PATIENCE:
            break
        time.sleep(0.1)
    gone = time.monotonic() - begun
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return {
        "signal": how.name,
        "ended before": ended,
        "status": process.returncode,
        "seconds": max(seconds, gone),
        "left": len(left),
        "said": said.strip().splitlines()[-1:] or [""],
    }


def result(folder: Path) -> dict:
    "What a folder holds, but for times and seconds, and for what a study's training left to chance."
    found = {}
    for path in sorted(folder.rglob("*.nii.gz")):
        found[path.relative_to(folder).as_posix()] = nib.load(path).get_fdata().sum().item()
    if is_study := (folder / "study.html").exists():
        pages = [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")]
        found["files"] = sorted(name for name in pages if "/.cache/" not in name)
    for name in ("scans.tsv", "split.tsv", *(["history.csv"] if not is_study else [])):
        for path in folder.rglob(name):
            table = pd.read_csv(path, sep=None, engine="python")
            found[name] = table.drop(columns="seconds", errors="ignore").round(4).to_csv()
    if (folder / "latents.parquet").exists():
        latents = pd.read_parquet(folder / "latents.parquet").filter(like="z_")
        found["latents"] = np.round(latents.to_numpy().sum(), 2).item()
    if (folder / "quality.json").exists():
        quality = json.loads((folder / "quality.json").read_text())
        found["quality"] = round(quality["test"]["mse"], 6)
    found["unfinished"] = [path.name for path in folder.rglob(".tmp-msvae-*")]
    return found


def begin(folder: Path, names: list) -> dict:
    "What the commands start from."
    made = {"cohort": folder / "cohort", "raw": folder / "raw", "run": folder / "run"}
    if {"train", "encode", "evaluate"} & set(names):
        finish(["simulate", str(made["cohort"]), "--prepared", "--scale", "0.002"])
        training = [word.format(out=made["run"], **made) for word in COMMANDS["train"]]
        finish(training)
    if "prepare" in names:
        finish(["simulate", str(made["raw"]), "--scale", "0.0001", "--at-least", "1"])
    return made


def fresh(name: str, folder: Path, made: dict) -> Path:
    "The folder that a command is to write, as it is before."
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    if name in ("encode", "evaluate"):
        shutil.copytree(made["run"], out)
    return out


def kill_often(name: str, folder: Path, made: dict, number: int, rng: random.Random) -> list:
    "Kill a command at `number` random moments; `AssertionError` where the result is another one."
    out = fresh(name, folder, made)
    arguments = [word.format(out=out, **made) for word in COMMANDS[name]]
    seconds = finish(arguments)
    wanted, outcomes = result(out), []
    while len(outcomes) < number:
        fresh(name, folder, made)
        how = SIGNALS[len(outcomes) % len(SIGNALS)]
        outcome = kill(arguments, rng.uniform(0.05, 1) * seconds, how)
        if outcome.pop("ended before"):
            continue
        finish(arguments)
        found = result(out)
        assert found == wanted, (
            f"{name} after {outcome}: {[k for k in wanted if found.get(k) != wanted[k]]}"
        )
        assert not outcome["left"], f"{name}: {outcome}"
        outcomes.append({"command": name} | outcome)
    return outcomes


def main(number: int, names: list) -> pd.DataFrame:
    "One row per kill."
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        made = begin(Path(scratch), names)
        rows = [row for name in names for row in kill_often(name, Path(scratch), made, number, rng)]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    table = main(int(sys.argv[1]), sys.argv[2:] or list(COMMANDS))
    pd.options.display.width = 200
    print(table.drop(columns="said").to_string())
    worst = table.groupby(["command", "signal"]).seconds.max().unstack()
    print(f"\n{len(table)} kills, no other result; seconds until nothing ran:\n{worst.round(1)}")
