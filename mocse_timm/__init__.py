"""Robust mixture-of-experts vision models for timm. Importing the package registers its models."""

import mocse_timm.models

__all__: list[str] = []
__version__ = "0.1.0"
