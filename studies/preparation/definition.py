"""How much fluid between the gyri should count as brain: masks by several closings, on real scans.

`python studies/preparation/definition.py BIDS` prepares the real scans of a dataset, refines each
mask again with other closings, and writes data/preparation/definition.csv: the Dice coefficient
with the reference mask (BIDS/derivatives/reference), millilitres too many and too few, those below
the template's lower end, and how much the prepared volume differs from the one by default.
"""

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes

from msvae_nbdev.intensity import to_volume
from msvae_nbdev.preparation.prepare_scan import prepare_scan
from msvae_nbdev.preparation.registration import to_atlas
from msvae_nbdev.preparation.scan import along_axes, read_scan, to_grid
from msvae_nbdev.preparation.skull_strip import propagate_signed_distance, refine_mask
from msvae_nbdev.space import load_template

DATA = Path(__file__).parents[2] / "data" / "preparation"
CLOSINGS = (6.0, 4.0, 3.0, 1.6)  # millimetres; the first is the default


def read_mask(path: Path) -> np.ndarray:
    "A mask with axes as in `Scan`."
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj) > 0


def compare(path: Path, reference: np.ndarray, stem: Path) -> list:
    "A row per closing."
    prepare_scan(path, stem)
    scan = read_scan(path)
    scan_to_mni = np.loadtxt(f"{stem}_from-scan_to-MNI_affine.txt")
    fine, grid = to_grid(scan.volume, scan.affine, 1.5, thick=True)
    prior = propagate_signed_distance(fine.shape, grid, np.linalg.inv(scan_to_mni))
    lowest = apply_affine(load_template().affine, np.argwhere(load_template().mask))[:, 2].min()
    millilitres, rows, usual = np.prod(voxel_sizes(scan.affine)) / 1000, [], None
    for closing in CLOSINGS:
        mask = refine_mask(fine, grid, prior, band=3.0, closing=closing)
        mask = along_axes(mask, grid, scan.volume.shape, scan.affine) > 0.5
        prepared = to_volume(to_atlas(scan.volume, scan.affine, mask, scan_to_mni))
        usual = prepared if usual is None else usual
        height = apply_affine(scan_to_mni @ scan.affine, np.argwhere(mask))[:, 2]
        row = {
            "scan": path.name.split("_FLAIR")[0],
            "closing_mm": closing,
            "dice": 2 * (mask & reference).sum() / (mask.sum() + reference.sum()),
            "too_many_ml": (mask & ~reference).sum() * millilitres,
            "too_few_ml": (reference & ~mask).sum() * millilitres,
            "below_template_ml": (height < lowest).sum() * millilitres,
            "difference": np.abs(prepared - usual).mean() / usual.mean(),
        }
        rows.append(row)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    dataset, rows = parser.parse_args().dataset, []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(dataset.glob("sub-*/**/*_FLAIR.nii.gz")):
            name = path.name.replace("_FLAIR", "_desc-brain_mask")
            (reference,) = (dataset / "derivatives" / "reference").rglob(name)
            rows += compare(path, read_mask(reference), Path(folder) / path.name.split(".")[0])
    pd.DataFrame(rows).round(4).to_csv(DATA / "definition.csv", index=False)
