"""A client's grammar in GBNF, llama.cpp's language: bounded, and turned into llguidance's.

llama.cpp's own sampler keeps all places in the grammar where the text so far may have led, and tries each token from
each of them. It bounds neither their number nor the recursion of its parser: fifty optional letters in a row take
minutes for each token, and a few thousand brackets end the process. llguidance follows the same rules within limits.

The bounds here are on what is made of a grammar:

- depth of groups, count of one repetition, product of nested repetitions, elements in all;
- ``places``: how many places can follow one place without reading a character. Optional items one after the other
  add up, and optional rules of optional rules multiply.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MAX_DEPTH = 64
MAX_REPETITION = 1000
MAX_PLACES = 1000
MAX_ELEMENTS = 20_000  # of the expanded grammar

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
    |(?P<literal>"(?:[^"\\]|\\.)*")
    |(?P<chars>\[(?:[^\]\\]|\\.)*\]|\.)
    |(?P<define>::=)
    |(?P<name>[A-Za-z0-9-]+)
    |(?P<repeat>[*+?]|\{\s*[0-9]{1,9}\s*(?:,\s*(?:[0-9]{1,9})?\s*)?\})
    |(?P<mark>[()|])""",
    re.VERBOSE | re.DOTALL,
)


_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


class BadGrammar(Exception):
    """It is not taken. The text says why, and is to follow the field's name."""


@dataclass(slots=True)
class _Item:
    """One element of a sequence: characters, a rule, or a group of alternatives; repeated."""

    characters: tuple[str, ...] = ()  # each as an expression of llguidance's
    rule: str | None = None
    group: "Alternatives | None" = None
    least: int = 1
    most: int | None = 1  # None: without end


Alternatives = list[list[_Item]]


@dataclass(slots=True)
class _Parser:
    text: str
    rules: dict[str, Alternatives] = field(default_factory=dict)

    def parse(self) -> None:
        tokens = list(self._tokens())
        at = 0
        while at < len(tokens):
            if [kind for kind, _ in tokens[at : at + 2]] != ["name", "define"]:
                raise BadGrammar('must be rules in GBNF, such as root ::= "yes" | "no"')
            name = tokens[at][1]
            if name in self.rules:
                raise BadGrammar("has a rule twice")
            self.rules[name], at = self._alternatives(tokens, at + 2, 0)

    def _tokens(self) -> Iterator[tuple[str, str]]:
        at = 0
        while at < len(self.text):
            found = _TOKEN.match(self.text, at)
            if found is None or found.lastgroup is None:
                raise BadGrammar("must be in GBNF")
            at = found.end()
            if found.lastgroup != "space":
                yield found.lastgroup, found.group()

    def _alternatives(self, tokens: list[tuple[str, str]], at: int, depth: int) -> tuple[Alternatives, int]:
        """Up to the end of the group, or to the next rule."""
        if depth > MAX_DEPTH:
            raise BadGrammar(f"must not have groups in groups deeper than {MAX_DEPTH}")
        found: Alternatives = [[]]
        while at < len(tokens):
            kind, text = tokens[at]
            following = tokens[at + 1][0] if at + 1 < len(tokens) else ""
            at += 1
            if kind == "name" and following == "define":
                at -= 1
                break
            match kind, text:
                case "mark", "(":
                    group, at = self._alternatives(tokens, at, depth + 1)
                    found[-1].append(_Item(group=group))
                case "mark", ")":
                    if not depth:
                        raise BadGrammar("must be in GBNF: a bracket is closed that was not opened")
                    return found, at
                case "mark", _:
                    found.append([])
                case "repeat", _:
                    if not found[-1]:
                        raise BadGrammar("must be in GBNF: a repetition follows nothing")
                    _repeat(found[-1][-1], text)
                case "name", _:
                    found[-1].append(_Item(rule=text))
                case "literal", _:
                    found[-1].append(_Item(characters=_literal(text[1:-1])))
                case "define", _:
                    raise BadGrammar("must be in GBNF: a rule has no name")
                case _:
                    found[-1].append(_Item(characters=(_class(text),)))
        if depth:
            raise BadGrammar("must be in GBNF: a bracket is not closed")
        return found, at


