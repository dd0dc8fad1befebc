"""Ways to spoil a scan on purpose, and members of a cohort that are hard but right.

Used by studies/preparation/flags.py and nbs/studies/03_preparation.ipynb.
"""

import sys
from contextlib import contextmanager, nullcontext

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial.transform import Rotation

from msvae_nbdev.phantom.scanner import add_noise

T1_SIGNAL = pd.Series(
    {
        "grey": 0.68,
        "white": 1.0,
        "csf": 0.25,
        "lesion": 0.62,
        "skull": 0.12,
        "scalp": 1.25,
        "muscle": 0.62,
        "eye": 0.28,
    }
)


def orientation(scan, rng):
    "A header that names the wrong axes: two exchanged, upside down, or back to front."
    middle = scan.affine[:3, :3] @ ((np.array(scan.image.shape) - 1) / 2) + scan.affine[:3, 3]
    turns = {
        "upside down": np.diag([1, 1, -1]),
        "back to front": np.diag([1, -1, 1]),
        "nose up": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
        "on one ear": np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
        "facing left": np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
        "axes exchanged": np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]]),
    }
    name = list(turns)[rng.integers(len(turns))]
    turn = np.eye(4)
    turn[:3, :3] = turns[name]
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    return scan._replace(affine=turn @ scan.affine), name


def half(scan, rng):
    "Half the brain is missing: cut off, or blank."
    brain = np.argwhere(scan.brain)
    axis = int(rng.integers(3))
    low, high = brain[:, axis].min(), brain[:, axis].max()
    cut = int(round(low + (high - low) * rng.uniform(0.4, 0.6)))
    keep = slice(cut, None) if rng.integers(2) else slice(None, cut)
    where = tuple(keep if each == axis else slice(None) for each in range(3))
    side = "RAS"[np.abs(scan.affine[:3, axis]).argmax()]
    if rng.integers(2):
        blank = np.zeros_like(scan.image)
        blank[where] = scan.image[where]
        return scan._replace(image=blank), f"blank along {side}"
    shift = np.eye(4)
    shift[:3, 3] = [(each.start or 0) for each in where]
    return scan._replace(
        image=scan.image[where], brain=scan.brain[where], affine=scan.affine @ shift
    ), f"cut along {side}"


def knee(x, y, z, size) -> np.ndarray:
    "Bone, muscle and fat of a knee."
    bone = np.hypot(x, y) < (18 + 14 * np.exp(-(((np.abs(z) - 18) / 16) ** 2))) * size
    body = np.hypot(x, y) < 62 * size
    muscle = np.hypot(x, y) < 52 * size
    return np.select([bone & (np.abs(z) > 4), muscle, body], [0.8, 0.45, 1.0], 0.0)


ORGANS = (  # centre and radii in mm, brightness: liver, kidneys, spine, bowel
    ((-50, 10, 20), (45, 50, 60), 0.75),
    ((55, -30, -10), (24, 22, 45), 0.9),
    ((-55, -35, -20), (24, 22, 45), 0.9),
    ((0, -45, 0), (18, 20, 999), 0.3),
    ((30, 30, -30), (40, 30, 40), 0.35),
)


def abdomen(x, y, z, size) -> np.ndarray:
    "Fat, muscle and organs of an abdomen."
    image = np.where((x / 120) ** 2 + (y / 90) ** 2 < size, 1.0, 0.0)
    image[(x / 105) ** 2 + (y / 76) ** 2 < size] = 0.5
    for centre, radii, value in ORGANS:
        parts = zip((x, y, z), centre, radii)
        image[sum(((axis - at) / (size * radius)) ** 2 for axis, at, radius in parts) < 1] = value
    return image


