"""The shape of the repository, where no tool looks."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cohabit.engines.registry import ENGINES, engine_class

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "src").rglob("*.py"))
CODE = sorted(path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
DUMPING_GROUNDS = {"common", "helper", "helpers", "misc", "types", "util", "utils"}
MAX_LINES = 400
SILENCED = re.compile(r"# (?:noqa|type: ignore|pragma: no cover)(?P<rest>.*)")
DOCS = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
NOT_OURS = {"engines/NAME.py", "test_NAME.py", "build/", "cache/", "state/"}
PATH = re.compile(r"`((?:[\w.*-]+/)*[\w*-]+\.(?:py|md)|(?:[\w-]+/)+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
REASON = re.compile(r"(?:: [A-Z]+[0-9]+(?:, [A-Z]+[0-9]+)*|\[[a-z, -]+\]|) +(?:# |- )\w.*")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The table of that name in pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def at(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_module_is_a_dumping_ground() -> None:
    names = {part for path in CODE for part in (path.stem, path.parent.name)}
    assert not names & DUMPING_GROUNDS


def test_no_public_class_name_exists_twice() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(at(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_module_is_long() -> None:
    lengths = {at(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_whatever_is_silenced_has_its_reason_beside_it() -> None:
    bare = [
        f"{at(path)}:{number}"
        for path in CODE
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if (found := SILENCED.search(line)) and not REASON.fullmatch(found["rest"]) and path != Path(__file__)
    ]
    assert bare == []


@pytest.mark.parametrize("page", DOCS, ids=at)
def test_every_path_in_the_docs_exists(page: Path) -> None:
    named = set() if page.name == "CHANGELOG.md" else set(PATH.findall(page.read_text())) - NOT_OURS
    roots = (ROOT, ROOT / "src" / "cohabit")
    modules = {path.name for path in (*CODE, *(ROOT / "benchmarks").rglob("*.py"))}
    missing = {path for path in named - modules if not any(next(root.glob(path), None) for root in roots)}
    assert missing == set()


@pytest.mark.parametrize("page", DOCS, ids=at)
def test_every_link_in_the_docs_leads_somewhere(page: Path) -> None:
    broken = []
    for path, anchor in LINK.findall(page.read_text()):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ENGINES)
def test_engine_has_one_registry_line_one_test_and_one_row(name: str, project: dict[str, Any]) -> None:
    *folder, module = ENGINES[name].partition(":")[0].split(".")[1:]
    test = ROOT.joinpath("tests", *folder, f"test_{module}.py")
    assert test.is_file(), f"no {at(test)}"
    row = re.compile(rf"^\| *`{re.escape(name)}` *\|", re.MULTILINE)
    assert row.search((ROOT / "docs" / "engines.md").read_text()), f"no row for `{name}` in docs/engines.md"
    engine = engine_class(name)
    assert engine.tasks
    assert not engine.libraries or engine.extra in project["optional-dependencies"]


def test_the_test_environment_is_pinned(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    wanted = project["dependencies"] + [line for extra in pinned_extras(project) for line in extra]
    for requirement in map(Requirement, wanted):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in constraints.txt; `make lock` writes it"
        assert pin in requirement.specifier, f"{requirement} excludes {pin} of constraints.txt"


def pinned_extras(project: dict[str, Any]) -> list[list[str]]:
    """What the extra ``dev`` asks for, through the extras it names."""
    extras, todo, seen = project["optional-dependencies"], ["dev"], set()
    found: list[list[str]] = []
    while todo:
        extra = todo.pop()
        if extra in seen:
            continue
        seen.add(extra)
        requirements = [Requirement(line) for line in extras[extra]]
        ours = [requirement for requirement in requirements if requirement.name == project["name"]]
        todo += [name for requirement in ours for name in requirement.extras]
        found.append([str(requirement) for requirement in requirements if requirement not in ours])
    return found
