"""Rebuild what the zoo's results say: ``python recipes/zoo_tables.py``, or ``make zoo-table``.

From the results in hub_cards: the pairs, repeats, tables and trainings of ``recipes/zoo.yaml`` between the two marks of
docs/ZOO.md; between those of README the tables' main columns and the pairs, all but the first folded up; two plots in
docs; the line "Expected" of every recipe; and as ``python -m mocse_timm.hub zoo`` does every card and the page of all.
"""

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from statistics import fmean

from zoo_pairs import render_pairs, render_repeats
from zoo_plan import Table, read_plan
from zoo_results import Recipe, as_text, difference, read_recipes, require_recipes
from zoo_trainings import as_minutes, render_trainings, with_expected

from mocse_timm.checks import BadInput, command
from mocse_timm.corruptions.names import GROUPS
from mocse_timm.evaluation.comparison import compare
from mocse_timm.evaluation.heatmap import as_png, draw_heatmap
from mocse_timm.evaluation.output_files import write_whole
from mocse_timm.hub.card_scores import attack_title
from mocse_timm.hub.card_tables import millions, speed, table
from mocse_timm.hub.results import Results
from mocse_timm.hub.zoo_table import write_zoo

__all__ = ["folded", "main", "render_table", "with_tables"]

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- the zoo's tables: made by make zoo-table -->", "<!-- end of the zoo's tables -->"


