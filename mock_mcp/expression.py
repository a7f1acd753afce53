"""Arithmetic on text: a parser and its expression tree. `arithmetic.py` gives trees a value.

Covered: whole and decimal numbers (`3`, `0.25`, `1.5e3`), `+ - * / // %`, powers (`**` or `^`),
parentheses, `2x` and `2(x + 1)` for products, one-letter variables and the functions of
`FUNCTION_NAMES`. NOT covered, on purpose: `eval`, attributes, strings, comparisons.

The text's length and the nesting are capped, so that parsing and walking never go deep.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from mock_mcp.toolspec import ToolFailure

FUNCTION_NAMES = ("abs", "ceil", "factorial", "floor", "max", "min", "round", "sqrt", "sum")
MAX_LENGTH = 300
MAX_DEPTH = 40
MAX_DIGITS = 100
MAX_TEN_EXPONENT = 500

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]+)"
    r"|(?P<symbol>\*\*|//|[-+*/%^(),]))",
    re.ASCII,
)
# Signs as people type them: multiplication sign, middle dot, division sign, minus sign.
_SPELLINGS = str.maketrans({"\u00d7": "*", "\u00b7": "*", "\u00f7": "/", "\u2212": "-"})


@dataclass(frozen=True)
class Number:
    """A number as it was written."""

    value: Fraction


@dataclass(frozen=True)
class Name:
    """A variable."""

    name: str


@dataclass(frozen=True)
class Negative:
    """Minus something."""

    operand: Node


@dataclass(frozen=True)
class Binary:
    """Two operands and an operator: `+ - * / // % **`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Call:
    """A function and its arguments."""

    function: str
    arguments: tuple[Node, ...]


Node = Number | Name | Negative | Binary | Call


def parse(text: str) -> Node:
    """Return the expression tree of `text`.

    Raises:
        ToolFailure: If the text is no arithmetic, or longer or deeper than the caps.
    """
    if len(text) > MAX_LENGTH:
        raise ToolFailure(f"The expression is longer than {MAX_LENGTH} characters. Split it.")
    return _Parser(_tokens(text.translate(_SPELLINGS))).whole()


def names_in(node: Node) -> set[str]:
    """Return the variables that occur in a tree."""
    if isinstance(node, Name):
        return {node.name}
    if isinstance(node, Negative):
        return names_in(node.operand)
    if isinstance(node, Binary):
        return names_in(node.left) | names_in(node.right)
    if isinstance(node, Call):
        return set().union(*(names_in(item) for item in node.arguments))
    return set()


@dataclass(frozen=True)
class _Token:
    """A piece of the text: `number`, `name` or `symbol`, and where it starts (from 1)."""

    kind: str
    text: str
    position: int


_END = _Token("end", "", 0)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            bad = text[position:].lstrip()[0]
            raise ToolFailure(f"Unexpected {bad!r}. Use numbers, + - * / % ^ and parentheses.")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind], match.start(kind) + 1))
        position = match.end()
    return found


class _Parser:
    """Recursive descent, one method per level of precedence, lowest first."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        """Parse all of the text."""
        if not self._tokens:
            raise ToolFailure("The expression is empty. Write one such as 2 * (3 + 4).")
        node = self._sum()
        if self._peek() is not _END:
            raise self._unexpected()
        return node

    def _sum(self) -> Node:
        node = self._product()
        while operator := self._accept("+", "-"):
            node = Binary(operator, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._signed()
        while True:
            if operator := self._accept("*", "/", "//", "%"):
                node = Binary(operator, node, self._signed())
            elif self._peek().kind == "name" or self._peek().text == "(":
                node = Binary("*", node, self._signed())  # 2x, 2(x + 1)
            else:
                return node

    def _signed(self) -> Node:
        sign = self._accept("+", "-")
        if not sign:
            return self._power()
        self._deeper()
        operand = self._signed()
        self._depth -= 1
        return Negative(operand) if sign == "-" else operand

    def _power(self) -> Node:
        base = self._atom()
        if not self._accept("**", "^"):
            return base
        self._deeper()
        exponent = self._signed()  # so that 2 ** 3 ** 2 is 2 ** 9 and 2 ** -1 is read
        self._depth -= 1
        return Binary("**", base, exponent)

    def _atom(self) -> Node:
        token = self._peek()
        if token.kind == "number":
            self._next += 1
            return Number(_read_number(token.text))
        if token.kind == "name":
            self._next += 1
            return self._named(token.text)
        if not self._accept("("):
            raise self._unexpected()
        return self._inside()

    def _named(self, name: str) -> Node:
        if name not in FUNCTION_NAMES:
            if len(name) == 1:
                return Name(name)
            known = ", ".join(FUNCTION_NAMES)
            raise ToolFailure(f"Unknown function {name!r}. Known functions: {known}.")
        if not self._accept("("):
            raise ToolFailure(f"{name} needs its arguments in parentheses: {name}(2).")
        self._deeper()
        arguments = [self._sum()]
        while self._accept(","):
            arguments.append(self._sum())
        self._close()
        return Call(name, tuple(arguments))

    def _inside(self) -> Node:
        self._deeper()
        node = self._sum()
        self._close()
        return node

    def _close(self) -> None:
        if not self._accept(")"):
            raise self._unexpected()
        self._depth -= 1

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ToolFailure(f"The expression is nested deeper than {MAX_DEPTH}. Split it.")

    def _peek(self) -> _Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else _END

    def _accept(self, *symbols: str) -> str:
        token = self._peek()
        if token.kind != "symbol" or token.text not in symbols:
            return ""
        self._next += 1
        return token.text

    def _unexpected(self) -> ToolFailure:
        token = self._peek()
        if token is _END:
            return ToolFailure("The expression ends too early: a number or ')' is missing.")
        return ToolFailure(f"Unexpected {token.text!r} at character {token.position}.")


def _read_number(text: str) -> Fraction:
    digits, _, exponent = text.lower().partition("e")
    if len(digits) > MAX_DIGITS or abs(int(exponent or "0")) > MAX_TEN_EXPONENT:
        raise ToolFailure(
            f"The number {text[:12]}... is too long. Use at most {MAX_DIGITS} digits."
        )
    return Fraction(text)
