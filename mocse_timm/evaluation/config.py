"""The flags of validate.py."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from mocse_timm.flags import KeyValues, Pixels

__all__ = ["ValidateConfig"]


@dataclass(frozen=True)
class ValidateConfig:
    """What to score, on what, and how. Names are those of timm's validate.py."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A run's folder, hf-hub:USER/NAME, or a model's name together with --checkpoint or --pretrained."""
    dataset: str | None = None
    """Data set; by default the one the run was trained on."""
    data_dir: str | None = None
    """Folder of the data set; by default the run's, for another --dataset than the run's `data`."""
    dataset_download: bool = False
    """Download the data set if it is missing."""
    split: Literal["validation", "train"] = "validation"
    """Which part of the data set to score."""
    train_split: str | None = None
    """Name of the training part, in folders and timm's sets; by default the run's, for another --dataset `train`."""
    val_split: str | None = None
    """Name of the validation part, likewise; for another --dataset `validation`, or in folders val or test."""
    checkpoint: str | None = None
    """A .safetensors file with the weights."""
    pretrained: bool = False
    """Take the published weights of a model given by name. Folders and Hub models always bring theirs."""
    num_classes: int | None = None
    """Classes of a model given by name; by default what timm says."""
    model_kwargs: KeyValues = field(default_factory=dict)
    """Options of the architecture, as KEY=VALUE."""
    img_size: int | None = None
    """Image side in pixels; by default the run's, else the model's."""
    batch_size: Annotated[int, tyro.conf.arg(aliases=["-b"])] = 256
    """Images a step."""
    amp: bool = False
    """Compute in 16 bits where that is safe."""
    amp_dtype: Literal["bfloat16", "float16"] = "bfloat16"
    """The 16-bit format of --amp."""
    channels_last: bool = False
    """Lay images and weights out channel by channel; often faster."""
    torchcompile: bool = False
    """Compile the model first; pays on large sets."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default the fastest there is."""
    workers: Annotated[int, tyro.conf.arg(aliases=["-j"])] = 4
    """Processes that load images; sets kept in memory need none."""
    attack: str = ""
    """Also score under attack: pgd20, pgd50 (any number of steps; of epsilon / 4, or 2.5 epsilon in all where that is
    more), autoattack, router; several with commas."""
    attack_images: int = 1000
    """Images to attack, the same ones every time."""
    epsilon: Pixels = 8 / 255
    """Largest change of a pixel, or of all together in --attack-norm l2. Pixels are in [0, 1]."""
    attack_norm: Literal["linf", "l2"] = "linf"
    """How changes are measured."""
    corruptions: str = ""
    """Also score under corruptions: all (19), 15 (RobustBench's), noise, blur, weather, digital, extra, or names."""
    severities: str = "1,2,3,4,5"
    """How strong, with commas."""
    corruption_images: int | None = None
    """Images in each cell, the same ones every time; by default the whole set."""
    corruption_source: Literal["auto", "archive", "generated"] = "auto"
    """Read them from an archive such as CIFAR-10-C, or make them on the fly; auto: from an archive if one fits."""
    corruptions_dir: str | None = None
    """The archive's folder, or one that holds it; by default --data-dir is searched."""
    corruption_seed: int = 0
    """Seed of corruptions made on the fly; a generated archive must have the same."""
    corruption_workers: int = 1
    """Processes that make them; 0 to make them in the main process."""
    frost_dir: str | None = None
    """Folder of the pictures that frost needs; by default those of an installed imagecorruptions package."""
    baseline: str | None = None
    """Another model's .json results: differences, mCE, effective robustness (points gained corrupted minus clean)."""
    corruption_table: str | None = None
    """Also write the corruptions as a Markdown table to this .md."""
    heatmap: str | None = None
    """Also draw accuracy by corruption and severity into this .png, with a panel of differences from --baseline."""
    robustbench_json: str | None = None
    """Also write RobustBench's model info to this .json; needs the 15 corruptions at all severities."""
    results_file: str | None = None
    """Also write the scores to this .json or .csv."""
    seed: int = 42
    """Seed of the loader."""
