"""What may stand under the name of a scan, and what `read_image` and `read_scan` make of it."""

import bz2
import gzip
import os
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from msvae_nbdev.core import MsvaeError
from msvae_nbdev.image_file import MAX_EXTRA, read_image
from msvae_nbdev.phantom.imaging import plan_cohort
from msvae_nbdev.phantom.simulate import write_raw
from msvae_nbdev.preparation.prepare_scan import SUFFIX, prepare_scan
from msvae_nbdev.preparation.scan import air_to_zero, read_scan

SHAPE = (40, 48, 36)
GRID = np.diag([4.0, 4, 4, 1])
GRID[:3, 3] = -80, -96, -72
AXES = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in SHAPE], indexing="ij"))
RADIUS = (AXES**2).sum(0)
HEAD = (600 * np.exp(-3 * RADIUS**2)).astype(np.float32)


def nifti(array=HEAD, affine=GRID, kind=nib.Nifti1Image, order="<", **fields) -> bytes:
    "A NIfTI file of an array, with some fields of its header set by hand."
    header = kind.header_class(endianness=order)
    image = kind(array, affine, header)
    image.header.set_data_dtype(array.dtype)
    image.header.set_xyzt_units("mm")
    content = bytearray(image.to_bytes())
    written = kind.header_class(bytes(content[: header.sizeof_hdr]), check=False)
    for name, value in fields.items():
        written[name] = value
    content[: header.sizeof_hdr] = written.binaryblock
    return bytes(content)


def put(path: Path, content: bytes, packed: bool | None = None) -> Path:
    "Write a file, gzipped where its name says so or `packed` does."
    packed = path.suffix == ".gz" if packed is None else packed
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    return path


def refusal(path: Path) -> str:
    "The one line by which a file is refused."
    with pytest.raises(MsvaeError) as error:
        read_scan(path)
    said = str(error.value)
    assert str(path) in said and "\n" not in said
    return said


# --- what is not an image ---


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "content, remedy",
    [
        (b"<!DOCTYPE html><html>", "download"),
        (b"\xef\xbb\xbf\r\n <HTML lang='en'>", "download"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "download"),
        (b"/annex/objects/MD5E-s4096--0123.nii.gz\n", "datalad get"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (bytes(128) + b"DICM" + bytes(500), "msvae import-dicom"),
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + bytes(500), "msvae import-dicom"),
        (b"\x08\0\x08\0\x16\0\0\0ORIGINAL" + bytes(500), "msvae import-dicom"),
        (b"PK\x03\x04" + bytes(500), "unpack"),
        (bytes(257) + b"ustar" + bytes(300), "unpack"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "give the scan"),
        (b"NRRD0005\ntype: short\n", "convert it to NIfTI"),
        (b"Dear colleague,", "expected NIfTI or MGH"),
        (b"", "empty"),
    ],
)
def test_foreign_content_is_named(tmp_path, content, remedy, packed):
    assert remedy in refusal(put(tmp_path / "scan.nii.gz", content, packed))
    assert remedy in refusal(put(tmp_path / "scan.nii", content, packed))


def test_links_without_content(tmp_path):
    annexed = tmp_path / "annexed.nii.gz"
    annexed.symlink_to("../.git/annex/objects/Gx/0q/MD5E-s1--0.nii.gz/MD5E-s1--0.nii.gz")
    assert "datalad get" in refusal(annexed)
    lost = tmp_path / "lost.nii.gz"
    lost.symlink_to("nowhere.nii.gz")
    assert "nowhere.nii.gz" in refusal(lost)
    round_trip = tmp_path / "loop.nii.gz"
    round_trip.symlink_to("loop.nii.gz")
    assert "cannot be read" in refusal(round_trip)
    assert "does not exist" in refusal(tmp_path / "absent.nii.gz")


