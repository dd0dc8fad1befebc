"""A small skull stripping network, to be compared with skull stripping by template.

`python studies/preparation/network.py data/preparation/network.npz` trains it.

It sees a head that an affine has laid on the template, on a grid of 3 mm, and says how deep below
the brain's surface each voxel lies, so that the surface can be drawn finer than the grid. It is
trained on heads of the simulator's anatomy only, each seen once: shape, thickness and brightness
of every layer, coils, noise, slices, field of view and the error of the affine are drawn anew,
wider than life (domain randomisation, Billot et al. 2023; Hoopes et al. 2022).
"""

import argparse
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from nibabel.affines import from_matvec
from scipy import ndimage
from scipy.spatial.transform import Rotation

from msvae_nbdev.interpolation import interpolate_field, sample, smooth, upsample
from msvae_nbdev.phantom.anatomy import (
    LATTICE_AFFINE,
    Anatomy,
    integrate,
    move,
    random_velocity,
    ventricle_velocity,
)
from msvae_nbdev.phantom.head import load_head
from msvae_nbdev.phantom.lesions import LesionMaps
from msvae_nbdev.phantom.pose import HEAD_CENTRE
from msvae_nbdev.phantom.scanner import signal_map

SHAPE = (64, 72, 64)
SPACING = 3.0
AFFINE = from_matvec(np.eye(3) * SPACING, [-94.5, -125.5, -90.5])
REACH = 8.0  # millimetres: deeper and farther out is all the same


def build():
    "A U-Net of three levels that begins at 6 mm, for most of what it has to know is coarse."
    import keras
    from keras import layers

    def block(x, filters):
        for _ in range(2):
            x = layers.Conv3D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.98)(x))
        return x

    head = layers.Input((*SHAPE, 1))
    first = block(layers.Conv3D(16, 2, strides=2)(head), 16)
    second = block(layers.MaxPooling3D()(first), 32)
    third = block(layers.MaxPooling3D()(second), 48)
    second = block(layers.Concatenate()([layers.UpSampling3D()(third), second]), 32)
    first = block(layers.Concatenate()([layers.UpSampling3D()(second), first]), 16)
    fine = layers.Concatenate()(
        [layers.Conv3DTranspose(8, 2, strides=2, activation="relu")(first), head]
    )
    return keras.Model(head, layers.Conv3D(1, 3, padding="same")(fine))


def save(model, path: Path) -> None:
    "Its weights in half precision: half a megabyte."
    np.savez_compressed(path, *(weight.astype(np.float16) for weight in model.get_weights()))


def load(path: Path):
    "The network with its weights."
    model = build()
    with np.load(path) as held:
        model.set_weights([held[name].astype(np.float32) for name in held.files])
    return model


@lru_cache(1)
def anatomy() -> tuple:
    "The simulator's head at 2 mm: maps, distance to the brain, depth below the brain's surface."
    head = load_head(2)
    brain = np.zeros(head.shell.shape, bool)
    brain[head.box] = head.brain > 0.5
    depth = ndimage.distance_transform_edt(brain, sampling=2) - ndimage.distance_transform_edt(
        ~brain, sampling=2
    )
    closed = ndimage.binary_closing(brain, iterations=3)
    outside = ndimage.gaussian_filter(ndimage.distance_transform_edt(~closed, sampling=2), 0.7)
    return head, outside.astype(np.float32), np.clip(depth, -12, 12).astype(np.float32)


