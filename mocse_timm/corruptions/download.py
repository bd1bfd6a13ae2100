"""The official archives from Zenodo: fetched, checked and unpacked."""

import os
from os.path import expanduser
from pathlib import Path

from mocse_timm.checks import BadInput, nearest
from mocse_timm.corruptions.alone import alone
from mocse_timm.corruptions.archive import Archive, open_archive
from mocse_timm.corruptions.archive_facts import OFFICIAL, OfficialArchive, TarFile
from mocse_timm.corruptions.checksum import file_digest
from mocse_timm.corruptions.class_folders import corruption_folders
from mocse_timm.corruptions.fetch import fetch_file
from mocse_timm.corruptions.unpack import unpack

__all__ = ["ZENODO_VARIABLE", "download_archive"]

ZENODO_VARIABLE = "MOCSE_TIMM_ZENODO"
"""Environment variable that names a mirror in the place of https://zenodo.org."""


def _facts(name: str) -> OfficialArchive:
    """Return the archive called ``name``: its title, in any case and with or without hyphens."""
    by_letters = {title.lower().replace("-", ""): facts for title, facts in OFFICIAL.items()}
    facts = by_letters.get(name.lower().replace("-", ""))
    if facts is None:
        names = ["cifar10-c", "cifar100-c", "tiny-imagenet-c", "imagenet-c"]
        raise BadInput(f"--download {name}: no such archive{nearest(name, names)}; there are {', '.join(names)}")
    return facts


def _is_there(tar: TarFile, facts: OfficialArchive, folder: Path) -> bool:
    if facts.file_md5:
        return all((folder / file).is_file() for file in facts.file_md5)
    return set(tar.corruptions) <= set(corruption_folders(folder))


def _bring(tar: TarFile, folder: Path, base_url: str, *, pause: float, progress: bool) -> None:
    """Fetch one file of an archive, if it is not there, and unpack it into ``folder``."""
    target = folder.parent / tar.name
    ours = not target.exists()  # a .tar that was there before stays
    if ours:
        url = f"{base_url.rstrip('/')}/records/{tar.record}/files/{tar.name}?download=1"
        fetch_file(url, target, md5=tar.md5, num_bytes=tar.num_bytes, pause=pause, progress=progress)
    elif file_digest(target, "md5") != tar.md5:
        raise BadInput(f"{target} is not the published file (md5 {tar.md5}): remove it, and it will be downloaded")
    unpack(target, folder, progress=progress)
    if ours:
        target.unlink()


def download_archive(
    name: str, data_dir: str | Path, *, base_url: str | None = None, pause: float = 1.0, progress: bool = False
) -> Archive:
    """Fetch an official archive into ``data_dir``, unpack it there and return it; what is there already is kept.

    Args:
        name: ``cifar10-c``, ``cifar100-c``, ``tiny-imagenet-c`` or ``imagenet-c``.
        data_dir: folder that receives the folder ``CIFAR-10-C`` or the like.
        base_url: of Zenodo or a mirror; by default the environment's MOCSE_TIMM_ZENODO, else https://zenodo.org.
        pause: see :func:`~mocse_timm.corruptions.fetch.fetch_file`.
        progress: show bars.

    Raises:
        BadInput: for an unknown name, a ``base_url`` without http:// or https://, and whatever goes wrong with the
            network, the disk or the files.
    """
    facts = _facts(name)
    base_url = base_url or os.environ.get(ZENODO_VARIABLE) or "https://zenodo.org"
    if not base_url.lower().startswith(("https://", "http://")):
        raise BadInput(f"{ZENODO_VARIABLE} is {base_url!r}: give the mirror's whole address, https://HOST")
    data_dir = Path(expanduser(data_dir))
    folder = data_dir / facts.title
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write into {data_dir} ({error.strerror}): give another --data-dir") from None
    if not all(_is_there(tar, facts, folder) for tar in facts.tars):
        doing = f"downloading {facts.title} into {data_dir}"
        with alone(data_dir / f".{facts.title}.lock", doing, data_dir):
            for tar in facts.tars:
                if not _is_there(tar, facts, folder):
                    _bring(tar, folder, base_url, pause=pause, progress=progress)
    archive = open_archive(folder)
    assert archive is not None, "unpack has just filled it"
    return archive