def test_pipes_devices_and_folders(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii.gz")
    assert "pipe" in refusal(tmp_path / "pipe.nii.gz")
    (tmp_path / "zero.nii").symlink_to("/dev/zero")
    assert "device" in refusal(tmp_path / "zero.nii")
    (tmp_path / "folder.nii.gz").mkdir()
    assert "folder" in refusal(tmp_path / "folder.nii.gz")


# --- files that are damaged, or claim what they do not hold ---


def test_a_flipped_bit_that_still_inflates(tmp_path):
    values = np.random.default_rng(0).integers(0, 600, SHAPE).astype(np.int16)
    content = bytearray(gzip.compress(nifti(values), 0))  # stored: any byte may change
    content[len(content) // 2] ^= 8
    path = tmp_path / "flipped.nii.gz"
    path.write_bytes(content)
    assert np.isfinite(nib.load(path).get_fdata()).all()  # nibabel alone does not notice
    assert "damaged" in refusal(path) and "CRC" in refusal(path)


def test_a_wrong_length_at_the_end_of_a_gzip(tmp_path):
    content = bytearray(gzip.compress(nifti()))
    content[-1] ^= 1
    (tmp_path / "length.nii.gz").write_bytes(content)
    assert "damaged" in refusal(tmp_path / "length.nii.gz")


@pytest.mark.parametrize("kept", [20, 300, 0.5, -4, -8])
def test_a_truncated_gzip(tmp_path, kept):
    content = gzip.compress(nifti())
    kept = int(kept * len(content)) if isinstance(kept, float) else kept
    (tmp_path / "short.nii.gz").write_bytes(content[:kept])
    assert "damaged" in refusal(tmp_path / "short.nii.gz")


@pytest.mark.parametrize("packed", [False, True])
def test_fewer_voxels_than_the_header_tells(tmp_path, packed):
    path = put(tmp_path / "short.nii", nifti()[:20000], packed)
    assert "20000 of the" in refusal(path)


def test_bytes_behind_a_gzip_are_said(tmp_path):
    (tmp_path / "tail.nii.gz").write_bytes(gzip.compress(nifti()) + b"tail")
    scan = read_image(tmp_path / "tail.nii.gz")
    assert np.array_equal(scan.volume, HEAD) and "ignored" in scan.notes[0]
    (tmp_path / "zeros.nii.gz").write_bytes(gzip.compress(nifti()) + bytes(512))
    assert read_image(tmp_path / "zeros.nii.gz").notes == ()


def test_a_small_file_that_claims_a_billion_voxels(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((1000, 1000, 1000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path = put(tmp_path / "claims.nii.gz", header.binaryblock + bytes(4))
    assert path.stat().st_size < 150
    assert "1000x1000x1000 voxels" in refusal(path)
    mgh = struct.pack(">iiiiiii", 1, 1000, 1000, 1000, 1, 3, 0) + bytes(256)
    assert "1000x1000x1000 voxels" in refusal(put(tmp_path / "claims.mgz", mgh))


def test_a_gzip_that_unfolds_without_end(tmp_path):
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(nifti())]
    pieces += [packer.compress(bytes(2**20)) for _ in range(MAX_EXTRA // 2**20 + 2)]
    (tmp_path / "bomb.nii.gz").write_bytes(b"".join([*pieces, packer.flush()]))
    assert "after its last voxel" in refusal(tmp_path / "bomb.nii.gz")


@pytest.mark.parametrize(
    "fields",
    [
        {"vox_offset": 1e9},
        {"vox_offset": np.nan},
        {"vox_offset": -400},
        {"datatype": 1},
        {"datatype": 9999},
        {"dim": [3, -40, 48, 36, 1, 1, 1, 1]},
        {"dim": [3, 0, 48, 36, 1, 1, 1, 1]},
        {"dim": [0, 0, 0, 0, 0, 0, 0, 0]},
        {"dim": [4, 40, 48, 36, 0, 1, 1, 1]},
        {"dim": [9, 40, 48, 36, 1, 1, 1, 1]},
    ],
)
def test_damaged_headers_are_refused(tmp_path, fields):
    refusal(put(tmp_path / "scan.nii.gz", nifti(**fields)))


# --- forms of a good file ---


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan", "scan.NII.GZ"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_compressed_or_not_whatever_the_name(tmp_path, name, packed, order, kind):
    image = read_image(put(tmp_path / name, nifti(kind=kind, order=order), packed))
    assert np.array_equal(image.volume, HEAD) and np.allclose(image.affine, GRID)
    assert image.volume.dtype == np.float32 and image.notes == ()


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_types(tmp_path, dtype):
    values = (HEAD / 6).astype(dtype)
    image = read_image(put(tmp_path / "scan.nii.gz", nifti(values)))
    assert np.allclose(image.volume, values.astype(np.float32))


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
def test_mgh(tmp_path, suffix):
    nib.save(nib.MGHImage(HEAD, GRID), tmp_path / f"scan{suffix}")
    image = read_image(tmp_path / f"scan{suffix}")
    assert np.array_equal(image.volume, HEAD) and np.allclose(image.affine, GRID)


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Spm99AnalyzeImage])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_pairs(tmp_path, kind, end):
    nib.save(kind(HEAD, GRID), tmp_path / f"scan.img{end}")
    for suffix in ("hdr", "img"):
        image = read_image(tmp_path / f"scan.{suffix}{end}")
        assert np.allclose(image.volume, HEAD) and np.allclose(image.affine, GRID)
    if end:
        content = bytearray((tmp_path / "scan.img.gz").read_bytes())
        content[-5] ^= 1
        (tmp_path / "scan.img.gz").write_bytes(content)
        assert "CRC" in refusal(tmp_path / "scan.hdr.gz")


def test_bz2(tmp_path):
    (tmp_path / "scan.nii.bz2").write_bytes(bz2.compress(nifti()))
    assert np.array_equal(read_image(tmp_path / "scan.nii.bz2").volume, HEAD)
    (tmp_path / "short.nii.bz2").write_bytes(bz2.compress(nifti())[:-40])
    assert "cannot be read" in refusal(tmp_path / "short.nii.bz2")


@pytest.mark.parametrize("shape", [(*SHAPE, 1), (*SHAPE, 1, 1), (*SHAPE, 1, 1, 1, 1)])
def test_axes_of_one(tmp_path, shape):
    assert read_image(put(tmp_path / "scan.nii", nifti(HEAD.reshape(shape)))).volume.shape == SHAPE


def test_scaling(tmp_path):
    values = HEAD.astype(np.int16)
    for slope, inter, expected in (
        (0, 0, values),
        (np.nan, np.nan, values),
        (np.nan, 7, values),
        (np.inf, 0, values),
        (0, 50, values),
        (2, -200, values * 2.0 - 200),
        (0.5, 0, values * 0.5),
    ):
        content = nifti(values, scl_slope=slope, scl_inter=inter)
        image = read_image(put(tmp_path / "scan.nii", content))
        assert np.allclose(image.volume, expected), (slope, inter)
        assert image.notes == ()
    image = read_image(put(tmp_path / "scan.nii", nifti(values, scl_slope=2, scl_inter=np.nan)))
    assert np.allclose(image.volume, values * 2.0) and "scl_inter" in image.notes[0]


def test_colours_and_complex_numbers(tmp_path):
    for fields in ("RGB", "RGBA"):
        colour = np.zeros(SHAPE, [(name, "u1") for name in fields])
        assert "colours" in refusal(put(tmp_path / "scan.nii.gz", nifti(colour)))
    for dtype in ("c8", "c16"):
        content = nifti(HEAD.astype(dtype))
        assert "magnitude" in refusal(put(tmp_path / "scan.nii.gz", content))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("slope", [np.nan, 2])
def test_unsigned_values_that_wrapped(tmp_path, bits, slope):
    unsigned = (HEAD / HEAD.max() * (2**bits - 4)).astype(f"u{bits // 8}")
    content = nifti(unsigned.view(f"i{bits // 8}"), scl_slope=slope, scl_inter=0)
    image = read_image(put(tmp_path / "scan.nii", content))
    assert np.allclose(image.volume, unsigned.astype(float) * (1 if np.isnan(slope) else slope))
    assert "wrapped" in image.notes[0]


def test_a_few_voxels_that_wrapped_among_noise(tmp_path):
    noise = np.random.default_rng(0).normal(0, 800, SHAPE)
    unsigned = np.clip(HEAD / HEAD.max() * 35000 + noise, 0, None).astype("u2")
    assert 0 < (unsigned > 2**15).mean() < 0.1
    image = read_image(put(tmp_path / "scan.nii", nifti(unsigned.view("i2"))))
    assert np.array_equal(image.volume, unsigned)


def test_true_negative_values_are_not_unwrapped(tmp_path):
    signed = (np.random.default_rng(0).normal(0, 1, SHAPE) * 6000).clip(-32000, 32000)
    for values in (signed.astype("i2"), ((HEAD - 300) * 100).astype("i2")):
        assert values.min() < -(2**14) and values.max() > 2**14
        image = read_image(put(tmp_path / "scan.nii", nifti(values)))
        assert np.array_equal(image.volume, values) and image.notes == ()


# --- where the voxels are ---


def test_forms_that_agree_are_not_spoken_of(tmp_path):
    nudged = GRID.copy()
    nudged[:3, 3] += 0.4
    for qform in (GRID, nudged):
        image = nib.Nifti1Image(HEAD, GRID)
        image.set_qform(qform, 1)
        nib.save(image, tmp_path / "scan.nii")
        assert read_image(tmp_path / "scan.nii").notes == ()


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 1), (1, 2)])
def test_mirrored_forms(tmp_path, codes):
    mirrored = np.diag([-1, 1, 1, 1]) @ GRID
    image = nib.Nifti1Image(HEAD, mirrored)
    image.set_sform(mirrored, codes[0])
    image.set_qform(GRID, codes[1])
    nib.save(image, tmp_path / "scan.nii.gz")
    read = read_scan(tmp_path / "scan.nii.gz")
    assert "mirror" in read.notes[0] and "the sform is used" in read.notes[0]
    assert f"sform (code {codes[0]})" in read.notes[0]
    assert np.allclose(read.native.affine, nib.load(tmp_path / "scan.nii.gz").affine)


def test_forms_that_lie_apart(tmp_path):
    moved = GRID.copy()
    moved[1, 3] += 30
    image = nib.Nifti1Image(HEAD, GRID)
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "scan.nii")
    (note,) = read_image(tmp_path / "scan.nii").notes
    assert "differ, by up to 30 mm" in note


