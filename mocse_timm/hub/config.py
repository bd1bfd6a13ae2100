"""The flags of ``python -m mocse_timm.hub``, one dataclass a command."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import Positional

__all__ = ["Card", "Check", "List", "Predict", "Push", "Save", "Zoo"]

RunFolder = Annotated[Positional[str], tyro.conf.arg(metavar="RUN", help="Folder of a finished training run.")]
Name = Annotated[Positional[str], tyro.conf.arg(metavar="MODEL", help="user/name on the Hub, or a folder.")]


@dataclass(frozen=True)
class Save:
    """Write a run's weights and config as timm reads them; reloaded and compared before it says done."""

    run: RunFolder
    out: Annotated[Positional[str], tyro.conf.arg(metavar="OUT")]
    """Folder to write; it must not exist, or be empty."""


@dataclass(frozen=True)
class Card:
    """Write the model card, README.md, into the run's folder, from its results.json and config.json."""

    run: RunFolder
    repository: str | None = None
    """user/name that the card's examples speak of; by default USER and the folder's name."""


@dataclass(frozen=True)
class Push:
    """Publish weights, config, card, results and heatmap in one commit."""

    run: RunFolder
    repository: Annotated[Positional[str], tyro.conf.arg(metavar="USER/NAME")]
    """Where to; made if it does not exist."""
    private: bool = False
    """Make a new repository private."""
    revision: str | None = None
    """Branch to commit to; made if it does not exist. By default main."""
    create_pr: bool = False
    """Open a pull request instead of committing."""
    dry_run: bool = False
    """List the files and their sizes, and send nothing."""


@dataclass(frozen=True)
class Check:
    """Verify that config, weights, card and results agree, and run one batch."""

    model: Name


@dataclass(frozen=True)
class List:
    """List the models on the Hub that were published from here."""

    author: str | None = None
    """Only those of this user or organisation."""


@dataclass(frozen=True)
class Predict:
    """Name what a picture shows."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")]
    """user/name on the Hub, or a folder."""
    picture: Annotated[Positional[str], tyro.conf.arg(metavar="PICTURE")]
    """File of the picture, of any size."""
    top: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 5
    """How many classes to show."""


@dataclass(frozen=True)
class Zoo:
    """Rebuild every card in a folder of model cards, and the table of all, from their results.json and config.json."""

    cards: Annotated[Positional[str], tyro.conf.arg(metavar="FOLDER")] = "hub_cards"
    """Folder with a folder for each model."""
