"""Keep the small results of a demonstration for the docs: `python studies/demonstration/keep.py msvae-demo` fills data/demo."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd

KEPT = ("history.csv", "quality.json", "lda.json", "bias.json")

if __name__ == "__main__":
    for run in sorted(Path(sys.argv[1]).glob("*vae-*")):
        target = Path(__file__).parents[2] / "data" / "demo" / run.name
        target.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            shutil.copy(run / name, target / name)
        provenance = json.loads((run / "provenance.json").read_text())
        provenance["arguments"].pop("prepared", None)
        (target / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
        latents = pd.read_parquet(run / "latents.parquet")
        latents.drop(columns=["path", "source"], errors="ignore").to_parquet(
            target / "latents.parquet", index=False
        )
        print(f"{target}: {sum(path.stat().st_size for path in target.iterdir()) / 1000:.0f} kB")
