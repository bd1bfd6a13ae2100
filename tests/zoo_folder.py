"""A zoo of three recipes with invented results, for tests of its tables."""

import sys
from pathlib import Path

import yaml
from hub_runs import corrupted, edit_json, make_run

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from zoo_tables import BEGIN, END

SUMMARY = "epoch,train_images_per_second\n0,100.0\n1,50.0\n"


def write_zoo(folder: Path) -> Path:
    """A plan of three recipes: two with two seeds of results, a third without any."""
    (folder / "zoo").mkdir()
    for name in ("dense", "mixture", "later"):
        (folder / "zoo" / f"{name}.yaml").write_text(f"# the command\n# What {name} is.\n# Expected: old.\nmodel: x\n")
    recipes = {name: {"seeds": [5, 6], "score": "corrupted"} for name in ("dense", "mixture", "later")}
    tables = [
        {"title": title, "baseline": "dense", "rows": ["dense", "mixture", "later"]}
        for title in ("Better?", "Once more?")
    ]
    plan = {"recipes": recipes, "pairs": [["mixture", "dense"], ["later", "dense"]], "tables": tables}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    for name, model, first in (("dense", "cifar_preact18", 10), ("mixture", "mocse_preact18", 20)):
        for place, seed in ((f"cards/{name}", first), (f"cards/{name}/seed6", first + 1)):
            make_run(folder / place, model, corruptions=corrupted(seed, mixture=name == "mixture"))
            edit_json(folder / place / "config.json", "mocse_timm", "train_images", value=6000)
            (folder / place / "summary.csv").write_text(SUMMARY)
    (folder / "docs").mkdir()
    for page in ("README.md", "docs/ZOO.md"):
        (folder / page).write_text(f"before\n{BEGIN}\nold tables\n{END}\nafter\n")
    return folder


def row(text: str, name: str) -> dict[str, str]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    found = next(line for line in lines if line[0].startswith(f"[{name}]"))
    return dict(zip(lines[0], found, strict=True))