_TOO_DEEP_RULES = BadGrammar(f"must not have rules that begin with rules deeper than {MAX_DEPTH}")
_TOO_MANY_PLACES = BadGrammar(
    f"must not lead to more than {MAX_PLACES} places at once; have fewer optional items one after the other"
)


def check(text: str) -> None:
    """Raises BadGrammar for a grammar that cannot be read, or that would cost too much."""
    _read(text)


def converted(text: str) -> str:
    """The same grammar in llguidance's language, each character for itself. Raises BadGrammar."""
    rules = _read(text)
    names = {name: "start" if name == "root" else f"rule{number}" for number, name in enumerate(rules)}
    ordered = sorted(rules, key=lambda name: name != "root")
    return "\n".join(["%llguidance {}", *(f"{names[name]}: {_written(rules[name], names)}" for name in ordered), ""])


def _read(text: str) -> dict[str, Alternatives]:
    parser = _Parser(text)
    parser.parse()
    rules = parser.rules
    if "root" not in rules:
        raise BadGrammar("must have a rule named root")
    if not all(name in rules for alternatives in rules.values() for name in _used(alternatives)):
        raise BadGrammar("must define every rule that it uses")
    if sum(map(_elements, rules.values())) > MAX_ELEMENTS:
        raise BadGrammar(f"must have at most {MAX_ELEMENTS} elements once its repetitions are written out")
    _Places(rules).check()
    return rules


def _written(alternatives: Alternatives, names: Mapping[str, str]) -> str:
    return " | ".join(
        " ".join(_written_item(item, names) for item in sequence) if sequence else '""' for sequence in alternatives
    )


def _written_item(item: _Item, names: Mapping[str, str]) -> str:
    if item.rule is not None:
        inner = names[item.rule]
    elif item.group is not None:
        inner = f"({_written(item.group, names)})"
    else:
        inner = " ".join(item.characters) or '""'
        if len(item.characters) > 1 and (item.least, item.most) != (1, 1):
            inner = f"({inner})"
    match item.least, item.most:
        case 1, 1:
            return inner
        case 0, None:
            return f"{inner}*"
        case 1, None:
            return f"{inner}+"
        case least, None:
            return f"{inner}{{{least},}}"
        case least, most:
            return f"{inner}{{{least},{most}}}"


def _characters(text: str) -> list[tuple[int, bool]]:
    """The codes of characters, and whether each was escaped. Raises BadGrammar."""
    found = []
    at = 0
    while at < len(text):
        escape = _ESCAPE.match(text, at)
        if escape is not None:
            code = escape[1] or escape[2] or escape[3]
            found.append((int(code, 16) if code else ord(_ESCAPED.get(escape[4], escape[4])), True))
            at = escape.end()
        else:
            found.append((ord(text[at]), False))
            at += 1
    if any(code > sys.maxunicode or 0xD800 <= code < 0xE000 for code, _ in found):
        raise BadGrammar("must name characters that there are")
    return found


def _literal(text: str) -> tuple[str, ...]:
    return tuple(json.dumps(chr(code), ensure_ascii=False) for code, _ in _characters(text))


def _class(text: str) -> str:
    """``[a-z]`` or ``.`` as a regular expression."""
    if text == ".":
        return r"/(.|\n)/"
    inner, no = (text[2:-1], "^") if text.startswith("[^") else (text[1:-1], "")
    codes = _characters(inner)
    if not codes:
        raise BadGrammar("must have something in its brackets")
    parts = []
    at = 0
    while at < len(codes):
        first = last = codes[at][0]
        if at + 2 < len(codes) and codes[at + 1] == (ord("-"), False):
            last = codes[at + 2][0]
            at += 2
        if last < first:
            raise BadGrammar("must have ranges from the lower character to the higher one")
        parts.append(f"\\x{{{first:x}}}" + (f"-\\x{{{last:x}}}" if last > first else ""))
        at += 1
    return f"/[{no}{''.join(parts)}]/"


def _repeat(item: _Item, text: str) -> None:
    if (item.least, item.most) != (1, 1):
        raise BadGrammar("must not repeat a repetition; put it into brackets")
    match text:
        case "*":
            item.least, item.most = 0, None
        case "+":
            item.least, item.most = 1, None
        case "?":
            item.least, item.most = 0, 1
        case _:
            first, comma, last = text[1:-1].partition(",")
            item.least = int(first)
            item.most = item.least if not comma else int(last) if last.strip() else None
            if max(item.least, item.most or 0) > MAX_REPETITION:
                raise BadGrammar(f"must not repeat anything more than {MAX_REPETITION} times")