def test_no_orientation(tmp_path):
    path = put(tmp_path / "scan.nii", nifti(sform_code=0, qform_code=0))
    read = read_image(path)
    assert np.allclose(read.affine, nib.load(path).affine) and read.affine[0, 0] < 0
    assert "no orientation is set" in read.notes[0]


def test_forms_that_cannot_be_used(tmp_path):
    empty = {"srow_x": 0, "srow_y": 0, "srow_z": 0}
    image = nib.Nifti1Image(HEAD, GRID)
    image.set_qform(GRID, 1)
    nib.save(image, tmp_path / "scan.nii")
    content = bytearray((tmp_path / "scan.nii").read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]))
    for name, value in empty.items():
        header[name] = value
    content[:348] = header.binaryblock
    read = read_image(put(tmp_path / "singular.nii", bytes(content)))
    assert np.allclose(read.affine, GRID) and "the qform is used" in read.notes[0]
    header["qform_code"] = 0
    content[:348] = header.binaryblock
    assert "no usable orientation" in refusal(put(tmp_path / "neither.nii", bytes(content)))
    rotation = {"quatern_b": 3, "qform_code": 1, "sform_code": 0}
    assert "orientation" in refusal(put(tmp_path / "q.nii", nifti(**rotation)))
    assert "orientation" in refusal(put(tmp_path / "nan.nii", nifti(srow_x=np.nan)))


