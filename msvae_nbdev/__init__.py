"""A 3D latent space of FLAIR brain scans: from raw BIDS to VAE and IntroVAE, disease against scanner, in Jupyter."""

import os
import platform
import sys
from importlib.metadata import version

__version__ = version("msvae_nbdev")

# TensorFlow reads this once, when it is imported: see the notebook `networks`.
if "tensorflow" not in sys.modules and platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
