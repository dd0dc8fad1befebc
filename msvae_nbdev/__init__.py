"""A 3D latent space of FLAIR brain scans: from raw BIDS to VAE and IntroVAE, disease against scanner, in Jupyter."""

from importlib.metadata import version

__version__ = version("msvae_nbdev")
