"""Single faults that could have been typed, made in a syntax tree. Pure: source in, mutants out.

Comparisons lose or gain their border or turn round, operators and constants change, conditions are negated, statements
that do something are left out. Texts of errors, annotations and default arguments are not touched.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_BORDER = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_ROUND = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
          ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip
_OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
              ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_TEXTS = {"explain"}  # calls that make sentences
Change = Callable[[ast.AST], ast.AST | None]  # a changed copy of the node; None: nothing to change


@dataclass(frozen=True)
class Mutant:
    """One changed module. `function` (dotted), `text` ("old -> new") and `nth` name it over edits elsewhere."""

    function: str
    text: str
    nth: int  # of the same text in the same function
    line: int
    tree: ast.Module


def mutants(source: str, functions: frozenset[str] | None = None) -> list[Mutant]:
    """Every single change of the module `source`, in `functions` (dotted names) or in all of them."""
    tree = ast.parse(source)
    found: list[Mutant] = []
    seen: dict[tuple[str, str], int] = {}
    for function, node in _functions(tree):
        if functions is not None and function not in functions:
            continue
        for path in _paths(node):
            old = _get(*_place(node, path))
            for change in _CHANGES:
                new = change(copy.deepcopy(old))
                if new is None:
                    continue
                text = f"{_one_line(old)} -> {_one_line(new)}"
                nth = seen[function, text] = seen.get((function, text), 0) + 1
                changed = copy.deepcopy(tree)
                _put(*_place(_find(changed, function), path), new)
                found.append(Mutant(function, text, nth, old.lineno, ast.fix_missing_locations(changed)))
    return found


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{n.name}", n) for n in node.body if isinstance(n, ast.FunctionDef))


def _find(tree: ast.Module, function: str) -> ast.FunctionDef:
    return dict(_functions(tree))[function]


Path = tuple[tuple[str, int | None], ...]


def _paths(function: ast.FunctionDef) -> list[Path]:
    """Where changes may be made, from the function down; its body only."""
    body = function.body
    first = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)  # the docstring
    paths: list[Path] = []
    for index in range(int(first), len(body)):
        _walk(body[index], (("body", index),), paths)
    return paths


def _walk(node: ast.AST, path: Path, paths: list[Path]) -> None:
    if isinstance(node, ast.JoinedStr) or _makes_text(node):
        return
    if hasattr(node, "lineno"):
        paths.append(path)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "ctx", "returns", "decorator_list"):
            continue
        if isinstance(value, ast.AST):
            _walk(value, (*path, (name, None)), paths)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.AST):
                    _walk(item, (*path, (name, index)), paths)


def _makes_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _TEXTS


def _place(function: ast.FunctionDef, path: Path) -> tuple[ast.AST, str, int | None]:
    node: ast.AST = function
    for name, index in path[:-1]:
        value = getattr(node, name)
        node = value if index is None else value[index]
    return node, *path[-1]


def _get(parent: ast.AST, name: str, index: int | None) -> ast.AST:
    value = getattr(parent, name)
    found: ast.AST = value if index is None else value[index]
    return found


def _put(parent: ast.AST, name: str, index: int | None, new: ast.AST) -> None:
    if index is None:
        setattr(parent, name, new)
    else:
        getattr(parent, name)[index] = new


def _one_line(node: ast.AST) -> str:
    text = ast.unparse(node).splitlines()
    return text[0] if len(text) == 1 else f"{text[0]} ..."


# --- the changes ---


def _compare(table: dict[type, type]) -> Change:
    def change(node: ast.AST) -> ast.AST | None:
        if not isinstance(node, ast.Compare) or type(node.ops[0]) not in table:
            return None
        node.ops[0] = table[type(node.ops[0])]()
        return node

    return change


def _second_compare(node: ast.AST) -> ast.AST | None:
    """a <= b <= c: the border of the second."""
    if not isinstance(node, ast.Compare) or len(node.ops) < 2 or type(node.ops[1]) not in _BORDER:
        return None
    node.ops[1] = _BORDER[type(node.ops[1])]()
    return node


def _operator(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.BinOp | ast.AugAssign) or type(node.op) not in _OPERATORS:
        return None
    node.op = _OPERATORS[type(node.op)]()
    return node


def _boolean(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.BoolOp):
        return None
    node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    return node


def _sign(node: ast.AST) -> ast.AST | None:
    """-x -> x, not x -> x."""
    return node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not) else None


def _constant(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, int | float):
        return None
    if isinstance(node.value, bool):
        return ast.copy_location(ast.Constant(not node.value), node)
    return ast.copy_location(
        ast.Constant(2 * node.value if isinstance(node.value, float) and node.value else node.value + 1), node
    )


def _condition(node: ast.AST) -> ast.AST | None:
    """if x -> if not x, where x is no comparison (that has its own)."""
    if not isinstance(node, ast.If | ast.While | ast.IfExp) or isinstance(node.test, ast.Compare | ast.UnaryOp):
        return None
    node.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
    return node


def _name(node: ast.AST) -> ast.AST | None:
    """min -> max and the like, as functions and as methods."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _NAMES:
        node.func.id = _NAMES[node.func.id]
        return node
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _NAMES:
        node.func.attr = _NAMES[node.func.attr]
        return node
    return None


def _left_out(node: ast.AST) -> ast.AST | None:
    """Calls for their effect, raises, and assignments to attributes and items; sums stay as they were."""
    effect = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    kept = isinstance(node, ast.Assign) and all(isinstance(t, ast.Attribute | ast.Subscript) for t in node.targets)
    if effect or kept or isinstance(node, ast.Raise | ast.AugAssign | ast.Break | ast.Continue):
        return ast.copy_location(ast.Pass(), node)
    return None


_CHANGES: tuple[Change, ...] = (
    _compare(_BORDER), _compare(_ROUND), _second_compare, _operator, _boolean, _sign, _constant, _condition, _name,
    _left_out,
)  # fmt: skip
