"""Which module may write which part of the core's state, read from the source.

A decision that wrote an index itself would leave it untrue.
"""

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import cohabit.core
from cohabit.core.ledger import Account

CORE = Path(cohabit.core.__file__).parent
MODULES = sorted(path.stem for path in CORE.glob("*.py") if path.stem != "__init__")

# By attribute: the modules beside ``state`` that may assign it on anything but ``self``.
OWNERS = {
    "deficit": {"dispatch"},
    "charged_until": {"dispatch"},
    "background_since": {"dispatch"},
    "loads": {"worker_events"},
    "wakes": {"worker_events"},
    "last_eviction": {"swap"},
    "failures": {"worker_events"},
    "deaths": {"worker_events"},
    "failure": {"worker_events"},
    "sleep_failed": {"worker_events"},
    "overruns": {"worker_events"},
    "overran_at": {"worker_events"},
    "overran": {"worker_events"},
    "failed": {"worker_events"},
    "not_before": {"worker_events", "admin"},
    "infeasible_since": {"timeouts"},
    "backfill_blocked_by": {"swap"},
    "need": {"swap"},
    "next_try": {"swap"},
    "inflation": {"eviction"},
    "out": {"controller"},
    "queued": {"queues"},
}
ACCOUNT = {field.name for field in fields(Account)}  # written by the ledger only
COLLECTIONS = {
    "requests",
    "workers",
    "busy",
    "runnable",
    "starved",
    "waiters",
    "leaving",
    "victims",
    "batches",
    "models",
}
MUTATING = {"add", "append", "clear", "discard", "extend", "insert", "move", "pop", "push", "push_front", "remove"}
MUTATING |= {"setdefault", "take", "update"}
QUEUE_CALLS = {("batching", "take")}  # it takes a batch out, which ``run_started`` notes


def written(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every attribute that is assigned, changed in place or deleted on anything but ``self``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt):
            continue
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                place = part.value if isinstance(part, ast.Subscript) else part
                if isinstance(place, ast.Attribute) and ast.unparse(place.value) != "self":
                    yield node.lineno, place.attr


def mutated(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line, owner's attribute and method of every call that changes a collection, a queue or a lifecycle."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATING:
            owner = node.func.value
            if isinstance(owner, ast.Attribute) and owner.attr in COLLECTIONS | {"queue", "lifecycle"}:
                yield node.lineno, owner.attr, node.func.attr
            if isinstance(owner, ast.Name) and owner.id == "queue":
                yield node.lineno, owner.id, node.func.attr


@pytest.mark.parametrize("module", [name for name in MODULES if name != "state"])
def test_fields_are_written_by_their_owner_only(module: str) -> None:
    tree = ast.parse((CORE / f"{module}.py").read_text())
    owners = OWNERS | dict.fromkeys(ACCOUNT - OWNERS.keys(), {"ledger"})  # noqa: RUF024 - it is only read
    foreign = [(line, name) for line, name in written(tree) if module not in owners.get(name, set())]
    assert foreign == []


@pytest.mark.parametrize("module", [name for name in MODULES if name not in {"state", "queues"}])
def test_collections_queues_and_lifecycles_are_changed_by_the_state_only(module: str) -> None:
    tree = ast.parse((CORE / f"{module}.py").read_text())
    assert [call for call in mutated(tree) if (module, call[2]) not in QUEUE_CALLS] == []


def test_core_has_no_import_circles() -> None:
    imports = {
        name: {
            (node.module or "").rpartition(".")[2]
            for node in ast.walk(ast.parse((CORE / f"{name}.py").read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cohabit.core.")
        }
        for name in MODULES
    }
    left = dict(imports)
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}, "these import each other"