def field(rng, smoothness: float, shape: tuple) -> np.ndarray:
    "A smooth random map of mean 0 and spread 1; `smoothness` in voxels of a coarse lattice."
    step = max(1, int(smoothness))
    coarse = tuple(-(-side // step) + 2 for side in shape)
    noise = smooth(rng.standard_normal(coarse, dtype=np.float32), smoothness / step)
    return upsample((noise - noise.mean()) / noise.std(), shape, step)


LAYERS = ((0, 3.5), (0, 1.5), (1, 2.5), (0.5, 5), (1, 2.5), (1, 9), (1, 3))
"Thickness in mm, from and to: CSF, dura, table, marrow, table, fat, skin."


def shell(rng, signal, draw) -> np.ndarray:
    "Brightness of what lies around the brain: seven layers, the face, and a change over the head."
    head, outside, _ = anatomy()
    thick = np.exp(0.35 * field(rng, 12, outside.shape))
    edges = np.cumsum([rng.uniform(*layer) for layer in LAYERS])
    layer = np.searchsorted(edges.astype(np.float32), (outside / thick).ravel())
    layer = layer.reshape(outside.shape).astype(np.uint8)
    bright = [
        signal["csf"] * rng.uniform(0.5, 1.5),
        draw(0.1, 1.6),
        draw(0.0, 0.3),
        draw(0.1, 1.4),
        draw(0.0, 0.3),
        draw(0.3, 2.5),
        draw(0.3, 1.5),
        0.0,  # air
    ]
    result = np.array(bright, np.float32)[layer]
    below = (head.shell == 0) & (outside < 60) & (layer < 7) & (height() < -50)
    face = np.isin(head.shell, (4, 5)) | below
    of_face = np.array([0, 0, draw(0, 0.4), 0, draw(0.3, 1.3), draw(0.05, 0.6), 0], np.float32)
    result[face] = of_face[head.shell[face]]
    return result * np.maximum(0, 1 + rng.uniform(0, 0.4) * field(rng, 3, outside.shape))


def brightness(rng) -> np.ndarray:
    "One head's brightness on the 2 mm grid: layers as thick and as bright as drawn."
    head, *_ = anatomy()
    wild = rng.uniform() < 0.2  # now and then a contrast that no scanner gives
    draw = lambda low, high: rng.uniform(0.05, 2.0) if wild else rng.uniform(low, high)
    signal = pd.Series(
        {"grey": 1.0, "white": draw(0.75, 1.1), "csf": draw(0.02, 0.45), "lesion": draw(1.2, 2.0)}
    )
    nothing = np.zeros_like(head.grey)
    shape = Anatomy(np.eye(3), None, rng.uniform(-1.0, 2.5), 0.0)
    brain = signal_map(head, shape, LesionMaps(nothing, nothing), signal, whole=False)
    result = shell(rng, signal, draw)
    blobs(rng, result)
    result[head.box] += head.brain * (brain - result[head.box])
    for _ in range(rng.integers(0, 6)):  # lesions
        centre = [rng.uniform(-40, 40), rng.uniform(-70, 40), rng.uniform(-5, 45)]
        ball(result, np.array(centre), rng.uniform(2, 8, 3), signal["lesion"])
    return result


@lru_cache(1)
def height() -> np.ndarray:
    "The height of each voxel of the head's grid, MNI millimetres."
    head = anatomy()[0]
    return np.broadcast_to(np.arange(head.shell.shape[2]) * 2 + head.affine[2, 3], head.shell.shape)


def ball(volume: np.ndarray, centre: np.ndarray, radii: np.ndarray, value: float) -> None:
    "An ellipsoid of one brightness."
    head = anatomy()[0]
    middle = (centre - head.affine[:3, 3]) / 2
    low = np.maximum(0, np.floor(middle - radii / 2).astype(int))
    high = np.minimum(volume.shape, np.ceil(middle + radii / 2).astype(int) + 1)
    if (high <= low).any():
        return
    axes = np.ogrid[tuple(slice(*ends) for ends in zip(low, high))]
    inside = (
        sum(
            ((axis - place) / (radius / 2)) ** 2 for axis, place, radius in zip(axes, middle, radii)
        )
        < 1
    )
    volume[tuple(slice(*ends) for ends in zip(low, high))][inside] = value


def blobs(rng, volume: np.ndarray) -> None:
    "Vessels, sinuses, muscles: bodies of any brightness that touch the brain from outside."
    head = anatomy()[0]
    near = surface()
    for _ in range(rng.integers(5, 40)):
        centre = (
            head.affine[:3, :3] @ near[rng.integers(len(near))]
            + head.affine[:3, 3]
            + rng.normal(0, 4, 3)
        )
        ball(volume, centre, rng.uniform(2, 12, 3), rng.uniform(0, 1.8))


@lru_cache(1)
def surface() -> np.ndarray:
    "Voxels within a centimetre outside the brain."
    outside = anatomy()[1]
    return np.argwhere((outside > 0.5) & (outside < 10))


def example(rng) -> tuple:
    "(a head on the network's grid, brain about 1; depth below its surface in units of `REACH`)."
    head, _, depth = anatomy()
    velocity = (
        random_velocity(rng, rng.uniform(0.3, 1.6))
        + np.float32(rng.uniform(-2, 9)) * ventricle_velocity()
    )
    displacement = integrate(velocity)
    turn = Rotation.from_euler("xyz", rng.normal(0, (3, 2, 2)), degrees=True).as_matrix()
    stretch = np.diag(rng.normal(1, 0.03, 3)) + rng.normal(0, 0.015, (3, 3))
    error = from_matvec(
        turn @ stretch, HEAD_CENTRE + rng.normal(0, 2.5, 3) - turn @ stretch @ HEAD_CENTRE
    )
    mirror = np.diag([-1.0 if rng.uniform() < 0.5 else 1.0, 1, 1, 1])
    points = move(mirror @ error @ AFFINE, np.indices(SHAPE, dtype=np.float32))
    points = points + interpolate_field(displacement, move(np.linalg.inv(LATTICE_AFFINE), points))
    index = move(np.linalg.inv(head.affine), points).astype(np.float32)
    volume, target = sample(brightness(rng), index), sample(depth + 12, index) - 12
    volume = degrade(rng, volume)
    level = np.median(volume[(target > 0) & (volume > 0)]) * np.exp(
        rng.normal(0, 0.05)
    )  # the registered template's median is not quite the brain's
    return np.clip(volume / level, 0, 3), np.clip(target / REACH, -1, 1)


def degrade(rng, volume: np.ndarray) -> np.ndarray:
    "What the scanner does: slices, coils, noise, the field of view, and the removal of the face."
    if (
        rng.uniform() < 0.7
    ):  # slices of this thickness (and the gap between them), drawn again by linear interpolation
        axis, thick = (2 if rng.uniform() < 0.8 else rng.integers(0, 3)), rng.uniform(1, 8.5)
        volume = np.moveaxis(
            np.moveaxis(volume, axis, -1)
            @ slices(volume.shape[axis], thick / SPACING, rng.uniform()).T.astype(np.float32),
            -1,
            axis,
        )
    volume = ndimage.gaussian_filter(volume, rng.uniform(0, 0.5))
    volume = volume * np.exp(rng.uniform(0, 0.35) * field(rng, 20, SHAPE))
    volume = volume ** rng.uniform(0.75, 1.3)
    noise = rng.uniform(0, 0.08) * rng.standard_normal((2, *SHAPE), dtype=np.float32)
    volume = np.hypot(volume + noise[0], noise[1])
    x, y, z = np.meshgrid(
        *(np.arange(side) * SPACING + AFFINE[axis, 3] for axis, side in enumerate(SHAPE)),
        indexing="ij",
        sparse=True,
    )
    slope = rng.normal(0, 0.15)
    if rng.uniform() < 0.3:
        volume = np.where(z + slope * y > rng.uniform(55, 85), 0, volume)
    if rng.uniform() < 0.6:
        volume = np.where(z + slope * y < rng.uniform(-90, -45), 0, volume)
    if rng.uniform() < 0.4:
        volume = np.where((y - 0.9 * z > rng.uniform(85, 110)) & (z < 0), 0, volume)
    return volume.astype(np.float32)


def slices(side: int, thick: float, phase: float) -> np.ndarray:
    "The matrix that averages over slices and interpolates between their middles."
    middles = np.arange(phase * thick, side, thick)
    voxel = np.arange(side)
    inside = (np.abs(voxel[None] - middles[:, None]) <= max(thick, 1) / 2).astype(float)
    averaged = inside / np.maximum(inside.sum(1, keepdims=True), 1)
    weight = np.maximum(0, 1 - np.abs(voxel[:, None] - middles[None]) / thick)
    return weight / np.maximum(weight.sum(1, keepdims=True), 1e-6) @ averaged


def batches(seed: int, size: int = 4):
    "Endless examples."
    rng = np.random.default_rng(seed)
    while True:
        heads, depths = zip(*(example(rng) for _ in range(size)))
        yield (
            np.stack(heads)[..., None].astype(np.float32),
            np.stack(depths)[..., None].astype(np.float32),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import keras

    keras.utils.set_random_seed(options.seed)
    model = build()
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, options.steps - 100, alpha=0.01, warmup_target=3e-3, warmup_steps=100
    )
    model.compile(
        keras.optimizers.Adam(rate), keras.losses.Huber(0.1), metrics=["mae"], jit_compile=False
    )
    model.summary()
    start, losses = time.time(), []
    for step, (heads, depths) in zip(range(1, options.steps + 1), batches(options.seed)):
        losses.append(model.train_on_batch(heads, depths, return_dict=True)["mae"])
        model.reset_metrics()
        if step % 50 == 0:
            error_mm = REACH * np.mean(losses[-50:])
            seconds = time.time() - start
            print(f"step {step}, {seconds:.0f} s: mean error {error_mm:.3f} mm", flush=True)
            save(model, options.out)
    save(model, options.out)