def _corrupted(which: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        mean = results.corruptions.mean(which) if results.corruptions is not None else None
        return None if mean is None or not mean.complete else mean.top1

    return value


def _attacked(name: str) -> Callable[[Results], float | None]:
    return lambda results: results.robustness.robust_top1.get(name) if results.robustness is not None else None


def _expert_use(results: Results) -> float | None:
    routing = results.robustness.routing if results.robustness is not None else None
    return None if routing is None else max(routing.use)


SCORES: dict[str, Callable[[Results], float | None]] = {
    "clean": lambda results: results.scores.top1,
    "15": _corrupted("benchmark"),
    "19": _corrupted("all"),
    **{group: _corrupted(group) for group in GROUPS},
    **{attack_title(name): _attacked(name) for name in ("pgd50", "autoattack", "router")},
    "most used expert %": _expert_use,
    "ECE": lambda results: results.scores.ece,
}
DETAILS = {*GROUPS, attack_title("router"), "most used expert %", "images/s"}  # columns README leaves out
KINDS = {"dense": ("C0", "dense"), "ensemble": ("C2", "ensemble"), "mocse": ("C1", "MoCSE"), "advmoe": ("C3", "AdvMoE")}
PAIRED = {"15": "benchmark", attack_title("pgd50"): "pgd50", attack_title("autoattack"): "autoattack"}


def _mean_and_spread(values: Sequence[float], seeds: int) -> str:
    """Return the mean of a few seeds and half the distance of the farthest two; and how many they are, if not all."""
    if not values:
        return ""
    spread = f" ± {(max(values) - min(values)) / 2:.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}{f' ({len(values)} of {seeds})' if len(values) < seeds else ''}"


def _values(recipe: Recipe, value: Callable[[Results], float | None]) -> list[float]:
    found = [value(trained.results) for trained in recipe.trained.values()]
    return [number for number in found if number is not None]


def _difference(recipe: Recipe, baseline: Recipe, which: str) -> str:
    return "" if recipe is baseline else as_text(difference(recipe, baseline, which))


def render_table(
    comparison: Table, recipes: dict[str, Recipe], cards: str = "hub_cards", without: Collection[str] = ()
) -> str:
    """Return one comparison in Markdown: a row a recipe that has results; empty if none has.

    Args:
        comparison: what to compare.
        recipes: by name.
        cards: the folder of cards as the page's links name it.
        without: titles of columns to leave out.

    Raises:
        BadInput: if it names a recipe that is not in the plan.
    """
    require_recipes((comparison.baseline, *comparison.rows), recipes, f"the table {comparison.title!r}")
    rows = [recipes[name] for name in comparison.rows if recipes[name].trained]
    if not rows:
        return ""
    shown = {title: value for title, value in SCORES.items() if any(_values(recipe, value) for recipe in rows)}
    baseline = recipes[comparison.baseline]
    differences = {
        f"{title}, less {baseline.name}": found
        for title, which in PAIRED.items()
        if any(found := [_difference(recipe, baseline, which) for recipe in rows])
    }
    header = ["model", "seeds", "MMACs", "parameters", *shown, *differences, "images/s", "minutes"]
    kept = [place for place, title in enumerate(header) if title not in without]
    lines = [header]
    for place, recipe in enumerate(rows):
        cost = recipe.first.results.computation
        seeds = len(recipe.trained)
        scores = [_mean_and_spread(_values(recipe, value), seeds) for value in shown.values()]
        lines.append(
            [
                f"[{recipe.name}]({cards}/{recipe.name}/README.md)",
                str(seeds),
                f"{cost.macs / 1e6:,.1f}",
                millions(cost.parameters),
                *scores,
                *(found[place] for found in differences.values()),
                speed(cost.images_per_second),
                as_minutes(recipe.first.minutes),
            ]
        )
    missing = [name for name in comparison.rows if not recipes[name].trained]
    parts = [f"**{comparison.title}**", table(*([line[place] for place in kept] for line in lines))]
    if missing:
        parts.append(f"Not trained yet: {', '.join(f'`{name}`' for name in missing)}.")
    return "\n\n".join(parts)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read ({error})") from None


def with_tables(page: Path, tables: Sequence[str]) -> str:
    """Return the text of ``page`` with ``tables`` between its two marks.

    Raises:
        BadInput: if it cannot be read, or a mark is missing.
    """
    text = _text(page)
    if BEGIN not in text or END not in text:
        raise BadInput(f"{page.name} lacks the lines {BEGIN!r} and {END!r}; put them where the tables belong")
    shown = "\n\n".join(filter(None, tables)) or "No model is trained yet."
    return f"{text.partition(BEGIN)[0]}{BEGIN}\n\n{shown}\n\n{END}{text.partition(END)[2]}"


def folded(titled: str) -> str:
    """Return a table under its bold title as GitHub folds it up: the title, and the table for those who ask."""
    title, _, rest = titled.partition("\n\n")
    return rest and f"<details>\n<summary>{title.strip('*')}</summary>\n\n{rest}\n\n</details>"


def draw_cost(recipes: dict[str, Recipe], path: Path) -> bool:
    """Draw accuracy under corruption against MACs, a point a recipe with its spread; of one alone there is no plot."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    scored = {name: values for name, recipe in recipes.items() if (values := _values(recipe, SCORES["15"]))}
    if len(scored) < 2:
        return False
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    middles = {name: fmean(values) for name, values in scored.items()}
    close = 0.04 * (max(middles.values()) - min(middles.values()))
    for name, values in scored.items():
        first, middle = recipes[name].first, middles[name]
        macs = first.results.computation.macs / 1e6
        spread = [[middle - min(values)], [max(values) - middle]]
        colour, _ = KINDS[first.facts.kind]
        axes.errorbar([macs], [middle], yerr=spread, fmt="o", color=colour, capsize=3)
        below = any(0 < other - middle < close for other in middles.values())  # else two names would meet
        offset, edge = ((6, -3), "top") if below else ((6, 3), "bottom")
        axes.annotate(name, (macs, middle), xytext=offset, textcoords="offset points", va=edge, fontsize=8)
    kinds = {recipes[name].first.facts.kind for name in scored}
    shown = [KINDS[kind] for kind in KINDS if kind in kinds]
    points = [Line2D([], [], marker="o", linestyle="", color=colour, label=label) for colour, label in shown]
    axes.legend(handles=points, loc="upper left")
    axes.set(xlabel="MMACs an image", ylabel="accuracy under 15 corruptions, %", xscale="log")
    axes.margins(x=0.3)  # room for the names
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    write_whole(path, as_png(figure), "plot")
    return True


def draw_differences(recipe: Recipe, baseline: Recipe, path: Path) -> bool:
    """Draw every cell of ``recipe`` and its difference from ``baseline``, first seeds; return whether both have any."""
    if not (recipe.trained and baseline.trained):
        return False
    ours, theirs = recipe.first.results.corruptions, baseline.first.results.corruptions
    if ours is None or theirs is None:
        return False
    names = [f"{each.name}, seed {each.first.run.seed}" for each in (recipe, baseline)]
    comparison = compare(ours, theirs, names[1])
    write_whole(path, as_png(draw_heatmap(names[0], ours, comparison)), "plot")
    return True


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the results and write tables, plots, cards and the recipes' expected numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, default=ROOT / "recipes" / "zoo.yaml")
    parser.add_argument("--cards", type=Path, default=ROOT / "hub_cards")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of ZOO.md and the plots")
    parsed = parser.parse_args(arguments)
    plan, recipes = read_plan(parsed.plan), read_recipes(parsed.plan, parsed.cards)
    comparisons = plan.tables
    main_columns = [render_table(comparison, recipes, without=DETAILS) for comparison in comparisons]
    all_columns = [render_table(comparison, recipes, cards="../hub_cards") for comparison in comparisons]
    pairs, repeats = render_pairs(plan.pairs, recipes), render_repeats(plan.again, recipes)
    pages = {
        parsed.readme: [*main_columns[:1], *map(folded, (pairs, *main_columns[1:]))],
        parsed.docs / "ZOO.md": [pairs, repeats, *all_columns, folded(render_trainings(recipes.values()))],
    }
    texts = {page: with_tables(page, parts) for page, parts in pages.items()}
    texts |= {recipe.file: with_expected(recipe, _text(recipe.file), SCORES) for recipe in recipes.values()}
    written = write_zoo(parsed.cards)
    for page, text in texts.items():
        write_whole(page, text, page.name)
    for first in comparisons[:1]:
        draw_cost({name: recipes[name] for name in first.rows}, parsed.docs / "zoo_cost.png")
        for name in [name for name in first.rows if name != first.baseline][:1]:
            draw_differences(recipes[name], recipes[first.baseline], parsed.docs / "zoo_differences.png")
    for path in written:
        print(f"written to {path}")


if __name__ == "__main__":
    sys.exit(main())
