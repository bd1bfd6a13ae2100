"""Reading how a folder of images is laid out: which files there are, and the class of each.

Two layouts are known. In both, ``train`` has one folder per class, searched to any depth:

    one folder per class    train/<class>/...     val/<class>/...   (or validation, or test, or what is asked for)
    Tiny-ImageNet           train/<class>/images  val/images + val/val_annotations.txt
"""

import os
from dataclasses import dataclass
from pathlib import Path

from mocse_timm.checks import BadInput
from mocse_timm.data.broken_images import printable

__all__ = ["EXTENSIONS", "FolderLayout", "LabelledFiles", "read_layout"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
VALIDATION_NAMES = ("val", "validation", "test")
ANY_VALIDATION = "validation"  # the name that stands for all of them
ANNOTATIONS = "val_annotations.txt"


@dataclass(frozen=True)
class LabelledFiles:
    """Image files sorted by class, then by path, and the class index of each."""

    paths: list[Path]
    labels: list[int]

    def first_of_each_class(self) -> list[Path]:
        """Return one path per class: the first."""
        before = [-1, *self.labels[:-1]]
        return [self.paths[i] for i, label in enumerate(self.labels) if label != before[i]]


@dataclass(frozen=True)
class FolderLayout:
    """The files of both parts, and the class names in the order of the labels."""

    train: LabelledFiles
    validation: LabelledFiles
    class_names: tuple[str, ...]


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")  # "._x.jpg" is macOS's note, not an image


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _class_folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_folder(entry) and not entry.name.startswith("."))


def _identity(folder: Path | str) -> tuple[int, int]:
    """Return what two ways to the same folder have in common."""
    facts = os.stat(folder)
    return facts.st_dev, facts.st_ino


def _images_below(folder: Path) -> list[Path]:
    """Return the images in and below ``folder``, sorted by path.

    Links to other folders are followed, but no folder is entered twice, nor one that ``folder`` lies in: such a link
    closes a loop. A folder that is found by a link and without counts by its own path.
    """
    entered = {_identity(above) for above in (*folder.absolute().parents, *folder.resolve().parents)}
    found: list[str] = []
    folders, links = [str(folder)], []
    while folders or links:
        parent = folders.pop() if folders else links.pop(0)
        if _identity(parent) in entered:
            continue
        entered.add(_identity(parent))
        with os.scandir(parent) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if _is_folder(entry):
                    (links if entry.is_symlink() else folders).append(entry.path)
                elif _is_image(entry.name):
                    found.append(entry.path)
    return [Path(path) for path in sorted(found)]


def _read_class_folders(folder: Path, class_names: tuple[str, ...]) -> LabelledFiles:
    paths: list[Path] = []
    labels: list[int] = []
    empty: list[str] = []
    for label, name in enumerate(class_names):
        of_class = _images_below(folder / name)
        if not of_class:
            empty.append(name)
        paths += of_class
        labels += [label] * len(of_class)
    if empty:
        raise BadInput(
            f"{printable(folder)}: {len(empty)} class folder(s) hold no images, the first is {empty[0]!r}: "
            f"put images there ({' '.join(EXTENSIONS)}) or remove the folder"
        )
    return LabelledFiles(paths, labels)


def _read_annotations(folder: Path, class_names: tuple[str, ...]) -> LabelledFiles:
    """Read lines ``file <tab> class <tab> box ...``, Tiny-ImageNet's way to label ``val/images``."""
    index = {name: label for label, name in enumerate(class_names)}
    rows: list[tuple[int, str]] = []
    try:
        lines = (folder / ANNOTATIONS).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{folder / ANNOTATIONS} is not UTF-8 text ({error.reason}): unpack the archive again") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        if name not in index:
            raise BadInput(
                f"{folder / ANNOTATIONS} line {number}: class {name!r} is none of the training part's folders: "
                "correct the line or add the folder"
            )
        rows.append((index[name], file))
    rows.sort()
    paths = [folder / "images" / file for _, file in rows]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise BadInput(
            f"{folder / ANNOTATIONS} names {len(missing)} file(s) that do not exist, "
            f"the first is {printable(missing[0])}: unpack the archive again"
        )
    return LabelledFiles(paths, [label for label, _ in rows])


def _first_three(names: list[str]) -> str:
    return ", ".join(printable(name) for name in names[:3]) or "none"


def _check_same_classes(train: Path, validation: Path, train_names: list[str], validation_names: list[str]) -> None:
    only_train = sorted(set(train_names) - set(validation_names))
    only_validation = sorted(set(validation_names) - set(train_names))
    if only_train or only_validation:
        raise BadInput(
            f"{train} and {validation} must have the same class folders: {len(only_train)} only in the first "
            f"({_first_three(only_train)}), {len(only_validation)} only in the second "
            f"({_first_three(only_validation)}); add or remove those folders"
        )


def _check_names(folder: Path, names: list[str]) -> None:
    if len(names) < 2:
        raise BadInput(
            f"{folder} has {len(names)} class folder(s): a classifier needs two or more, one folder per class"
        )
    odd = [name for name in names if not name.isprintable()]  # tables and files of ours have a class in one line
    if odd:
        raise BadInput(f"{folder} has a class folder whose name is not one line of text, {odd[0]!r}: rename it")


def _read(root: Path, train_split: str, val_split: str) -> FolderLayout:
    name = printable(root)
    if not root.is_dir():
        raise BadInput(f"folder {name} does not exist: give folder:PATH with a folder that holds train and val")
    train = root / train_split
    candidates = VALIDATION_NAMES if val_split == ANY_VALIDATION else (val_split,)
    found = [root / candidate for candidate in candidates if (root / candidate).is_dir()]
    if not train.is_dir() or not found:
        wanted = f"one of {', '.join(candidates)}" if len(candidates) > 1 else f"a folder {val_split!r}"
        has = ", ".join(map(printable, _class_folders(root))) or "no folders"
        raise BadInput(
            f"folder {name} must hold a folder {train_split!r} and {wanted}, each with one folder per class: "
            f"it has {has}"
        )
    validation = found[0]
    names = _class_folders(train)
    _check_names(train, names)
    class_names = tuple(names)
    if (validation / ANNOTATIONS).is_file():
        held_out = _read_annotations(validation, class_names)
        _check_same_classes(train, validation, names, [names[label] for label in set(held_out.labels)])
    else:
        _check_same_classes(train, validation, names, _class_folders(validation))
        held_out = _read_class_folders(validation, class_names)
    return FolderLayout(_read_class_folders(train, class_names), held_out, class_names)


def read_layout(root: Path, *, train_split: str = "train", val_split: str = ANY_VALIDATION) -> FolderLayout:
    """List the images under ``root`` without opening any.

    Class names are the folder names of the training part in sorted order, as torchvision's ImageFolder has them.

    Args:
        root: holds a folder for each part.
        train_split: name of the training part's folder.
        val_split: name of the other's; ``validation`` for the first there is of val, validation and test.

    Raises:
        BadInput: if a folder is missing or cannot be read, there are fewer than two classes, a class has no images, or
            the two parts do not have the same classes.
    """
    try:
        return _read(root, train_split, val_split)
    except OSError as error:  # no permission, a name too long, a disk that fails
        where = printable(root if error.filename is None else error.filename)
        raise BadInput(f"folder {printable(root)}: {where} cannot be read ({error.strerror or error})") from None
