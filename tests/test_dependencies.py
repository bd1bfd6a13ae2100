"""What pyproject.toml declares is what the package's own files import, for each extra, and nothing else."""

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import util
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from floors import floors

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mocse_timm"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EVERYTHING = sorted([*PACKAGE.rglob("*.py"), ROOT / "train.py", ROOT / "validate.py"])
STARTS = {  # what each extra is installed for
    "": ["mocse_timm/__init__.py"],
    "train": ["train.py", "validate.py"],
    "attacks": ["mocse_timm/attacks/autoattack.py"],
    "corruptions": ["mocse_timm/corruptions/__main__.py"],
    "hub": ["mocse_timm/hub/__main__.py"],
}
ADDS_TO = {"corruptions": ["validate.py"]}  # a command of another extra that uses this one if it is there
BEHIND = {"jinja2": "huggingface_hub.repocard"}  # imported there, as the cards' files call it
LOADERS = {"import_extra", "import_module"}  # functions that take the name of a module


def normal(name: str) -> str:
    """Return the spelling in which names of distributions are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


DISTRIBUTIONS = {module: {normal(name) for name in names} for module, names in packages_distributions().items()}


def declared(extra: str) -> set[str]:
    """Return the distributions of ``extra``, or those that are always installed for ''."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {normal(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines}


def _imports(node: ast.AST, late: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not late:
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from (child.module, *(f"{child.module}.{alias.name}" for alias in child.names))
        elif isinstance(child, ast.Call) and getattr(child.func, "id", "") in LOADERS:
            yield from (a.value for a in child.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
        yield from _imports(child, late)


@functools.cache
def imports(path: Path, late: bool) -> frozenset[str]:
    """Return all that ``path`` imports, with ``late`` also what its functions import when they are called."""
    return frozenset(_imports(ast.parse(path.read_text(encoding="utf-8")), late))


def files_of(module: str) -> Iterator[Path]:
    """Yield the files of this package that run when ``module`` is imported: its own and those of its rooms."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        place = ROOT.joinpath(*parts[:count])
        yield from (file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file())


def reached(starts: list[str], late: bool) -> set[Path]:
    """Return the package's files that the files ``starts`` import, and so on."""
    found: set[Path] = set()
    waiting = [ROOT / start for start in starts]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [
                f for module in imports(file, late) if module.startswith("mocse_timm.") for f in files_of(module)
            ]
    return found


def others(files: set[Path], late: bool) -> dict[str, Path]:
    """Return the modules that ``files`` import from neither Python nor this package, each with one file that does."""
    top = {module.split(".")[0]: file for file in sorted(files) for module in imports(file, late)}
    return {name: file for name, file in top.items() if name not in sys.stdlib_module_names | {"mocse_timm"}}


def distributions(files: set[Path], late: bool) -> set[str]:
    return {distribution for module in others(files, late) for distribution in DISTRIBUTIONS.get(module, ())}


def behind(names: set[str]) -> set[str]:
    """Return those of BEHIND's distributions whose library still imports them."""
    for name in names:
        spec = util.find_spec(BEHIND[name])
        assert spec is not None and spec.origin is not None
        assert name in {module.split(".")[0] for module in imports(Path(spec.origin), True)}
    return names


def test_every_extra_has_a_start() -> None:
    assert {*PROJECT["optional-dependencies"], ""} - {"test"} == STARTS.keys()


@pytest.mark.parametrize("extra", STARTS)
def test_every_dependency_is_imported_from_the_packages_own_files(extra: str) -> None:
    files = set(EVERYTHING) if not extra else reached(STARTS[extra] + ADDS_TO.get(extra, []), late=True)
    unused = declared(extra) - distributions(files, late=True)
    assert unused - behind(unused & BEHIND.keys()) == set()


@pytest.mark.parametrize("extra", STARTS)
def test_what_is_imported_at_the_start_is_installed_with_the_extra(extra: str) -> None:
    known = declared("") | declared(extra)
    for module, file in others(reached(STARTS[extra], late=False), late=False).items():
        assert DISTRIBUTIONS.get(module, set()) & known, f"{file} imports {module}, which [{extra}] does not install"


def test_every_import_belongs_to_a_declared_dependency() -> None:
    known = set().union(*(declared(extra) for extra in STARTS))
    for module, file in others(set(EVERYTHING), late=True).items():
        assert DISTRIBUTIONS.get(module, set()) & known, f"{file} imports {module}, which nothing installs"


def test_the_files_with_functions_that_import_late_are_seen() -> None:
    """The tests above would pass on files they cannot read."""
    assert {"cv2", "scipy", "sklearn", "torch", "tyro"} <= others(set(EVERYTHING), late=True).keys()
    assert "pyautoattack" not in others(reached(STARTS[""], late=False), late=False)


def test_the_floors_are_the_highest_that_any_extra_names() -> None:
    project = {
        "name": "ours",
        "dependencies": ["torch>=2.6", "PyYAML>=6"],
        "optional-dependencies": {"a": ["pillow>=10"], "b": ["pillow>=10.1", "ruff==0.17.6"], "c": ["ours[a,b]"]},
    }
    assert floors(project) == {"torch": "2.6", "pyyaml": "6", "pillow": "10.1", "ruff": "0.17.6"}
    with pytest.raises(AssertionError, match="'numpy' has no floor"):
        floors(project | {"dependencies": ["numpy"]})