def neck(x, y, z, size) -> np.ndarray:
    "Airway, cord, vertebrae, muscle and fat of a neck."
    airway, cord = np.hypot(x, y - 25) < 10, np.hypot(x, y + 10) < 7
    vertebra = (np.hypot(x, y + 10) < 20) & (np.abs(z % 22 - 11) < 8)
    muscle = (x / 54) ** 2 + (y / 60) ** 2 < size
    body = (x / 62) ** 2 + (y / 68) ** 2 < size
    tissues = [airway, cord, vertebra, muscle, body]
    return np.select(tissues, [0.0, 0.8, 0.6, 0.45, 1.0], 0.0)


def other_body(scan, rng):
    "A knee, an abdomen or a neck on the lattice of a head scan."
    sides = (np.arange(side, dtype=np.float32) for side in scan.image.shape)
    index = np.stack(np.meshgrid(*sides, indexing="ij"), -1)
    world = index @ scan.affine[:3, :3].T.astype(np.float32) + scan.affine[:3, 3].astype(np.float32)
    world -= world.reshape(-1, 3).mean(0)
    turn = Rotation.from_euler("xyz", rng.normal(0, 5, 3), degrees=True).as_matrix()
    axes = np.moveaxis(world @ turn.astype(np.float32), -1, 0)
    size, part = rng.uniform(0.85, 1.15), (knee, abdomen, neck)[rng.integers(3)]
    voxel = np.linalg.norm(scan.affine[:3, :3], axis=0)
    image = ndimage.gaussian_filter(part(*axes, size).astype(np.float32), 0.7 / voxel)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    texture = ndimage.gaussian_filter(noise, 4 / voxel)
    image *= 1 + 0.08 * texture / texture.std()
    return scan._replace(image=add_noise(image, 0.03, rng)), part.__name__


