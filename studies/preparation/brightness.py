"""How much of a brain is brighter than normal tissue, before the shading of the coils is divided out and after it.

msvae prepare BIDS FOLDER --keep-full
python studies/preparation/brightness.py FOLDER      writes data/preparation/brightness.tsv; of the scans numbers alone
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from msvae_nbdev.core import write_tsv
from msvae_nbdev.intensity import NORMAL, even_brightness
from msvae_nbdev.space import block_mean, trim

KEPT = Path(__file__).parents[2] / "data" / "preparation" / "brightness.tsv"


def measured(path: Path) -> dict:
    "Millilitres of one scan that are brighter than normal tissue."
    scan = block_mean(trim(nib.load(path).get_fdata(dtype=np.float32)), 2)
    before, after = scan / np.median(scan[scan > 0]), even_brightness(scan)
    bright = {name: (each > NORMAL).sum() * 8 / 1000 for name, each in (("before", before), ("after", after))}  # fmt: skip
    return {f"{name}_ml": round(float(ml), 1) for name, ml in bright.items()}


if __name__ == "__main__":
    scans = sorted(Path(sys.argv[1]).rglob("*_res-1_desc-brain_FLAIR.nii.gz"))
    write_tsv(pd.DataFrame([measured(path) for path in scans]), KEPT)
