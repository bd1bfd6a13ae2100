"""One name in, a data set out."""

from os.path import expanduser
from pathlib import Path

from mocse_timm.checks import BadInput, nearest
from mocse_timm.data.cifar import CIFAR_SETS, load_cifar
from mocse_timm.data.digits import load_digits
from mocse_timm.data.image_folder import load_image_folder
from mocse_timm.data.splits import DataSplits
from mocse_timm.data.timm_sets import STREAM_PREFIXES, TIMM_PREFIXES, load_timm_dataset

__all__ = ["load_data", "refuse_idle_place", "with_place"]

FORMS = "digits, cifar10, cifar100, folder:PATH, torch/NAME, hfds/NAME"


def refuse_idle_place(dataset: str, data_dir: str | Path | None) -> None:
    """Raise BadInput if ``data_dir`` is given beside a ``folder:PATH``, where nothing would look at it."""
    if data_dir is not None and dataset.startswith("folder:"):
        raise BadInput(
            f"--data-dir is {str(data_dir)!r}, but {dataset} says where it is: change that, or give --dataset folder"
        )


def with_place(dataset: str, data_dir: str | Path | None) -> tuple[str, str | Path | None]:
    """Return the name and ``data_dir`` by which all else knows a data set: timm's ``folder`` is ``folder:DATA_DIR``."""
    if dataset in ("", "folder", "image_folder"):
        return f"folder:{data_dir if data_dir is not None else 'data'}", None
    return dataset, data_dir


def load_data(
    dataset: str,
    *,
    model_size: int,
    image_size: int | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    in_chans: int = 3,
    num_workers: int = 0,
    progress: bool = False,
    train_split: str = "train",
    val_split: str = "validation",
) -> DataSplits:
    """Return the data set called ``dataset``.

    Names: ``digits``; ``cifar10`` and ``cifar100`` (also as ``torch/cifar10``); ``folder:PATH``, or timm's
    ``folder`` for ``data_dir`` itself; ``torch/NAME`` and ``hfds/NAME`` through timm.

    Small images are kept in memory at ``image_size``, or at ``model_size`` when no size was asked for; then they
    must have that size already (digits are drawn at any size). Images from files are resized by their loader.

    Args:
        model_size: side in pixels of the images the model takes by itself.
        image_size: side the user asked for (``--img-size``), or None.
        data_dir: folder that holds the set; ``data`` when None. Not used by ``digits``.
        download: fetch a missing set where its source can.
        in_chans: 3 for colour, 1 for gray.
        num_workers: threads for decoding a folder of small images; 0 for one per CPU core.
        progress: show a bar while decoding.
        train_split: name of the training part, of folders and timm's sets.
        val_split: name of the validation part, likewise; ``validation`` also finds ``val`` and ``test``.

    Raises:
        BadInput: for an unknown name, a set that is missing, damaged, or does not fit the model, parts asked for of a
            set whose parts are known, or a ``data_dir`` beside the path of a folder.
    """
    for flag, size in (("the model's image size", model_size), ("--img-size", image_size)):
        if size is not None and size < 1:
            raise BadInput(f"{flag} is {size} pixels: give a size of at least 1")
    dataset, data_dir = with_place(dataset, data_dir)
    folder = Path(data_dir if data_dir is not None else "data")
    name = dataset.removeprefix("torch/") if dataset.removeprefix("torch/") in CIFAR_SETS else dataset
    prefix, slash, _ = name.partition("/")
    if name in ("digits", *CIFAR_SETS):
        for flag, part, only in (("--train-split", train_split, "train"), ("--val-split", val_split, "validation")):
            if part != only:
                raise BadInput(f"{flag} is {part!r}, but {name} has parts of its own: leave the flag out")
    if name == "digits":
        return load_digits(size=image_size or model_size, in_chans=in_chans)
    if name in CIFAR_SETS:
        return load_cifar(
            name,
            data_dir=folder,
            download=download,
            model_size=model_size,
            image_size=image_size,
            in_chans=in_chans,
        )
    if name.startswith("folder:"):
        path = name.removeprefix("folder:")
        if not path:
            raise BadInput("--dataset folder: names no folder; write folder:PATH")
        refuse_idle_place(dataset, data_dir)
        return load_image_folder(
            Path(expanduser(path)),  # Path's own raises where there is no such user
            name=name,
            model_size=model_size,
            image_size=image_size,
            in_chans=in_chans,
            num_threads=num_workers,
            progress=progress,
            train_split=train_split,
            val_split=val_split,
        )
    if slash and prefix.lower() in (*TIMM_PREFIXES, *STREAM_PREFIXES):
        return load_timm_dataset(name, data_dir=folder, download=download, train_split=train_split, val_split=val_split)
    if Path(name).is_dir():
        raise BadInput(f"unknown data set {dataset!r}: to read that folder write folder:{dataset}")
    hint = nearest(name, ["digits", *CIFAR_SETS, "folder:PATH", "torch/cifar10"])
    raise BadInput(f"unknown data set {dataset!r}{hint}; accepted forms: {FORMS}")
