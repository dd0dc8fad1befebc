"""Keep what the tutorial on the latent space shows of a run: `python studies/demonstration/keep_latent.py RUN` fills data/latent/NAME (figures, numbers, latents)."""

import shutil
import sys
from pathlib import Path

import pandas as pd

FIGURES = (
    "lda-1-scans",
    "lda-5-feature-1",
    "lda-5-feature-1-own",
    "lda-5-feature-2",
    "lda-6-axis-1",
    "lda-7-morph-1",
    "lda-7-morph-2",
)

if __name__ == "__main__":
    run = Path(sys.argv[1])
    target = Path(__file__).parents[2] / "data" / "latent" / run.resolve().name
    (target / "figures").mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        shutil.copy(run / "figures" / f"{name}.json", target / "figures" / f"{name}.json")
    shutil.copy(run / "lda.json", target / "lda.json")
    pd.read_parquet(run / "latents.parquet").drop(
        columns=["path", "source"], errors="ignore"
    ).to_parquet(target / "latents.parquet", index=False)
    print(
        f"{target}: {sum(path.stat().st_size for path in target.rglob('*.*') if path.is_file()) / 1000:.0f} kB"
    )
