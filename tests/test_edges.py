"""Hard edges: what is refused so that nothing of a user's is lost, and what damaged or endless files come to."""

import gzip
import json
import os
import shutil
import signal
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from cases import Cases, write_file

from msvae_nbdev.core import MsvaeError, read_json, read_parquet, read_tsv, sweep, write_json
from msvae_nbdev.latent.latents import surrogate_latents
from msvae_nbdev.model.volumes import PreparedDataset, open_prepared
from msvae_nbdev.phantom.simulate import simulate
from msvae_nbdev.preparation.scan import read_volume
from msvae_nbdev.space import SHAPE

case = Cases("edges")


def said(folder: Path, work) -> str:
    "What becomes of a call: the message of its `MsvaeError`, or 'done'."
    try:
        work()
    except MsvaeError as error:
        return "refused: " + str(error).replace(f"{folder}/", "")
    return "done"


def unchanged(folder: Path, work) -> str:
    "The same, and that all files are as they were."
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    happened = said(folder, work)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == files
    return happened


def clinical(folder: Path) -> Path:
    "A raw dataset of a user's."
    write_file(folder / "dataset_description.json", '{"Name": "ours", "DatasetType": "raw"}')
    write_file(folder / "participants.tsv", "participant_id\tdiagnosis\nsub-1\tms\n")
    write_file(folder / "sub-1/anat/sub-1_FLAIR.nii.gz", b"\x1f\x8b a scan")
    return folder


def made_up(folder: Path, scans: int = 30, latent_dim: int = 4) -> PreparedDataset:
    "A cohort in memory, for what needs no scans."
    volumes = np.random.default_rng(0).random((scans, *SHAPE, 1), np.float32)
    people = [f"sub-{row:02}" for row in range(scans)]
    facts = {"participant_id": people, "session_id": None, "diagnosis": ["healthy", "ms"] * 15}
    table = pd.DataFrame(facts).assign(path="x", status="ok")
    return PreparedDataset(folder, table, volumes, "0" * 32)


def job(folder: Path, run: str):
    "What `train` checks before it begins."
    from msvae_nbdev.model.config import TrainingConfig
    from msvae_nbdev.model.training import make_job

    return make_job(made_up(folder), folder / run, TrainingConfig())


# --- nothing of the user's is destroyed ---

KEPT = "Nothing of yours is overwritten"


@case(KEPT, "`msvae simulate data --prepared`, a clinical dataset",
      "refused: data holds a dataset that was not simulated: choose another folder")  # fmt: skip
def _(folder):
    data = clinical(folder / "data")
    return unchanged(folder, lambda: simulate(data, 0.0001, prepared=True, workers=1))


@case(KEPT, "`msvae simulate data --prepared`, a dataset of yours whose description is empty",
      "refused: data holds a dataset that was not simulated: choose another folder")  # fmt: skip
def _(folder):
    data = clinical(folder / "data")
    write_file(data / "dataset_description.json", "{}")
    return unchanged(folder, lambda: simulate(data, 0.0001, prepared=True, workers=1))


@case(KEPT, "`msvae simulate data`, a folder with a table of yours",
      "refused: data holds scores.csv and no dataset_description.json, so it is not a simulated cohort of msvae: "
      "choose an empty folder, or a new one")  # fmt: skip
def _(folder):
    write_file(folder / "data/scores.csv", "a,b\n")
    return unchanged(folder, lambda: simulate(folder / "data", 0.0001, workers=1))


@case(KEPT, "`msvae prepare prepared data`, source and output swapped",
      "refused: data holds a dataset that msvae did not prepare: choose another")  # fmt: skip
def _(folder):
    from msvae_nbdev.preparation.prepare import prepare

    data, prepared = clinical(folder / "data"), folder / "prepared"
    write_file(prepared / "dataset_description.json", '{"Name": "x", "BIDSVersion": "1.10.0"}')
    write_file(prepared / "sub-1/anat/sub-1_FLAIR.nii.gz", b"\x1f\x8b another")
    return unchanged(folder, lambda: prepare(prepared, data, workers=1))


