"""What the documents say of the source tree, compared with the tree."""

from __future__ import annotations

import ast
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("streams", "features", "online_models", "infra")
LARGEST_FOLDER = 15
"""Modules, `__init__` counted."""
LONGEST_MODULE = 450
MEDIAN_MODULE = 130
LONGEST_FUNCTION = 50
"""Lines, docstrings and examples counted."""
CLIENT = re.compile(r"(AIO)?Kafka(Producer|Consumer|AdminClient|Client)|AIOKafkaAdminClient")


def rooms() -> list[Path]:
    return [init.parent for package in PACKAGES for init in sorted((ROOT / package).rglob("__init__.py"))]


def test_the_table_of_rooms_is_what_the_rooms_say_of_themselves() -> None:
    table = re.findall(
        r"^\| `([\w/]+)/` \| (.+) \|$", (ROOT / "docs/architecture.md").read_text("utf-8"), re.M
    )
    said = []
    for room in rooms():
        description = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8")))
        assert description, room
        said.append((str(room.relative_to(ROOT)), description.splitlines()[0]))
    assert table == said


def modules(*folders: str) -> list[Path]:
    """The modules of these folders; those behind a link, which are in another folder too, left out."""
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(part.is_symlink() for part in path.parents)
    ]


def all_modules() -> list[Path]:
    """Those of the product, the examples, the bench and the tests."""
    return modules(*PACKAGES, "driftline", "examples", "bench", "tests")


def lines_of(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    sizes = Counter(str(path.parent.relative_to(ROOT)) for path in all_modules())
    assert {folder: size for folder, size in sizes.items() if size > LARGEST_FOLDER} == {}


def test_a_module_has_one_idea() -> None:
    sizes = {str(path.relative_to(ROOT)): lines_of(path) for path in all_modules()}
    too_long = {name: size for name, size in sizes.items() if size > LONGEST_MODULE}
    assert too_long == {}
    product = [size for name, size in sizes.items() if name.partition("/")[0] in PACKAGES]
    assert statistics.median(product) <= MEDIAN_MODULE


def test_a_function_fits_a_screen() -> None:
    too_long = {
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in all_modules()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > LONGEST_FUNCTION
    }
    assert too_long == set()


def test_files_that_the_documents_name_are_there() -> None:
    named = re.compile(
        r"`((?:streams|features|online_models|infra|tests|bench|examples|driftline)/[\w/.]+\.\w+)`"
    )
    absent = {
        (page.name, file)
        for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for file in named.findall(page.read_text("utf-8"))
        if not (ROOT / file).exists()
    }
    assert absent == set()


def test_modules_that_the_documents_name_are_there() -> None:
    named = re.compile(r"driftline(?:\.[a-z_]+)+")
    absent = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for name in set(named.findall(page.read_text("utf-8"))):
            parts = name.split(".")[1:]
            if parts[0] not in (*PACKAGES, "examples", "bench"):
                continue
            # the last part may be a name within the module
            paths = (
                [ROOT.joinpath(*parts), ROOT.joinpath(*parts[:-1])] if len(parts) > 1 else [ROOT / parts[0]]
            )
            if not any(path.is_dir() or path.with_suffix(".py").exists() for path in paths):
                absent.add((page.name, name))
    assert absent == set()


def test_clients_of_kafka_are_made_in_one_place() -> None:
    """There they are let in as the settings say; one made elsewhere would go without."""
    home = ROOT / "streams/connection"
    elsewhere = [
        (str(path.relative_to(ROOT)), call.lineno)
        for package in (*PACKAGES, "examples")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.parent != home
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and CLIENT.fullmatch(ast.unparse(call.func).rpartition(".")[2])
    ]
    assert elsewhere == []


SAME_NAMES = {
    "log": "the logger of a module",
    "commands": "a group of the command line; `entry` puts them together",
    "main": "where a process begins",
    "consumer": "kafka-python's and aiokafka's; always called as `clients.…` or `async_clients.…`",
    "producer": "as `consumer`",
    "admin": "as `consumer`",
}
"""Names that several modules define, and why."""


def names_of(path: Path) -> Iterator[str]:
    """Public names that a module defines; what the command line calls has the name that the user types."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not any(".command" in ast.unparse(decorator) for decorator in node.decorator_list):
                yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_a_name_means_one_thing() -> None:
    modules_of = defaultdict(set)
    for path in modules("driftline", *PACKAGES):
        for name in names_of(path):
            if not name.startswith("_"):
                modules_of[name].add(str(path.relative_to(ROOT)))
    twice = {name: sorted(modules) for name, modules in modules_of.items() if len(modules) > 1}
    assert {name: modules for name, modules in twice.items() if name not in SAME_NAMES} == {}
    assert SAME_NAMES.keys() <= twice.keys()  # an exception that is needed no more