@pytest.mark.parametrize("unit, factor", [(1, 1e-3), (3, 1e3), (0, 1), (2, 1)])
def test_units_of_length(tmp_path, unit, factor):
    affine = np.diag([factor, factor, factor, 1]) @ GRID
    read = read_image(put(tmp_path / "scan.nii", nifti(affine=affine, xyzt_units=unit)))
    assert np.allclose(read.affine, GRID, atol=1e-3)
    assert (len(read.notes) == 1) == (factor != 1)


def test_a_unit_that_cannot_be_is_said(tmp_path):
    read = read_image(put(tmp_path / "scan.nii", nifti(xyzt_units=1)))
    assert np.allclose(read.affine, GRID) and "taken as millimetres" in read.notes[0]


# --- intensities ---


def test_more_nan_than_numbers(tmp_path):
    scattered = np.where(np.random.default_rng(0).random(SHAPE) < 0.6, np.nan, HEAD)
    assert "holds no numbers" in refusal(put(tmp_path / "a.nii", nifti(scattered)))
    assert "holds no numbers" in refusal(put(tmp_path / "b.nii", nifti(HEAD * np.nan)))
    outside = np.where(RADIUS < 0.3, HEAD, np.nan)
    assert np.isnan(outside).mean() > 0.8
    scan = read_scan(put(tmp_path / "c.nii", nifti(outside)))
    assert np.array_equal(scan.volume, np.nan_to_num(outside)) and "not finite" in scan.notes[0]