class _Places:
    """Counts the places that can follow a place. Raises BadGrammar for a grammar with too many, or without end."""

    def __init__(self, rules: dict[str, Alternatives]) -> None:
        self._rules = rules
        self._known: dict[str, int] = {}
        # By the identity of a group. Groups are met again at each level above them, so each is looked at once.
        self._of_groups: dict[int, int] = {}
        self._nothing: dict[int, bool] = {}
        self._empty: set[str] = set()  # rules that can be nothing
        for _ in range(MAX_DEPTH):
            grown = {name for name in rules if name not in self._empty and self._can_be_empty(rules[name])}
            if not grown:
                return
            self._empty |= grown
            self._nothing.clear()
        raise _TOO_DEEP_RULES

    def check(self) -> None:
        for alternatives in self._rules.values():
            self._check(alternatives)

    def _check(self, alternatives: Alternatives) -> None:
        """Every place of these, not only where they begin."""
        for sequence in alternatives:
            follow = 0
            for item in reversed(sequence):
                follow = self._of_item(item, ()) + (follow if self._skipped(item) else 0)
                if follow > MAX_PLACES:
                    raise _TOO_MANY_PLACES
                if item.group is not None:
                    self._check(item.group)

    def _of_rule(self, name: str, above: tuple[str, ...]) -> int:
        if name not in self._known:
            if name in above:
                raise BadGrammar("must not have rules that begin with themselves")
            if len(above) == MAX_DEPTH:
                raise _TOO_DEEP_RULES
            self._known[name] = self._of(self._rules[name], (*above, name))
        return self._known[name]

    def _of_group(self, group: Alternatives, above: tuple[str, ...]) -> int:
        if id(group) not in self._of_groups:
            self._of_groups[id(group)] = self._of(group, above)
        return self._of_groups[id(group)]

    def _of(self, alternatives: Alternatives, above: tuple[str, ...]) -> int:
        """Places where these can begin."""
        places = 0
        for sequence in alternatives:
            for item in sequence:
                places += self._of_item(item, above)
                if places > MAX_PLACES:
                    raise _TOO_MANY_PLACES
                if not self._skipped(item):
                    break
        return places

    def _of_item(self, item: _Item, above: tuple[str, ...]) -> int:
        if item.rule is not None:
            inner, empty = self._of_rule(item.rule, above), item.rule in self._empty
        elif item.group is not None:
            inner, empty = self._of_group(item.group, above), self._can_be_empty(item.group)
        else:
            inner, empty = 1, not item.characters
        if not empty:
            return inner
        if item.most is None:
            raise BadGrammar("must not repeat without end what can be nothing")
        return inner * max(1, item.most)

    def _can_be_empty(self, alternatives: Alternatives) -> bool:
        if id(alternatives) not in self._nothing:
            self._nothing[id(alternatives)] = any(all(map(self._skipped, sequence)) for sequence in alternatives)
        return self._nothing[id(alternatives)]

    def _skipped(self, item: _Item) -> bool:
        """Whether it can be nothing."""
        if item.least == 0:
            return True
        if item.rule is not None:
            return item.rule in self._empty
        return self._can_be_empty(item.group) if item.group is not None else not item.characters


def _elements(alternatives: Alternatives, times: int = 1) -> int:
    """Of the grammar once its repetitions are written out. ``times`` is how often this part is repeated."""
    found = 0
    for sequence in alternatives:
        found += times
        for item in sequence:
            repeated = times * max(1, item.least, item.most or 1)
            if repeated > MAX_REPETITION:
                raise BadGrammar(
                    f"must not repeat anything more than {MAX_REPETITION} times, with nested ones multiplied"
                )
            found += repeated * max(1, len(item.characters))
            if item.group is not None:
                found += _elements(item.group, repeated)
    return found


def _used(alternatives: Alternatives) -> Iterator[str]:
    for item in (item for sequence in alternatives for item in sequence):
        if item.rule is not None:
            yield item.rule
        if item.group is not None:
            yield from _used(item.group)
