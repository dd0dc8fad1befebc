"""Other methods of skull stripping, compared with the template method in peers.py.

All begin where the template method begins, with the head template registered to the head, and
take the place of its refinement: a level set, a graph cut (needs PyMaxflow), and the network of
network.py.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nibabel.affines import voxel_sizes
from scipy import ndimage

from msvae_nbdev.preparation.registration import brain_level, register_head
from msvae_nbdev.preparation.scan import along_axes, to_grid
from msvae_nbdev.preparation.skull_strip import _largest, propagate_signed_distance, refine_mask
from msvae_nbdev.space import resample


def placed(head: np.ndarray, affine: np.ndarray) -> tuple:
    "(scan at 1.5 mm over the brightness of brain; its grid; depth below the template's surface)."
    mni_to_scan = register_head(*to_grid(head, affine, 3, thick=True))
    fine, grid = to_grid(head, affine, 1.5, thick=True)
    depth = propagate_signed_distance(fine.shape, grid, mni_to_scan)
    return fine / brain_level(fine, depth > 6, voxel_sizes(grid)), grid, depth


def filled(mask: np.ndarray) -> np.ndarray:
    "The largest piece, without holes in its slices."
    return np.stack(
        [ndimage.binary_fill_holes(each) for each in np.moveaxis(_largest(mask), 2, 0)], 2
    )


def level_set(
    head: np.ndarray,
    affine: np.ndarray,
    window=(0.5, 1.5),
    curvature: float = 1.0,
    rounds: int = 200,
    inner: float = 4.0,
    reach: float = 5.0,
) -> np.ndarray:
    "A surface that grows from inside the template's, where the scan is as bright as brain."
    relative, grid, depth = placed(head, affine)
    relative = np.where(depth > 10, 1.0, np.where(depth < -reach, 0.0, relative))
    images = [
        sitk.GetImageFromArray(np.ascontiguousarray(volume.T, np.float32))
        for volume in (inner - depth, relative)
    ]
    for image in images:
        image.SetSpacing(voxel_sizes(grid).tolist())
    segment = sitk.ThresholdSegmentationLevelSetImageFilter()
    segment.SetNumberOfThreads(1)
    segment.SetLowerThreshold(window[0])
    segment.SetUpperThreshold(window[1])
    segment.SetCurvatureScaling(curvature)
    segment.SetPropagationScaling(1.0)
    segment.SetNumberOfIterations(rounds)
    segment.SetMaximumRMSError(0.005)
    found = sitk.GetArrayFromImage(segment.Execute(*images)).T < 0
    return along_axes(filled(found).astype(np.float32), grid, head.shape, affine) > 0.5


def graph_cut(
    head: np.ndarray,
    affine: np.ndarray,
    prior: float = 2.0,
    stiffness: float = 10.0,
    spread: float = 0.2,
    reach: float = 6.0,
) -> np.ndarray:
    """The surface of least cost.

    A voxel costs as much as it is unlike its label; neighbours of like brightness cost if their
    labels differ.
    """
    import maxflow

    relative, grid, depth = placed(head, affine)
    box = tuple(
        slice(max(0, span.min() - 8), span.max() + 9) for span in np.nonzero(depth > -reach)
    )
    shape, relative, depth, zooms = relative.shape, relative[box], depth[box], voxel_sizes(grid)
    normal = lambda mean, sd: np.exp(-(((relative - mean) / sd) ** 2) / 2) / sd / np.sqrt(2 * np.pi)
    brain = 0.85 * normal(1.0, 0.2) + 0.1 * normal(0.35, 0.15) + 0.05 / 3
    other = 0.5 * normal(0.15, 0.15) + 0.5 / 3
    odds = np.log(brain / other) + np.clip(depth, -reach, 10) / prior
    odds = np.where(depth > 10, 50, np.where(depth < -reach, -50, odds))
    graph = maxflow.Graph[float]()
    nodes = graph.add_grid_nodes(relative.shape)
    for axis in range(3):
        step = np.zeros((3, 3, 3))
        step[tuple(2 if other == axis else 1 for other in range(3))] = 1
        difference = np.diff(relative, axis=axis, append=np.take(relative, [-1], axis))
        graph.add_grid_edges(
            nodes,
            stiffness * zooms.min() / zooms[axis] * np.exp(-((difference / spread) ** 2) / 2),
            structure=step,
            symmetric=True,
        )
    graph.add_grid_tedges(nodes, np.maximum(odds, 0), np.maximum(-odds, 0))
    graph.maxflow()
    found = np.zeros(shape, bool)
    found[box] = ~graph.get_grid_segments(nodes)
    return along_axes(filled(found).astype(np.float32), grid, head.shape, affine) > 0.5


@lru_cache(1)
def load_network():
    "The trained network, once per process."
    import network as module

    return module.load(Path(__file__).parents[2] / "data" / "preparation" / "network.npz")


def network(head: np.ndarray, affine: np.ndarray) -> np.ndarray:
    "The network of network.py, which sees the head laid on the template, at 3 mm."
    return filled(network_depth(head, affine, head.shape, affine)[0] > 0)


def network_refined(head: np.ndarray, affine: np.ndarray) -> np.ndarray:
    "The refinement of the template method, with the network's surface in place of the template's."
    fine, grid = to_grid(head, affine, 1.5, thick=True)
    depth, mni_to_scan = network_depth(head, affine, fine.shape, grid)
    carried = propagate_signed_distance(
        fine.shape, grid, mni_to_scan
    )  # tells how deep, where the network says no more than deep
    deeper = (
        (np.abs(depth) > 6) & ((carried > 0) == (depth > 0)) & (np.abs(carried) > np.abs(depth))
    )
    mask = refine_mask(fine, grid, np.where(deeper, carried, depth).astype(np.float32), band=3.0)
    return along_axes(mask, grid, head.shape, affine) > 0.5


def network_depth(head: np.ndarray, affine: np.ndarray, shape: tuple, target: np.ndarray) -> tuple:
    "(the network's depth on another grid of the same world, up to some `REACH` mm; MNI to scan)."
    from network import AFFINE, REACH, SHAPE

    coarse, grid = to_grid(head, affine, 3)
    mni_to_scan = register_head(*to_grid(head, affine, 3, thick=True))
    laid = resample(coarse, grid, SHAPE, AFFINE, np.linalg.inv(mni_to_scan))
    inside = (
        resample(
            propagate_signed_distance(coarse.shape, grid, mni_to_scan),
            grid,
            SHAPE,
            AFFINE,
            np.linalg.inv(mni_to_scan),
        )
        > 0
    )
    laid = np.clip(laid / np.median(laid[inside & (laid > 0)]), 0, 3)
    depth = REACH * np.asarray(load_network()(laid[None, ..., None], training=False))[0, ..., 0]
    far = np.float32(2 * REACH)  # resampling says 0 beyond the network's grid
    return resample(depth + far, AFFINE, shape, target, mni_to_scan) - far, mni_to_scan