def test_intensities_that_are_never_negative_are_left_alone():
    raised = HEAD + 100
    assert air_to_zero(raised)[0] is raised and air_to_zero(HEAD) == (HEAD, ())


def test_a_little_ringing_below_zero_is_left_alone():
    ringing = HEAD - np.where((AXES[0] > -0.5) & (AXES[0] < -0.4), 8, 0).astype(np.float32)
    ringing[:2] = ringing[-2:] = ringing[:, :2] = ringing[:, -2:] = 0
    assert ringing.min() < 0
    assert air_to_zero(ringing)[1] == ()


@pytest.mark.parametrize("background", [0, "darkest", -10, -1000, -32768])
def test_a_standardised_brain(background):
    brain = RADIUS < 0.5
    tissue = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    outside = tissue[brain].min() if background == "darkest" else background
    volume, notes = air_to_zero(np.where(brain, tissue, np.float32(outside)))
    assert (volume[~brain] == 0).all() and len(notes) == 1
    inside = volume[brain]
    assert (inside > 0).mean() > 0.995
    assert np.corrcoef(inside, tissue[brain])[0, 1] > 0.999
    assert inside.min() == 0 and np.median(inside) < 0.7 * inside.max()  # contrast is kept


def test_a_stripped_brain_on_a_negative_constant():
    brain = RADIUS < 0.5
    volume, notes = air_to_zero(np.where(brain, HEAD, np.float32(-1000)))
    assert np.array_equal(volume, np.where(brain, HEAD, 0)) and notes


def test_a_standardised_brain_with_nan_outside_is_prepared(tmp_path):
    "As the same brain with its intensities as they were, and zeros outside."
    plan = plan_cohort(scale=1e-4, seed=5, at_least=1)
    write_raw(plan[plan.diagnosis == "healthy"].iloc[0].to_dict(), tmp_path / "raw", seed=5)
    scan = nib.load(next((tmp_path / "raw").glob("sub-*/*/anat/*_FLAIR.nii.gz")))
    truth = (tmp_path / "raw/derivatives/truth").glob("sub-*/*/anat/*_desc-brain_mask.nii.gz")
    brain = nib.load(next(truth)).get_fdata() > 0
    head = scan.get_fdata(dtype=np.float32)
    scores = (head - head[brain].mean()) / head[brain].std()
    prepared = {}
    for name, values in (
        ("plain", np.where(brain, head, 0)),
        ("scores", np.where(brain, scores, np.nan)),
    ):
        nib.save(nib.Nifti1Image(values, scan.affine), tmp_path / f"{name}.nii.gz")
        record = prepare_scan(tmp_path / f"{name}.nii.gz", tmp_path / name)
        assert record["status"] == "ok", record["reason"]
        prepared[name] = nib.load(f"{tmp_path / name}{SUFFIX}.nii.gz").get_fdata()
    inside = prepared["plain"] > 0.1
    assert np.corrcoef(prepared["plain"][inside], prepared["scores"][inside])[0, 1] > 0.99
    assert np.abs(prepared["plain"] - prepared["scores"])[inside].mean() < 0.03