@case(KEPT, "`msvae train prepared .`, where you keep checkpoints of your own",
      "refused: work holds checkpoints and no config.json, so it is not a run of msvae: "
      "choose an empty folder, or a new one")  # fmt: skip
def _(folder):
    write_file(folder / "work/checkpoints/last.npz", b"mine")
    return unchanged(folder, lambda: job(folder, "work"))


@case(KEPT, "`msvae train prepared run`, where run/config.json is of another program",
      "refused: run/config.json holds a list where an object belongs")  # fmt: skip
def _(folder):
    write_file(folder / "run/config.json", "[1, 2]")
    return unchanged(folder, lambda: job(folder, "run"))


def report_to(folder: Path, name: str) -> None:
    from msvae_nbdev.show.report import report

    run = folder / "run"
    write_json({"objective": "vae", "latent_dim": 4}, run / "config.json")
    report(run, folder / name)


@case(KEPT, "`msvae report run -o run/config.json`",
      "refused: run/config.json is there and holds no report: give another name, or take it away")  # fmt: skip
def _(folder):
    return said(folder, lambda: report_to(folder, "run/config.json"))


@case(KEPT, "`msvae report run -o page.html`, twice", "done")
def _(folder):
    report_to(folder, "page.html")
    return said(folder, lambda: report_to(folder, "page.html"))


def predict_to(folder: Path, name: str) -> None:
    from msvae_nbdev.show.predict import predict

    predict(folder / "run", [folder / "scan.nii.gz"], folder / name)


@case(KEPT, "`msvae predict run scan.nii.gz -o run/config.html`",
      "refused: run/config.json is there and holds no prediction: give another name, or take it away")  # fmt: skip
def _(folder):
    write_json({"objective": "vae"}, folder / "run/config.json")
    return unchanged(folder, lambda: predict_to(folder, "run/config.html"))


def audit_to(folder: Path, name: str) -> None:
    from msvae_nbdev.show.audit_table import check_audit_folder

    check_audit_folder(folder / name)


@case(KEPT, "`msvae audit latents.parquet -o run`, the folder of a run",
      "refused: run holds bias.json and no audit.html, so it is not an audit of msvae: "
      "choose an empty folder, or a new one")  # fmt: skip
def _(folder):
    write_json({"note": "of the run"}, folder / "run/bias.json")
    return unchanged(folder, lambda: audit_to(folder, "run"))


@case(KEPT, "`msvae study work`, a folder of yours",
      "refused: work holds thesis.txt and no study.json, so it is not a study of msvae: "
      "choose an empty folder, or a new one")  # fmt: skip
def _(folder):
    from msvae_nbdev.show.study import study

    write_file(folder / "work/thesis.txt", "mine")
    return unchanged(folder, lambda: study(folder / "work"))


@case(KEPT, "`msvae encode run prepared -o table.csv`",
      "refused: table.csv is no .parquet file, as which latents are written: name one")  # fmt: skip
def _(folder):
    from msvae_nbdev.model.trained_run import encode

    return unchanged(folder, lambda: encode(None, None, folder / "table.csv"))


# --- only files, and only what fits ---

BOUNDED = "Only files, and only what fits"


def readers() -> dict:
    "What is read of a user's, by the name of the file."
    from msvae_nbdev.cohort.sidecars import read_sidecar
    from msvae_nbdev.cohort.tables import read_table
    from msvae_nbdev.image_file import read_image
    from msvae_nbdev.model.checkpoints import load_state
    from msvae_nbdev.model.networks import build_decoder, build_encoder
    from msvae_nbdev.model.trained_run import load_network
    from msvae_nbdev.show.audit_table import read_features

    nothing = SimpleNamespace(encoder=build_encoder(2), decoder=build_decoder(2))
    return {
        "scan.nii.gz": read_image,
        "volume.nii.gz": read_volume,
        "sidecar.json": read_sidecar,
        "participants.tsv": lambda path: read_table(path, []),
        "features.csv": read_features,
        "use.tsv": read_tsv,
        "lda.json": read_json,
        "latents.parquet": read_parquet,
        "encoder.keras": lambda path: load_network(path, (None, *SHAPE, 1)),
        "last.npz": lambda path: load_state(nothing, path, networks_only=True),
    }


