"""The 19 common corruptions at 5 severities, on batches of uint8 images."""

from mocse_timm.corruptions.corrupt import available, corrupt
from mocse_timm.corruptions.names import BENCHMARK, CORRUPTIONS, GROUPS, SEVERITIES, check_names

__all__ = ["BENCHMARK", "CORRUPTIONS", "GROUPS", "SEVERITIES", "available", "check_names", "corrupt"]