def strip(scan, rng):
    "A failed skull stripping, with too little or too much; to be prepared as stripped already."
    zooms = np.linalg.norm(scan.affine[:3, :3], axis=0)
    outside = ndimage.distance_transform_edt(~scan.brain, sampling=zooms)
    inside = ndimage.distance_transform_edt(scan.brain, sampling=zooms)
    name = ("whole head", "eaten away", "leaked", "leaked below", "a lobe lost", "a side lost")[
        rng.integers(6)
    ]
    points = np.argwhere(scan.brain)
    places = points @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    head = (
        np.stack(np.meshgrid(*(np.arange(side) for side in scan.brain.shape), indexing="ij"), -1)
        @ scan.affine[:3, :3].T
        + scan.affine[:3, 3]
    )
    if name == "whole head":
        return scan, name
    if name == "eaten away":
        mask = inside > rng.uniform(9, 14)
    elif name == "leaked":
        mask = outside < rng.uniform(14, 25)
    elif name == "leaked below":
        mask = scan.brain | (
            (outside < rng.uniform(35, 50)) & (head[..., 2] < np.percentile(places[:, 2], 25))
        )
    elif name == "a lobe lost":
        centre = places[np.abs(places - places.mean(0)).sum(1).argsort()[-len(places) // 20 :]][
            rng.integers(len(places) // 20)
        ]
        mask = scan.brain & (np.linalg.norm(head - centre, axis=-1) > rng.uniform(50, 65))
    else:
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        mask = scan.brain & (
            head @ direction < np.percentile(places @ direction, rng.uniform(70, 85))
        )
    return scan._replace(image=np.where(mask, np.maximum(scan.image, 1e-3), 0)), name


@contextmanager
def scanner_signal(change):
    "Inside, the simulator's scanner gives `change` of the signal of each tissue."
    users = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("msvae_nbdev.phantom.") and hasattr(module, "flair_signal")
    ]
    kept = [module.flair_signal for module in users]
    for module, signal in zip(users, kept):
        module.flair_signal = lambda *arguments, signal=signal: change(signal(*arguments))
    try:
        yield
    finally:
        for module, signal in zip(users, kept):
            module.flair_signal = signal


def t1_contrast():
    "Inside, the simulator's scanner takes T1-weighted images."
    return scanner_signal(lambda signal: T1_SIGNAL)


def low_contrast(ratio):
    "Inside, grey matter has `ratio` times the brightness of white matter."

    def change(signal):
        signal = signal.copy()
        signal["grey"] = ratio * signal["white"]
        return signal

    return scanner_signal(change)


def motion(scan, rng):
    "Heavy motion between the interleaved shots in which turbo sequences read k-space."
    image, zooms = scan.image, np.linalg.norm(scan.affine[:3, :3], axis=0)
    shots, poses = int(rng.integers(8, 17)), int(rng.integers(3, 6))
    shot = np.arange(image.shape[1]) % shots
    middle = (np.array(image.shape) - 1) / 2
    spectrum = np.zeros(image.shape, np.complex64)
    for pose in range(poses):
        turn = (
            np.diag(1 / zooms)
            @ Rotation.from_euler("xyz", rng.uniform(-6, 6, 3), degrees=True).as_matrix()
            @ np.diag(zooms)
        )
        moved = ndimage.affine_transform(
            image,
            turn,
            middle - turn @ middle + rng.uniform(-8, 8, 3) / zooms,
            order=1,
            mode="nearest",
        )
        lines = shot * poses // shots == pose
        spectrum[:, lines] = np.fft.fft(moved, axis=1)[:, lines]
    return scan._replace(
        image=np.abs(np.fft.ifft(spectrum, axis=1)).astype(np.float32)
    ), f"{poses} poses in {shots} shots"


def defaced(scan, rng):
    "A defacing that cut brain away: everything beyond a plane, or a ball, is set to zero."
    points = np.argwhere(scan.brain) @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    index = np.stack(np.meshgrid(*map(np.arange, scan.image.shape), indexing="ij"), -1)
    head = index @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    name = list(CUTS)[rng.integers(len(CUTS))]
    direction, depth = CUTS[name]
    if direction is None:
        centre = points[rng.integers(len(points))]
        gone = np.linalg.norm(head - centre, axis=-1) < depth
    else:
        gone = head @ direction > (points @ direction).max() - depth
    return scan._replace(image=np.where(gone, 0, scan.image)), name


# direction of a cut in the scanner's axes, and millimetres of brain that it takes; or a ball's radius
CUTS = {
    "front 10 mm": ((0, 1, 0), 10),
    "front 20 mm": ((0, 1, 0), 20),
    "front 30 mm": ((0, 1, 0), 30),
    "back 15 mm": ((0, -1, 0), 15),
    "top 15 mm": ((0, 0, 1), 15),
    "side 15 mm": ((1, 0, 0), 15),
    "ball of radius 10 mm": (None, 10),
    "ball of radius 20 mm": (None, 20),
}


def noise(scan, rng):
    "Noise of a third to two thirds of the brain's brightness."
    share = rng.uniform(0.33, 0.66)
    level = share * float(np.median(scan.image[scan.brain]))
    return scan._replace(
        image=add_noise(scan.image.copy(), level, rng)
    ), f"{share:.0%} of the signal"


SPOIL = {
    "orientation": orientation,
    "half": half,
    "other body": other_body,
    "strip": strip,
    "T1": None,
    "motion": motion,
    "noise": noise,
    "defaced": defaced,
}


def harden(row: dict, member: str, rng) -> tuple:
    "A row of a plan as a hard member of a cohort, and the context in which it is scanned."
    ratio = None
    if member in ("atrophied", "old clinic"):  # wide ventricles and sulci, white matter disease
        row = row | {"age": round(float(rng.uniform(82, 98)), 1), "diagnosis": "leuko3"}
    if member in ("thick slices", "old clinic"):
        thick = round(float(rng.uniform(6, 8)), 1)
        row = row | {"voxel": (0.94, 0.94, thick), "SliceThickness": thick, "axes": "LAS"}
    if member in ("low contrast", "old clinic"):
        ratio = rng.uniform(0.73, 0.83)
    return row, low_contrast(ratio) if ratio else nullcontext()


MEMBERS = ("ordinary", "atrophied", "thick slices", "low contrast", "old clinic")
