"""Imports run downwards only: station -> firmware_tools, hsm; these know nobody above, nor each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOORS = {
    "station": {"firmware_tools", "hsm", "softhsm"},
    "hsm": {"softhsm"},  # hsm.testing makes tokens
    "firmware_tools": set(),
    "softhsm": set(),
}


def imported_packages(source: str) -> set[str]:
    """Return the top-level packages that a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_only_what_lies_below(floor):
    allowed = FLOORS[floor] | {floor}
    modules = sorted((ROOT / floor).rglob("*.py"))
    assert modules
    wrong = {
        f"{path.relative_to(ROOT)}: {package}"
        for path in modules
        for package in imported_packages(path.read_text()) & FLOORS.keys() - allowed
    }
    assert not wrong


def test_hsm_needs_softhsm_only_for_tests():
    users = [path.name for path in (ROOT / "hsm").rglob("*.py") if "softhsm" in imported_packages(path.read_text())]
    assert users == ["testing.py"]


def test_the_check_sees_a_forbidden_import():
    assert imported_packages("def f():\n    from station.line.unit import UnitRun\n") & FLOORS.keys() == {"station"}


def module_graph(floor: str) -> dict[str, set[str]]:
    """Return which modules of a floor import which, at the top of their files; late imports are late on purpose."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / floor).rglob("*.py")
    }
    graph: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    submodule = f"{node.module}.{alias.name}"
                    graph[name].add(submodule if submodule in paths else node.module)
    return graph


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_has_no_import_cycle(floor):
    graph = module_graph(floor)
    path: list[str] = []
    done: set[str] = set()

    def visit(module: str) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done or module not in graph:
            return
        path.append(module)
        for target in graph[module]:
            visit(target)
        done.add(path.pop())

    for module in graph:
        visit(module)


GPL = {"esptool", "espsecure", "stm32loader", "hardpy", "zpl"}


@pytest.mark.parametrize("floor", FLOORS)
def test_gpl_tools_are_never_imported(floor):
    for path in (ROOT / floor).rglob("*.py"):
        assert not imported_packages(path.read_text()) & GPL, path
