"""A 3D latent space of FLAIR brain scans: from raw BIDS to VAE and IntroVAE, disease against scanner, in Jupyter."""

import os
import platform
import sys
from importlib import import_module
from importlib.metadata import version

__version__ = version("msvae_nbdev")

# TensorFlow reads this once, when it is imported: see the notebook `networks`.
if "tensorflow" not in sys.modules and platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# The whole way, for `import msvae_nbdev as ms`; each name brings in its chapter when it is used first.
_CHAPTERS = {
    "simulate": "phantom.simulate",
    "open_cohort": "cohort.read",
    "read_cohort": "cohort.read",
    "import_dicom": "cohort.dicom",
    "prepare": "preparation.prepare",
    "open_prepared": "model.volumes",
    "train": "show.run",
    "load_run": "show.run",
    "Run": "show.run",
    "report": "show.report",
    "audit": "show.audit_table",
    "study": "show.study",
    "predict": "show.predict",
    "MsvaeError": "core",
}
__all__ = [*_CHAPTERS]


def __getattr__(name):
    if name not in _CHAPTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_CHAPTERS[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return [*__all__, "__version__"]