def each_refused(folder: Path, make) -> str:
    "How many of the readers refuse what `make` puts in place of their file, each within seconds."
    count = 0
    for name, read in readers().items():
        make(folder / name)
        signal.alarm(20)
        count += said(folder, partial(read, folder / name)).startswith("refused")
        signal.alarm(0)
    return f"{count} of {len(readers())} kinds of file are refused"


ALL = "10 of 10 kinds of file are refused"


@case(BOUNDED, "a pipe in place of a scan, a sidecar, a table, a network, latents", ALL)
def _(folder):
    return each_refused(folder, os.mkfifo)


@case(BOUNDED, "a device that never ends, `/dev/zero`", ALL)
def _(folder):
    return each_refused(folder, lambda path: path.symlink_to("/dev/zero"))


@case(BOUNDED, "a link that leads to itself", ALL)
def _(folder):
    return each_refused(folder, lambda path: path.symlink_to(path))


@case(BOUNDED, "a link to a folder", ALL)
def _(folder):
    return each_refused(folder, lambda path: path.symlink_to(folder))


@case(BOUNDED, "a prepared volume of some hundred bytes that claims 640x640x640 voxels",
      "refused: claim.nii has 640x640x640 voxels, not 40x48x40: prepare it first")  # fmt: skip
def _(folder):
    header = nib.Nifti1Header()
    header.set_data_shape((640, 640, 640))
    write_file(folder / "claim.nii", header.binaryblock[:344] + b"n+1\0" + bytes(200))
    return said(folder, lambda: read_volume(folder / "claim.nii"))


@case(BOUNDED, "a prepared volume of 100 kB that unpacks to 100 MB",
      "refused: bomb.nii.gz goes on for over 16 MiB after its last voxel: not a scan")  # fmt: skip
def _(folder):
    image = nib.Nifti1Image(np.zeros(SHAPE, np.float32), np.diag([4.0, 4, 4, 1])).to_bytes()
    write_file(folder / "bomb.nii.gz", gzip.compress(image + bytes(10**8)))
    return said(folder, lambda: read_volume(folder / "bomb.nii.gz"))


def network(folder: Path, **changes) -> str:
    "What becomes of a network in whose recipe the first dense layer is another."
    from msvae_nbdev.model.networks import build_encoder
    from msvae_nbdev.model.trained_run import load_network

    build_encoder(2).save(folder / "whole.keras")
    whole = zipfile.ZipFile(folder / "whole.keras")
    recipe = json.loads(whole.read("config.json"))
    dense = next(each for each in recipe["config"]["layers"] if each["class_name"] == "Dense")
    dense["class_name"] = changes.pop("class_name", "Dense")
    dense["config"] |= changes
    with zipfile.ZipFile(folder / "encoder.keras", "w") as changed:
        for name in whole.namelist():
            data = json.dumps(recipe) if name == "config.json" else whole.read(name)
            changed.writestr(name, data)
    return said(folder, lambda: load_network(folder / "encoder.keras", (None, *SHAPE, 1)))


@case(BOUNDED, "a network of 20 MB whose recipe asks for 9 GB",
      "refused: encoder.keras asks for weights of 9600 MB: it is no network of msvae")  # fmt: skip
def _(folder):
    return network(folder, units=250_000)


@case(BOUNDED, "a network with a layer that runs code of its own",
      "refused: encoder.keras cannot be opened as a Keras model: "
      "a layer of the kind Lambda is no part of a network of msvae")  # fmt: skip
