"""DICOM series that are written here, and pydicom's own, on their way into a BIDS dataset."""

import gzip
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from msvae_nbdev.cohort.dicom import convert_series, import_dicom
from msvae_nbdev.cohort.dicom_series import choose_flair, find_series, read_tags
from msvae_nbdev.cohort.read import read_cohort
from msvae_nbdev.core import MsvaeError
from msvae_nbdev.phantom.simulate import simulate
from msvae_nbdev.show.cli import main

pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")
pytest.importorskip("dcm2niix", reason="needs the extra dicom")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import (  # noqa: E402
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

SHAPE = (20, 48, 40)  # slices, rows, columns
GRID = [np.linspace(-1, 1, side) for side in SHAPE]
RADIUS = sum(axis**2 for axis in np.meshgrid(*GRID, indexing="ij"))
VOXELS = (900 * np.exp(-3 * RADIUS**2)).astype("<u2")
VOXELS[:, :10, :5] += 50  # so that no mirror looks like the original
SECRETS = ("Keller", "Anna", "P-4711", "19610212", "20090702", "091530", "Hospital", "Dr. Meier")
FLAIR = {"RepetitionTime": 9000.0, "EchoTime": 120.0, "InversionTime": 2500.0}


def examination(**tags) -> dict:
    "The tags of one patient's examination, with all that must not get into a dataset."
    patient = {
        "PatientName": "Keller^Anna",
        "PatientID": "P-4711",
        "PatientBirthDate": "19610212",
        "PatientSex": "F",
        "StudyDate": "20090702",
        "StudyTime": "091530",
        "SeriesDate": "20090702",
        "AcquisitionDate": "20090702",
        "AcquisitionTime": "091530.5",
        "ContentDate": "20090702",
        "InstitutionName": "Hospital of Anna Keller",
        "ReferringPhysicianName": "Dr. Meier",
        "PatientComments": "Keller, Anna",
        "ImageComments": "Keller, Anna",
        "SeriesDescription": "FLAIR Keller Anna",
        "ProtocolName": "FLAIR Keller Anna",
        "StudyDescription": "P-4711",
        "StationName": "Hospital 3",
        "DeviceSerialNumber": "41075",
        "Manufacturer": "SIEMENS",
        "MagneticFieldStrength": 3.0,
        "SeriesNumber": 5,
    }
    return patient | FLAIR | tags


def base(sop_class, uids: tuple, syntax=ExplicitVRLittleEndian) -> Dataset:
    "An image of MR without its content."
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = sop_class
    image.StudyInstanceUID, image.SeriesInstanceUID, instance = uids
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = instance
    image.FrameOfReferenceUID = uids[0]
    image.Modality, image.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M", "NONE"]
    image.Rows, image.Columns, image.SamplesPerPixel = *SHAPE[1:], 1
    image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PatientPosition = "HFS"
    return image


def write_slices(
    folder: Path, count=SHAPE[0], syntax=ExplicitVRLittleEndian, voxels=VOXELS, first=1, **tags
) -> str:
    "A series of one file per slice, axial, 8 mm apart; its UID."
    tags = examination(**tags)
    study = generate_uid(entropy_srcs=[tags["PatientID"], tags["StudyDate"]])
    series = tags.pop("SeriesInstanceUID", generate_uid())
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = base(MRImageStorage, (study, series, generate_uid()), syntax)
        image.ScanningSequence, image.SequenceVariant = ["SE", "IR"], "SK"
        image.MRAcquisitionType, image.InstanceNumber = "2D", number + first
        image.PixelSpacing, image.SliceThickness, image.SpacingBetweenSlices = [5, 5], 8, 8
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [-100, -120, -80 + 8 * number]
        for name, value in tags.items():
            setattr(image, name, value)
        image.PixelData = voxels[number].tobytes()
        image.save_as(folder / f"IM{number:04}", enforce_file_format=True)
    return series


def _item(**values) -> Sequence:
    "A sequence of one item."
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return Sequence([item])


def write_enhanced(folder: Path, **tags) -> None:
    "The same series as one enhanced multi-frame file, its times inside functional groups."
    tags = {name: value for name, value in examination(**tags).items() if name not in FLAIR}
    study = generate_uid(entropy_srcs=[tags["PatientID"], tags["StudyDate"]])
    series = generate_uid()
    image = base(EnhancedMRImageStorage, (study, series, generate_uid()))
    for name, value in tags.items():
        setattr(image, name, value)
    image.InstanceNumber, image.NumberOfFrames = 1, SHAPE[0]
    image.AcquisitionContrast, image.ComplexImageComponent = "FLUID_ATTENUATED", "MAGNITUDE"
    shared = Dataset()
    shared.MRTimingAndRelatedParametersSequence = _item(RepetitionTime=9000.0, FlipAngle=120.0)
    shared.MREchoSequence = _item(EffectiveEchoTime=120.0)
    shared.MRModifierSequence = _item(InversionRecovery="YES", InversionTimes=[2500.0])
    shared.MRImagingModifierSequence = _item(PixelBandwidth=244.0, TransmitterFrequency=123.2)
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelMeasuresSequence = _item(
        PixelSpacing=[5, 5], SliceThickness=8, SpacingBetweenSlices=8
    )
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for number in range(SHAPE[0]):
        frame = Dataset()
        frame.FrameContentSequence = _item(
            DimensionIndexValues=[1, number + 1],
            StackID="1",
            InStackPositionNumber=number + 1,
            FrameAcquisitionDateTime="20090702091530",
        )
        frame.PlanePositionSequence = _item(ImagePositionPatient=[-100, -120, -80 + 8 * number])
        frames.append(frame)
    image.PerFrameFunctionalGroupsSequence = Sequence(frames)
    image.PixelData = VOXELS.tobytes()
    folder.mkdir(parents=True, exist_ok=True)
    image.save_as(folder / "enhanced.dcm", enforce_file_format=True)


def scans(out: Path) -> list:
    "The paths of a dataset's scans inside it."
    return sorted(str(path.relative_to(out)) for path in out.rglob("*_FLAIR.nii.gz"))


def check_voxels(path: Path) -> None:
    "The image is the one that was written, at its place in RAS millimetres."
    image = nib.as_closest_canonical(nib.load(path))
    expected = VOXELS.transpose(2, 1, 0)[::-1, ::-1]  # DICOM counts to the left and to the back
    assert np.array_equal(image.get_fdata(), expected)
    affine = np.diag([5.0, 5, 8, 1])
    affine[:3, 3] = 100 - 39 * 5, 120 - 47 * 5, -80
    assert np.allclose(image.affine, affine, atol=1e-3)


def check_nothing_left(out: Path) -> None:
    "No name, number, date or free text is in any file of the dataset."
    for path in (path for path in out.rglob("*") if path.is_file()):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        for secret in SECRETS:
            assert secret.encode() not in content + str(path.relative_to(out)).encode(), path
        assert b"2009" not in content[:400] and not content.startswith(b"\x1f\x8b\x08\x08")


# --- one series ---


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_series_of_slices(tmp_path, syntax):
    write_slices(tmp_path / "in", syntax=syntax, PixelBandwidth=130.0)
    table = import_dicom(tmp_path / "in", tmp_path / "bids")
    assert table.status.tolist() == ["converted"]
    assert table.path.tolist() == ["sub-001/ses-01/anat/sub-001_ses-01_FLAIR.nii.gz"]
    check_voxels(tmp_path / "bids" / table.path[0])
    sidecar = json.loads((tmp_path / "bids" / table.path[0].replace("nii.gz", "json")).read_text())
    expected = {"RepetitionTime": 9, "EchoTime": 0.12, "InversionTime": 2.5}
    expected |= {"PixelBandwidth": 130, "MagneticFieldStrength": 3, "SliceThickness": 8}
    assert {name: sidecar[name] for name in expected} == pytest.approx(expected)
    assert sidecar["Manufacturer"].upper().startswith("SIEMENS")
    assert sidecar["DeviceSerialNumber"] == "scanner-1"
    check_nothing_left(tmp_path / "bids")


def test_an_enhanced_multi_frame_file(tmp_path):
    write_enhanced(tmp_path / "in", SeriesDescription="ax", ProtocolName="ax")
    table = import_dicom(tmp_path / "in", tmp_path / "bids")
    assert table[["status", "images"]].values.tolist() == [["converted", SHAPE[0]]]
    check_voxels(tmp_path / "bids" / table.path[0])
    sidecar = json.loads((tmp_path / "bids" / table.path[0].replace("nii.gz", "json")).read_text())
    expected = {"RepetitionTime": 9, "EchoTime": 0.12, "InversionTime": 2.5, "PixelBandwidth": 244}
    assert {name: sidecar[name] for name in expected} == pytest.approx(expected)
    check_nothing_left(tmp_path / "bids")


def test_a_bandwidth_that_is_missing_stays_missing(tmp_path):
    write_slices(tmp_path / "in")
    table = import_dicom(tmp_path / "in", tmp_path / "bids")
    sidecar = json.loads((tmp_path / "bids" / table.path[0].replace("nii.gz", "json")).read_text())
    assert "PixelBandwidth" not in sidecar and sidecar["RepetitionTime"] == 9


def test_files_without_the_preamble_and_copies(tmp_path):
    write_slices(tmp_path / "in")
    for path in sorted((tmp_path / "in").iterdir()):
        image = pydicom.dcmread(path)
        (tmp_path / "bare").mkdir(exist_ok=True)
        pydicom.dcmwrite(
            tmp_path / "bare" / path.name,
            image,
            implicit_vr=False,
            little_endian=True,
            enforce_file_format=False,
        )
    content = (tmp_path / "bare" / "IM0000").read_bytes()
    (tmp_path / "bare" / "IM0000").write_bytes(content[132:])  # starts with group 2
    (tmp_path / "bare" / "copy").write_bytes((tmp_path / "bare" / "IM0001").read_bytes())
    found = find_series(tmp_path / "bare")
    assert [each.images for each in found.series] == [SHAPE[0]]
    assert list(found.others) == ["a second copy of an image"]


def test_a_compressed_series(tmp_path):
    write_slices(tmp_path / "in")
    for path in (tmp_path / "in").iterdir():
        image = pydicom.dcmread(path)
        image.compress(RLELossless)
        image.save_as(path)
    table = import_dicom(tmp_path / "in", tmp_path / "bids")
    check_voxels(tmp_path / "bids" / table.path[0])


def test_a_slice_that_is_missing_is_said(tmp_path):
    write_slices(tmp_path / "in")
    (tmp_path / "in/IM0009").unlink()
    table = import_dicom(tmp_path / "in", tmp_path / "bids")
    assert "slices missing or not evenly spaced" in table.reason[0]
    image = nib.as_closest_canonical(nib.load(tmp_path / "bids" / table.path[0]))
    assert image.shape[2] == SHAPE[0]  # in its place, not pushed together
    expected = VOXELS.transpose(2, 1, 0)[::-1, ::-1]
    assert np.array_equal(np.delete(image.get_fdata(), 9, 2), np.delete(expected, 9, 2))
    assert json.loads((tmp_path / "bids" / table.path[0].replace("nii.gz", "json")).read_text())[
        "ImageType"
    ]


def test_the_magnitude_and_the_longest_echo_are_taken(tmp_path):
    folder, phase, echoes = tmp_path / "in", generate_uid(), generate_uid()
    kind = {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}
    write_slices(folder / "a/1", SeriesInstanceUID=phase, **kind)
    write_slices(folder / "a/2", SeriesInstanceUID=phase)
    other = {"PatientID": "8", "SeriesInstanceUID": echoes}
    write_slices(folder / "b/1", EchoNumbers=1, EchoTime=60.0, **other)
    write_slices(folder / "b/2", EchoNumbers=2, EchoTime=120.0, **other)
    table = import_dicom(folder, tmp_path / "bids")
    assert table.status.tolist() == ["converted"] * 2
    for path, reason in zip(table.path, table.reason):
        assert "1 other images of the series left out" in reason
        sidecar = json.loads((tmp_path / "bids" / path.replace("nii.gz", "json")).read_text())
        assert sidecar["EchoTime"] == 0.12 and "P" not in sidecar["ImageType"]
        check_voxels(tmp_path / "bids" / path)


def test_of_repeated_volumes_the_first_is_taken(tmp_path):
    tags = {"SeriesInstanceUID": generate_uid()}
    write_slices(tmp_path / "in/1", AcquisitionNumber=1, **tags)
    second = dict(voxels=VOXELS // 2, first=1 + SHAPE[0], AcquisitionNumber=2)
    write_slices(tmp_path / "in/2", **second, **tags)
    (scan,) = import_dicom(tmp_path / "in", tmp_path / "bids").itertuples()
    assert scan.status == "converted"
    assert "the first of its 2 volumes is taken" in scan.reason
    check_voxels(tmp_path / "bids" / scan.path)


def test_repeated_volumes_with_the_same_numbers_are_refused(tmp_path):
    series = generate_uid()
    for number in (1, 2):
        write_slices(tmp_path / f"in/{number}", SeriesInstanceUID=series, AcquisitionNumber=number)
    table = import_dicom(tmp_path / "in", tmp_path / "bids")
    said = "it holds 2 volumes that cannot be told apart"
    assert table[["status", "reason"]].values.tolist() == [["failed", said]]


# --- several series, people and sessions ---


def test_sessions_participants_and_runs(tmp_path):
    folder = tmp_path / "in"
    write_slices(folder / "a", StudyDate="20110305")
    write_slices(folder / "b", StudyDate="20090702", SeriesNumber=9)
    write_slices(folder / "c", StudyDate="20090702", SeriesNumber=2)
    write_slices(folder / "d", StudyDate="20090702", SeriesNumber=1, ContrastBolusAgent="Gd")
    other = {"PatientID": "7", "PatientName": "X", "PatientBirthDate": "19200101"}
    write_slices(folder / "e", **other, PatientSex="M", DeviceSerialNumber="2")
    table = import_dicom(folder, tmp_path / "bids")
    twice = table.participant_id[table.source == "a"].item()
    once = table.participant_id[table.source == "e"].item()
    assert {twice, once} == {"sub-001", "sub-002"}
    paths = dict(zip(table.source, table.path))
    first = f"{twice}/ses-01/anat/{twice}_ses-01"
    assert paths == {
        "a": f"{twice}/ses-02/anat/{twice}_ses-02_FLAIR.nii.gz",
        "b": f"{first}_run-2_FLAIR.nii.gz",
        "c": f"{first}_FLAIR.nii.gz",
        "d": f"{first}_ce-agent_FLAIR.nii.gz",
        "e": f"{once}/ses-01/anat/{once}_ses-01_FLAIR.nii.gz",
    }
    people = pd.read_csv(tmp_path / "bids/participants.tsv", sep="\t", index_col=0)
    assert people.loc[[twice, once], ["age", "sex"]].values.tolist() == [[48, "F"], [89, "M"]]
    visits = (tmp_path / "bids" / twice / f"{twice}_sessions.tsv").read_text()
    assert visits == "session_id\tage\nses-01\t48\nses-02\t50\n"
    sidecars = sorted((tmp_path / "bids").rglob("*_FLAIR.json"))
    scanners = {json.loads(path.read_text())["DeviceSerialNumber"] for path in sidecars}
    assert scanners == {"scanner-1", "scanner-2"}
    check_nothing_left(tmp_path / "bids")


def test_what_is_not_flair_is_named_and_left(tmp_path):
    folder = tmp_path / "in"
    write_slices(folder / "short", count=3)
    t1 = {"EchoTime": 3.0, "InversionTime": 900.0, "RepetitionTime": 2300.0}
    write_slices(folder / "t1", SeriesDescription="mprage", ProtocolName="", **t1)
    write_slices(folder / "t2", SeriesDescription="t2", ProtocolName="", InversionTime=None)
    (folder / "README.txt").write_text("Exported")
    (folder / "scans.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    damaged = (folder / "t1" / "IM0000").read_bytes()[:200]
    (folder / "damaged.dcm").write_bytes(damaged)
    table = import_dicom(folder, tmp_path / "bids")
    assert set(table.status) == {"skipped"} and not (tmp_path / "bids").exists()
    assert not (tmp_path / "bids-key.tsv").exists()
    reasons = dict(zip(table.source, table.reason))
    assert reasons["short"] == "fewer than 8 slices" and "mprage" in reasons["t1"]
    assert "neither its name nor its times" in reasons["t2"]
    assert reasons["README.txt"] == "not DICOM" and "unpack" in reasons["scans.zip"]
    assert "damaged.dcm" in reasons
    assert table.images.sum() == 3 + 2 * SHAPE[0] + 3


def test_a_pattern_takes_what_the_rule_leaves(tmp_path):
    t1 = {"EchoTime": 3.0, "InversionTime": 900.0, "RepetitionTime": 2300.0}
    write_slices(tmp_path / "in/t1", SeriesDescription="local 7", ProtocolName="", **t1)
    write_slices(tmp_path / "in/flair")
    table = import_dicom(tmp_path / "in", tmp_path / "bids", series="LOCAL 7")
    assert table[table.status == "converted"].source.tolist() == ["t1"]
    with pytest.raises(MsvaeError, match="regular expression"):
        import_dicom(tmp_path / "in", tmp_path / "other", series="(")


def test_one_number_with_two_birth_dates(tmp_path):
    write_slices(tmp_path / "in/a")
    write_slices(tmp_path / "in/b", PatientBirthDate="19500101", StudyDate="20100101")
    write_slices(tmp_path / "in/c", PatientID="9", PatientBirthDate="19500101")
    table = import_dicom(tmp_path / "in", tmp_path / "bids")
    assert dict(zip(table.source, table.status)) == {
        "a": "skipped",
        "b": "skipped",
        "c": "converted",
    }
    assert "two dates of birth" in table.reason[table.source == "a"].item()


def test_anonymous_examinations_are_not_one_person(tmp_path):
    for number, day in enumerate(("20100101", "20110101")):
        write_slices(tmp_path / f"in/{number}", PatientID="ANONYMOUS", StudyDate=day)
    table = import_dicom(tmp_path / "in", tmp_path / "bids")
    assert table.participant_id.nunique() == 2


def test_the_command(tmp_path, capsys):
    write_slices(tmp_path / "in/flair")
    write_slices(tmp_path / "in/t1", SeriesDescription="mprage", ProtocolName="", EchoTime=3.0)
    with pytest.raises(SystemExit) as leaving:
        main(["import-dicom", str(tmp_path / "in"), str(tmp_path / "bids")])
    assert not leaving.value.code
    said = capsys.readouterr()
    assert "1 scans of 1 participants" in said.out and "bids-key.tsv" in said.out
    assert "skipped: 20 files or slices, 'mprage' in its name: mprage" in said.err
    assert read_cohort(tmp_path / "bids").EchoTime.tolist() == [0.12]
    with pytest.raises(SystemExit) as leaving:
        main(["import-dicom", str(tmp_path / "in/t1"), str(tmp_path / "other")])
    assert leaving.value.code == 1 and "--series" in capsys.readouterr().err


def test_one_series_uid_of_two_patients(tmp_path):
    series = generate_uid()
    write_slices(tmp_path / "in/a", SeriesInstanceUID=series)
    other = {"PatientID": "8", "PatientBirthDate": "19500101"}
    write_slices(tmp_path / "in/b", SeriesInstanceUID=series, **other)
    table = import_dicom(tmp_path / "in", tmp_path / "bids")
    assert table.images.tolist() == [SHAPE[0]] * 2 and table.participant_id.nunique() == 2


@pytest.mark.skipif(shutil.which("bids-validator-deno") is None, reason="needs the BIDS validator")
def test_the_bids_validator_finds_no_error(tmp_path):
    write_slices(tmp_path / "in/a", StudyDate="20110305")
    write_slices(tmp_path / "in/b", ContrastBolusAgent="Gd")
    write_slices(tmp_path / "in/c", SeriesNumber=9)
    write_enhanced(tmp_path / "in/d", PatientID="8")
    import_dicom(tmp_path / "in", tmp_path / "bids")
    command = ["bids-validator-deno", "--json", tmp_path / "bids"]
    done = subprocess.run(command, capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


# --- the key, and going on ---


def test_the_key_is_apart_and_for_its_owner_only(tmp_path):
    write_slices(tmp_path / "in")
    import_dicom(tmp_path / "in", tmp_path / "bids")
    key = tmp_path / "bids-key.tsv"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    row = pd.read_csv(key, sep="\t", dtype=str).iloc[0]
    told = row[["participant_id", "patient_id", "patient_name", "study_date", "scanner"]]
    assert told.tolist() == ["sub-001", "P-4711", "Keller^Anna", "20090702", "scanner-1"]
    with pytest.raises(MsvaeError, match="apart"):
        import_dicom(tmp_path / "in", tmp_path / "two", key=tmp_path / "two/key.tsv")
    with pytest.raises(MsvaeError, match="overlap"):
        import_dicom(tmp_path / "in", tmp_path / "in/bids")
    with pytest.raises(MsvaeError, match="not a folder"):
        import_dicom(tmp_path / "nowhere", tmp_path / "two")
    with pytest.raises(MsvaeError, match="is not the key"):
        import_dicom(tmp_path / "in", tmp_path / "two", key=tmp_path / "in/IM0000")


def test_a_second_call_goes_on(tmp_path):
    write_slices(tmp_path / "in/a", StudyDate="20110305")
    import_dicom(tmp_path / "in", tmp_path / "bids")
    file = tmp_path / "bids/participants.tsv"
    file.write_text(file.read_text().replace("sub-001\tn/a", "sub-001\tms"))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "bids").rglob("*FLAIR*")}
    write_slices(tmp_path / "in/b", PatientID="8", PatientBirthDate="")
    write_slices(tmp_path / "in/c", StudyDate="20100101")
    table = import_dicom(tmp_path / "in", tmp_path / "bids").set_index("source")
    assert table.reason["a"] == "converted before"
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert table.participant_id.to_dict() == {"a": "sub-001", "b": "sub-002", "c": "sub-001"}
    assert table.session_id["c"] == "ses-02" and "earlier in time" in table.reason["c"]
    people = pd.read_csv(file, sep="\t", index_col=0)
    assert people.diagnosis.tolist()[0] == "ms" and np.isnan(people.age["sub-002"])
    os.remove(tmp_path / "bids-key.tsv")
    with pytest.raises(MsvaeError, match="give the key"):
        import_dicom(tmp_path / "in", tmp_path / "bids")


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    write_slices(tmp_path / "in/a")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter-1.md").write_text("mine")
    simulate(tmp_path / "phantoms", scale=1e-4, prepared=True, workers=1, at_least=1)
    for name, message in (
        (
            "thesis",
            "thesis holds chapter-1.md and no dataset_description.json, so it is not an import of DICOM",
        ),
        ("phantoms", "phantoms holds a dataset that is no import of msvae"),
    ):
        before = sorted((tmp_path / name).rglob("*"))
        with pytest.raises(MsvaeError, match=message):
            import_dicom(tmp_path / "in", tmp_path / name)
        assert sorted((tmp_path / name).rglob("*")) == before
        assert not (tmp_path / f"{name}-key.tsv").exists()


def test_an_import_that_was_killed_leaves_no_half_file(tmp_path):
    for number in range(3):
        write_slices(tmp_path / f"in/{number}", StudyDate=f"2010010{number + 1}")
    code = (
        "import os, sys; import msvae_nbdev.cohort.dicom as chapter\n"
        "one = chapter._write_nameless\n"
        "def stop(image, path):\n"
        "    if 'ses-02' in str(path): os._exit(9)\n"
        "    one(image, path)\n"
        "chapter._write_nameless = stop\n"
        "chapter.import_dicom(*sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "in", tmp_path / "bids"]
    assert subprocess.run(command, capture_output=True).returncode == 9
    assert len(scans(tmp_path / "bids")) == 1
    assert list((tmp_path / "bids").rglob(".tmp-*"))  # inside the dataset, where it is found again
    table = import_dicom(tmp_path / "in", tmp_path / "bids")
    assert table.status.tolist() == ["converted"] * 3
    assert len(scans(tmp_path / "bids")) == 3
    for path in scans(tmp_path / "bids"):
        check_voxels(tmp_path / "bids" / path)
    assert not list((tmp_path / "bids").rglob(".tmp-*"))


def test_a_series_that_cannot_be_converted_is_named(tmp_path):
    write_slices(tmp_path / "in/good")
    write_slices(tmp_path / "in/bad", PatientID="8")
    for path in (tmp_path / "in/bad").iterdir():
        path.write_bytes(path.read_bytes()[: -VOXELS[0].nbytes])
    table = import_dicom(tmp_path / "in", tmp_path / "bids").set_index("source")
    assert table.status.to_dict() == {"good": "converted", "bad": "failed"}
    assert table.reason["bad"] and len(scans(tmp_path / "bids")) == 1
    people = pd.read_csv(tmp_path / "bids/participants.tsv", sep="\t")
    assert people.participant_id.tolist() == [table.participant_id["good"]]


# --- pydicom's own files ---


@pytest.fixture
def pydicom_files() -> Path:
    "The files that pydicom ships for its own tests."
    return Path(pydicom.data.get_testdata_file("MR_small.dcm")).parent


def test_pydicoms_files_are_all_accounted_for(tmp_path, pydicom_files):
    table = import_dicom(pydicom_files, tmp_path / "bids")
    assert set(table.status) == {"skipped"} and (table.reason != "").all()
    files = [path for path in pydicom_files.rglob("*") if path.is_file()]
    found = find_series(pydicom_files)
    counted = sum(len(each.files) for each in found.series) + sum(map(len, found.others.values()))
    assert counted == len(files) and len(found.series) > 20


def test_pydicoms_mr_series_are_converted(tmp_path, pydicom_files):
    found = find_series(pydicom_files / "dicomdirtests/98892003").series
    assert {choose_flair(each).take for each in found} == {False}
    three = [each for each in found if each.images == 3]
    assert [each.name for each in three] == ["T/S/C RF FAST PILOT"] * 2
    small = find_series(pydicom_files / "dicomdirtests/98892003/MR700").series
    for number, series in enumerate([*three, *small]):
        path = tmp_path / f"{number}.nii.gz"
        convert_series(series, path)
        stored = np.stack([pydicom.dcmread(file).pixel_array for file in series.files])
        image = nib.load(path)
        sidecar = json.loads(path.with_name(f"{number}.json").read_text())
        milliseconds = float(series.tags["RepetitionTime"]), float(series.tags["EchoTime"])
        assert sidecar["RepetitionTime"] == pytest.approx(milliseconds[0] / 1000)
        assert sidecar["EchoTime"] == pytest.approx(milliseconds[1] / 1000)
        slices = [np.sort(each, None) for each in np.moveaxis(image.get_fdata(), 2, 0)]
        frames = [np.sort(each, None) for each in stored]
        for one in slices:
            assert any(np.array_equal(one, frame) for frame in frames)


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"]
)
def test_tags_of_pydicoms_mr_files(pydicom_files, name):
    tags = read_tags(pydicom_files / name)
    assert (float(tags["RepetitionTime"]), float(tags["EchoTime"])) == (4000, 240)
    assert tags["SOPClassUID"].name == "MR Image Storage"


def test_a_message_where_the_extra_is_missing(tmp_path):
    write_slices(tmp_path / "in")
    code = (
        "import sys; sys.modules['pydicom'] = None; sys.modules['dcm2niix'] = None\n"
        "from msvae_nbdev.show.cli import main; main(['import-dicom', *sys.argv[1:]])\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "in", tmp_path / "bids"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": ""})
    assert done.returncode == 1 and "msvae_nbdev[dicom]" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "bids").exists()
