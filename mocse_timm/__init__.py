"""Robust mixture-of-experts vision models for timm. Importing the package registers its models."""

from mocse_timm import models as models

__version__ = "0.1.0"
