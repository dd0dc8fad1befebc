"""The two models of a demonstration in one picture: `python studies/demonstration/models.py msvae-demo` writes nbs/images/demonstration.png.

A held-out phantom with MS, its reconstructions by both models and by a PCA of their size, a sample of each, and both latent spaces. Needs the extra figures.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.decomposition import PCA

from msvae_nbdev.core import read_tsv
from msvae_nbdev.figures import brain_figure
from msvae_nbdev.groups import merge_groups
from msvae_nbdev.latent.discriminant import LatentLDA
from msvae_nbdev.latent.latents import latent_matrix
from msvae_nbdev.latent.plots import discriminant_figure
from msvae_nbdev.model.trained_run import load_run
from msvae_nbdev.privacy import is_phantom

PICTURE = Path(__file__).parents[2] / "nbs" / "images" / "demonstration.png"
WIDTH = 1190


def still(figure, **options) -> Image.Image:
    "A figure as a picture."
    return Image.open(io.BytesIO(figure.to_image(format="png", **options))).convert("RGB")


def principal_components(run, scan: np.ndarray) -> np.ndarray:
    "The scan by a PCA of the training scans and their mirror images, as large as the model."
    train = run.prepared.volumes[(run.split.split == "train").to_numpy()]
    flat = np.concatenate([train, train[:, ::-1]]).reshape(2 * len(train), -1)
    pca = PCA(run.latent_dim, svd_solver="randomized", random_state=0).fit(flat)
    return pca.inverse_transform(pca.transform(scan.reshape(1, -1))).reshape(scan.shape)


def latent_space(run):  # a Plotly figure
    "The scans along the discriminant axes of three classes."
    table = run.latents.assign(diagnosis=merge_groups(run.latents.diagnosis))
    train = table[table.split == "train"]
    figure = discriminant_figure(LatentLDA().fit(latent_matrix(train), train.diagnosis), table)
    return figure.update_layout(title=run.path.name)


def typical_scan(run) -> int:
    "The test scan with MS whose lesions come nearest to 14 ml, the median of the literature."
    truth = read_tsv(run.prepared.path / "derivatives" / "truth" / "scans.tsv")
    table = run.split.merge(truth[["participant_id", "session_id", "lesion_ml"]], how="left")
    shown = (table.split == "test") & (table.diagnosis == "ms")
    return int((table.lesion_ml[shown] - 14).abs().idxmin())


if __name__ == "__main__":
    runs = [load_run(Path(sys.argv[1]) / name) for name in ("vae-32", "introvae-32")]
    row = typical_scan(runs[0])
    assert is_phantom(runs[0].prepared.path / runs[0].prepared.table.path[row])
    scan = runs[0].prepared.volumes[row : row + 1]
    rng = np.random.default_rng(0)
    shown = {"Original": scan}
    shown |= {name: run.reconstruct(scan) for name, run in zip(("VAE-32", "IntroVAE-32"), runs)}
    shown["PCA-32"] = principal_components(runs[0], scan)
    for name, run in zip(("VAE, sample", "IntroVAE, sample"), runs):
        shown[name] = run.decode(rng.standard_normal((1, run.latent_dim)).astype(np.float32))
    brains = brain_figure([each[0, ..., 0] for each in shown.values()], list(shown), scale=3.6)
    pictures = [still(brains)]
    for run in runs:
        pictures.append(still(latent_space(run), width=WIDTH // 2, height=570))
    page = Image.new("RGB", (WIDTH, pictures[0].height + 570), "white")
    page.paste(pictures[0], ((WIDTH - pictures[0].width) // 2, 0))
    for place, picture in enumerate(pictures[1:]):
        page.paste(picture, (place * WIDTH // 2, pictures[0].height))
    page.quantize(128).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")
