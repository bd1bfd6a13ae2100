"""Print pip's constraints for the oldest versions that pyproject.toml allows, one ``name==version`` a line.

``make test-floors`` installs by them and runs the tests. Where several extras name one distribution, the highest of
their floors counts, as it does for pip.
"""

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?(>=|==)(?P<version>[0-9.]+)")


def floors(project: dict) -> dict[str, str]:
    """Return the floor of each distribution that ``project``, pyproject's table, requires."""
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    found: dict[str, str] = {}
    for line in wanted:
        if line.startswith(f"{project['name']}["):
            continue
        match = REQUIREMENT.fullmatch(line)
        assert match, f"{line!r} has no floor: write NAME>=VERSION or NAME==VERSION"
        name, version = match["name"].lower(), match["version"]
        found[name] = max(version, found.get(name, "0"), key=_numbers)
    return found


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


if __name__ == "__main__":
    for name, version in sorted(floors(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]).items()):
        print(f"{name}=={version}")
