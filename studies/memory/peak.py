"""How much memory evaluate and classify take as a cohort grows: `python studies/memory/peak.py OUT.csv [SCANS ...]`.

The volumes are made up, smooth noise in the shape of a brain, and so is the run: networks that were never trained. What is measured is the anonymous
memory of the process, which includes TensorFlow's; the volumes that are mapped from the disk can be given back at any time and do not count.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

LATENT_DIM = 32


def made_up(folder: Path, scans: int) -> Path:
    "A run on a made-up cohort."
    from msvae_nbdev.core import write_json, write_tsv
    from msvae_nbdev.model.networks import build_decoder, build_encoder
    from msvae_nbdev.model.volumes import cache_folder, listing_hash
    from msvae_nbdev.space import SHAPE

    rng = np.random.default_rng(0)
    prepared, run = folder / "prepared", folder / "run"
    people = [f"sub-{row // 2:05}" for row in range(scans)]
    table = pd.DataFrame({"participant_id": people, "session_id": "ses-1", "status": "ok"})
    table["diagnosis"] = np.array(["healthy", "ms"])[np.arange(scans) // 2 % 2]
    table["age"], table["path"] = 40.0, [f"{row}.nii.gz" for row in range(scans)]
    prepared.mkdir()
    for path in table.path:
        (prepared / path).touch()
    write_tsv(table, prepared / "scans.tsv")
    packed = cache_folder(prepared) / f"ok-{listing_hash(prepared, table.path)}.npy"
    shape = (scans, *SHAPE, 1)
    volumes = np.lib.format.open_memmap(packed, mode="w+", dtype=np.float32, shape=shape)
    grid = np.stack(np.mgrid[-1:1:40j, -1:1:48j, -1:1:40j])
    brain = np.exp(-((grid**2).sum(0) ** 2) * 3)
    brain[brain < 0.2] = 0
    for row in range(scans):
        coarse = rng.uniform(0.4, 1, (10, 12, 10)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
        volumes[row, ..., 0] = brain * coarse
    volumes.flush()
    write_json({"voxels": "0" * 32}, packed.with_suffix(".json"))
    part = np.array(["train"] * 8 + ["validation"] + ["test"])[np.arange(scans) // 2 % 10]
    split = table[["participant_id", "session_id", "diagnosis", "path"]].assign(split=part)
    config = {"objective": "vae", "latent_dim": LATENT_DIM, "epochs": 1, "include_suspect": False}
    config |= {"data_hash": "", "prepared": str(prepared.resolve()), "flip": True}
    write_json(config, run / "config.json")
    write_tsv(split, run / "split.tsv")
    for network in (build_encoder(LATENT_DIM), build_decoder(LATENT_DIM)):
        network.save(run / f"{network.name}.keras")
    write_json({"packages": {}}, run / "provenance.json")
    codes = rng.normal(size=(scans, LATENT_DIM)).astype(np.float32)
    names = [f"z_{number}" for number in range(LATENT_DIM)]
    latents = pd.concat([table.assign(split=part), pd.DataFrame(codes, columns=names)], axis=1)
    latents.to_parquet(run / "latents.parquet")
    return run


def anonymous() -> float:
    "Anonymous memory of this process in GB."
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1e6
    return float("nan")


def measure(command: str, run: str) -> None:
    "Print the most memory that a command took, and the seconds."
    peak, done = [0.0], threading.Event()

    def watch():
        while not done.wait(0.05):
            peak[0] = max(peak[0], anonymous())

    threading.Thread(target=watch, daemon=True).start()
    begun = time.monotonic()
    if command == "evaluate":
        from msvae_nbdev.evaluation.evaluate import evaluate_run

        evaluate_run(run)
    else:
        from msvae_nbdev.latent import classify_run as chapter

        usual = chapter.information
        chapter.information = lambda *given, **named: usual(*given, epochs=1, **named)
        chapter.classify_run(run)
    done.set()
    print(f"\n{peak[0]:.2f} {time.monotonic() - begun:.0f}")


def main(output: str, sizes: list) -> None:
    rows = []
    for scans in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            run = made_up(Path(scratch), scans)
            for command in ("evaluate", "classify"):
                code = [sys.executable, __file__, command, str(run)]
                done = subprocess.run(code, capture_output=True, text=True, env=dict(os.environ))
                if done.returncode:
                    raise RuntimeError(done.stderr[-2000:])
                gigabytes, seconds = done.stdout.split()[-2:]
                rows.append((command, scans, float(gigabytes), int(seconds)))
                table = pd.DataFrame(rows, columns=["command", "scans", "gigabytes", "seconds"])
                table.to_csv(output, index=False)
                print(rows[-1], flush=True)


if __name__ == "__main__":
    if sys.argv[1] in ("evaluate", "classify"):
        measure(*sys.argv[1:])
    else:
        main(sys.argv[1], [int(size) for size in sys.argv[2:]] or [500, 2000, 8000, 20000])