def _(folder):
    return network(folder, class_name="Lambda")


@case(BOUNDED, "latents, a network or a checkpoint that were cut off",
      "3 of 3 are refused")  # fmt: skip
def _(folder):
    whole = {"encoder.keras": folder / "whole.keras", "latents.parquet": folder / "x.parquet"}
    network(folder)
    surrogate_latents(0.05, 4).to_parquet(whole["latents.parquet"])
    np.savez(folder / "x.npz", v0=np.zeros(1000))
    count = 0
    for name, path in (whole | {"last.npz": folder / "x.npz"}).items():
        write_file(folder / name, path.read_bytes()[:-100])
        count += said(folder, partial(readers()[name], folder / name)).startswith("refused")
    return f"{count} of 3 are refused"


# --- texts and numbers ---

JSON = "Texts and numbers in JSON and tables"


@case(JSON, "JSON that is nested 100 000 deep",
      "refused: lda.json is not valid JSON: it is nested too deeply")  # fmt: skip
def _(folder):
    write_file(folder / "lda.json", "[" * 10**5)
    return said(folder, lambda: read_json(folder / "lda.json"))


@case(JSON, "a number of 5000 digits", "read as infinite")
def _(folder):
    write_file(folder / "lda.json", f'{{"a": {"9" * 5000}}}')
    return "read as infinite" if read_json(folder / "lda.json")["a"] == np.inf else "no"


@case(JSON, "a list in place of an object",
      "refused: lda.json holds a list where an object belongs")  # fmt: skip
def _(folder):
    write_file(folder / "lda.json", "[1]")
    return said(folder, lambda: read_json(folder / "lda.json"))


@case(JSON, "a NUL in a table",
      "refused: scans.tsv is not a table that can be read: it holds a NUL")  # fmt: skip
def _(folder):
    write_file(folder / "scans.tsv", "path\nx\0\n")
    return said(folder, lambda: read_tsv(folder / "scans.tsv"))


@case(JSON, "paths that are numbers", "read as text")
def _(folder):
    write_file(folder / "scans.tsv", "path\n001\n")
    return "read as text" if read_tsv(folder / "scans.tsv").path[0] == "001" else "no"


# --- nothing is believed that cannot be ---

BELIEVED = "Nothing is silently wrong"


def two_volumes(folder: Path) -> Path:
    "A prepared folder of two volumes."
    for name in ("sub-1", "sub-2"):
        volume = np.random.default_rng(0).random(SHAPE, np.float32)
        write_file(folder / f"{name}.json", "{}")
        nib.save(nib.Nifti1Image(volume, np.diag([4, 4, 4, 1])), folder / f"{name}.nii.gz")
    rows = "sub-1\tsub-1.nii.gz\tok\nsub-2\tsub-2.nii.gz\tok\n"
    write_file(folder / "scans.tsv", "participant_id\tpath\tstatus\n" + rows)
    return folder


@case(BELIEVED, "volumes on two intensity scales in one folder",
      "refused: prepared holds intensities on two scales, bounded by sub-1.json and lesions by sub-2.json: "
      "make each in a folder of its own")  # fmt: skip
def _(folder):
    prepared = two_volumes(folder / "prepared")
    write_json({"IntensityScale": "bounded"}, prepared / "sub-1.json")
    write_json({"IntensityScale": "lesions"}, prepared / "sub-2.json")
    return said(folder, lambda: open_prepared(prepared))


@case(BELIEVED, "a packed file in .cache that was cut off", "packed again")
def _(folder):
    prepared = open_prepared(two_volumes(folder / "prepared"))
    whole = np.array(prepared.volumes)
    packed = next((folder / "prepared/.cache").glob("*.npy"))
    packed.write_bytes(packed.read_bytes()[:1000])
    again = open_prepared(folder / "prepared")
    return "packed again" if (again.volumes == whole).all() else "another array"


