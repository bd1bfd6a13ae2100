"""Image files of any bytes: pixels as Pillow has them, or one sentence; and a rough look finds what decoding finds."""

import io
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from answers import check_sentence, drawn, some
from hypothesis import given
from hypothesis import strategies as st
from images_broken import png_of
from images_on_disk import random_pixels
from PIL import Image

from mocse_timm.checks import BadInput
from mocse_timm.data.check_images import find_broken
from mocse_timm.data.folder_layout import read_layout
from mocse_timm.data.image_files import decode_files, open_image, stored_size

FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("BMP", {}),
    ("WEBP", {}),
    ("GIF", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]


@cache
def whole(which: int) -> bytes:
    name, options = FORMATS[which]
    buffer = io.BytesIO()
    Image.fromarray(random_pixels(which, 24, 20)).save(buffer, name, **options)
    return buffer.getvalue()


@cache
def file() -> Path:
    return Path(tempfile.mkdtemp()) / "ein Bild 图像.jpg"


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """A whole image, one with a few bytes changed or cut off, a header that lies, or anything at all."""
    kind = draw(drawn("whole", "spoiled", "spoiled", "cut", "bomb", "bytes", "text"))
    if kind == "bomb":
        return png_of(draw(st.integers(0, 2**31 - 1)), draw(st.integers(0, 40_000)), b"\0" * draw(st.integers(0, 99)))
    if kind in ("bytes", "text"):
        return draw(st.binary(max_size=200)) if kind == "bytes" else draw(st.text(max_size=50)).encode()
    content = bytearray(whole(draw(st.integers(0, len(FORMATS) - 1))))
    for _ in range(draw(st.integers(1, 8)) if kind == "spoiled" else 0):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))] if kind == "cut" else content)


@some(2)
@given(contents(), drawn("RGB", "L"))
def test_bytes_are_pixels_or_a_sentence(content: bytes, mode: str) -> None:
    file().write_bytes(content)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # Pillow's, on metadata that it leaves out
        broken = find_broken([file()], mode, num_threads=1)
        try:
            image = open_image(file(), mode)
        except OSError as error:
            check_sentence(error)
            assert [found.path for found in broken] == [file()]
            try:
                decode_files([file()], mode=mode, stored=(24, 20), size=24, resize=True, num_threads=1)
                raise AssertionError("decoded what cannot be opened")
            except BadInput as refusal:
                check_sentence(refusal)
            return
        assert not broken
        assert image.mode == mode and image.size == stored_size(file())[::-1]
        decoded, squeezed = decode_files([file()], mode=mode, stored=(24, 20), size=24, resize=True, num_threads=1)
        assert squeezed == (image.width != image.height)
        expected = np.asarray(image if image.size == (24, 24) else image.resize((24, 24), Image.Resampling.BILINEAR))
        assert np.array_equal(decoded[0].permute(1, 2, 0).numpy().reshape(expected.shape), expected)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


some_files = st.lists(st.tuples(drawn("train", "val"), names, names, st.booleans()), max_size=8)
some_links = st.lists(
    st.tuples(drawn("train/a", "val", "train/a/b"), names, drawn(".", "..", "../..", "a", "b")), max_size=3
)


@some()
@given(some_files, some_links)
def test_folders_of_any_names_and_links(files: list, links: list) -> None:
    """Every image is listed once, or one sentence says why there is no data set."""
    with tempfile.TemporaryDirectory() as base:
        root = Path(base) / "mit Leerzeichen ü"
        written: set[Path] = set()
        for part, folder, name, image in [("train", "a", "0", True), ("val", "a", "0", True), *files]:
            path = root / part / folder / (f"{name}.png" if image else name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
                written.add(path)
            except OSError:  # a name that is "..", or a file where a folder is to be
                continue
        for parent, name, target in links:
            link = root / parent / name
            if link.parent.is_dir() and not link.exists() and not link.is_symlink():
                link.symlink_to(target, target_is_directory=True)
        try:
            layout = read_layout(root)
        except BadInput as error:
            check_sentence(error)
            return
        for part in (layout.train, layout.validation):
            assert len(set(part.paths)) == len(part.paths) == len(part.labels) and part.paths
            for label in set(part.labels):
                real = [path.resolve() for path, of in zip(part.paths, part.labels, strict=True) if of == label]
                assert len(set(real)) == len(real), "an image came twice"
        assert {path.resolve() for path in layout.train.paths} <= {path.resolve() for path in written}
