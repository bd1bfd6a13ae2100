"""Accuracy by corruption and severity as a picture, with differences from a baseline beside it."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import GROUPS
from mocse_timm.data.broken_images import printable
from mocse_timm.evaluation.comparison import Comparison
from mocse_timm.evaluation.corruption_scores import CorruptionScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["as_png", "draw_heatmap", "require_matplotlib"]

CELL = (0.62, 0.34)  # inches, wide and high
LABELS, BAR, MARGIN, HEAD = 2.2, 0.9, 0.15, 1.0
PIXELS_PER_INCH = 150


def require_matplotlib() -> None:
    """Raise BadInput, with the command that installs it, if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401  (only whether it is there)
    except ImportError:
        raise BadInput('--heatmap needs matplotlib; install it with: pip install "mocse_timm[corruptions]"') from None


def _groups(names: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Yield each group with its first row and the row after its last."""
    start = 0
    for group, members in GROUPS.items():
        stop = start + sum(name in members for name in names)
        if stop > start:
            yield group, start, stop
        start = stop


def _name_rows(axes: Any, names: tuple[str, ...]) -> None:
    """Write every corruption's name at its row, and every group's at the far left."""
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=9)
    for group, start, stop in _groups(names):
        axes.annotate(
            group,
            (0, (start + stop - 1) / 2),
            xycoords=("axes fraction", "data"),
            xytext=(-108, 0),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="center",
            color="0.35",
            fontsize=9,
        )


def _panel(
    axes: Any, values: NDArray[np.floating], scores: CorruptionScores, title: str, text: str, **colours: Any
) -> None:
    """Draw (K, S) values: a colour and a number in every cell, a gap between groups."""
    image = axes.imshow(values, aspect="auto", **colours)
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(len(scores.severities)), [str(severity) for severity in scores.severities])
    axes.set_xlabel("severity")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    for _, start, _ in _groups(scores.corruptions):
        axes.axhline(start - 0.5, color="white", linewidth=4)
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        colour = "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45 else "white"  # as bright as it looks
        number = format(round(float(value), 1) + 0.0, text)  # + 0.0 turns -0.0 into 0.0
        axes.text(column, row, number, ha="center", va="center", fontsize=8, color=colour)
    axes.figure.colorbar(image, ax=axes, pad=0.03, fraction=0.06).ax.tick_params(labelsize=8)


def _plain(name: str) -> str:
    """Return ``name`` as matplotlib shows it letter by letter: between two dollars it reads mathematics."""
    return printable(name).replace("$", r"\$")


def draw_heatmap(model: str, scores: CorruptionScores, comparison: Comparison | None = None) -> "Figure":
    """Return the figure: accuracies, and where there is a baseline a second panel of differences from it.

    The colours (viridis; orange for losses, white, purple for gains) can be told apart by colour-blind readers, and the
    number stands in every cell. Cells that the baseline lacks stay empty.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws without a screen
    from matplotlib.figure import Figure

    panels = 1 if comparison is None else 2
    rows, columns = scores.top1.shape
    panel_width = max(CELL[0] * columns, 2.0) + BAR
    size = (LABELS + panels * (panel_width + MARGIN), HEAD + 0.5 + CELL[1] * rows)
    figure = Figure(figsize=size, dpi=PIXELS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    low = min(90.0, 10 * np.floor(scores.top1.min() / 10))  # 100 is no lower end
    high = max(scores.top1.max(), low + 1)
    _panel(axes[0], scores.top1, scores, "accuracy %", ".1f", cmap="viridis", vmin=low, vmax=high)
    _name_rows(axes[0], scores.corruptions)
    if comparison is not None:
        differences = np.array(
            [
                [comparison.cells.get(name, {}).get(severity, np.nan) for severity in scores.severities]
                for name in scores.corruptions
            ]
        )
        largest = max(1.0, float(np.nanmax(np.abs(differences))))
        title = f"minus {_plain(comparison.baseline)}, points"
        _panel(axes[1], differences, scores, title, "+.1f", cmap="PuOr", vmin=-largest, vmax=largest)
    what = f"{_plain(model)} on {_plain(scores.dataset)}\n{_plain(scores.source)}"
    figure.suptitle(f"{what}, {scores.num_images} images a cell", fontsize=10)
    return figure


def as_png(figure: "Figure") -> bytes:
    """Return the figure as the bytes of a .png file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