@case(BELIEVED, "a scan in scans.tsv of nobody",
      "refused: prepared/scans.tsv row 3 has no participant_id")  # fmt: skip
def _(folder):
    prepared = two_volumes(folder / "prepared")
    table = (prepared / "scans.tsv").read_text().replace("sub-2\t", "\t")
    write_file(prepared / "scans.tsv", table)
    return said(folder, lambda: open_prepared(prepared))


@case(BELIEVED, "a table with two columns `sex`",
      "refused: table.tsv is not a table that can be read: it has two columns sex")  # fmt: skip
def _(folder):
    write_file(folder / "table.tsv", "participant_id\tsex\tsex\nsub-1\tF\tM\n")
    return said(folder, lambda: read_tsv(folder / "table.tsv"))


@case(BELIEVED, "`msvae audit` of a table with ages of 999 and -1",
      "noted: ages that are no years from 0 to 120 were left out: 2, such as 999.0")  # fmt: skip
def _(folder):
    from msvae_nbdev.confound.audited_scans import standard_columns

    table = surrogate_latents(scale=0.02)
    found = standard_columns(table.assign(age=[999.0, -1.0, *table.age[2:]]))
    return f"noted: {found.notes[0]}"


@case(BELIEVED, "`msvae audit --nuisance diagnosis`",
      "refused: diagnosis is what is audited: it cannot be held fixed as acquisition or nuisance")  # fmt: skip
def _(folder):
    from msvae_nbdev.confound.audited_scans import audited_scans

    return said(
        folder, lambda: audited_scans(surrogate_latents(scale=0.02), nuisance=["diagnosis"])
    )


# --- the tests ---


@pytest.mark.parametrize("one", case, ids=case.names())
def test_case(one, tmp_path):
    assert one.run(tmp_path) == one.happens


def test_the_page_is_up_to_date():
    assert case.is_up_to_date()


def test_only_what_is_ours_is_swept(tmp_path):
    ours, yours = tmp_path / "sub-1/.tmp-msvae-4194305-x.nii.gz", tmp_path / "sub-1/.tmp-mine"
    write_file(ours)
    write_file(yours)
    sweep(tmp_path)
    assert (ours.exists(), yours.exists()) == (False, True)


def test_an_audit_is_written_again_but_not_over_another_page(tmp_path):
    from msvae_nbdev.show.audit_table import audit

    table = surrogate_latents(0.05, 4)
    found = audit(table, features="z_*", permutations=199)
    found.save(tmp_path / "audit")
    found.save(tmp_path / "audit")
    shutil.copy(tmp_path / "audit/bias.json", tmp_path / "audit/audit.html")
    with pytest.raises(MsvaeError, match="holds no audit"):
        found.save(tmp_path / "audit")


@pytest.fixture(autouse=True)
def nothing_hangs(monkeypatch):
    def hangs(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_a_damaged_volume_in_the_output_is_made_again(tmp_path, monkeypatch):
    import test_output_folder as beside

    from msvae_nbdev.preparation import prepare as chapter

    monkeypatch.setattr(chapter, "run_pool", beside.stand_in)
    monkeypatch.setattr(chapter, "check_quality", lambda _: SimpleNamespace(_asdict=dict))
    beside.dataset(tmp_path / "data", a="x", b="y")
    first = chapter.prepare(tmp_path / "data", tmp_path / "out", workers=1)
    volume = tmp_path / "out" / first.path[0]
    volume.write_bytes(volume.read_bytes()[:60])
    again = chapter.prepare(tmp_path / "data", tmp_path / "out", workers=1)
    assert again.status.tolist() == ["ok", "ok"]
    assert read_volume(volume).shape == SHAPE


def test_a_killed_simulation_comes_to_the_same_result(tmp_path):
    import random

    from kill import kill_often

    outcomes = kill_often("simulate", tmp_path, {}, 1, random.Random(0))
    assert [outcome["left"] for outcome in outcomes] == [0]


if __name__ == "__main__":
    case.write()
