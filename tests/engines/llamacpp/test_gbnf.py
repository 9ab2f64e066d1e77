"""Grammars are bounded as llama.cpp would expand them."""

import time

import pytest

from cohabit.engines.llamacpp.gbnf import MAX_DEPTH, MAX_PLACES, MAX_REPETITION, BadGrammar, check, converted

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws  # a comment
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""
CHESS = """root ::= ("1. " move " " move "\\n"){1,9}
move ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?"""


def rules(count: int, rule: str, last: str = '"a"') -> str:
    """Rules of which each uses the next: ``rule`` has ``{}`` for it."""
    lines = [f"a{number} ::= {rule.replace('{}', f'a{number + 1}')}" for number in range(count)]
    return "\n".join(["root ::= a0", *lines, f"a{count} ::= {last}"])


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "yes" | "no"',
        JSON,
        CHESS,
        'root ::= "a" root | "b"',
        "root ::= [a-z]{1000}",
        "root ::= " + "(" * MAX_DEPTH + '"a"' + ")" * MAX_DEPTH,
        "root ::= " + " | ".join(f'"word{number}"' for number in range(MAX_PLACES)),
        "root ::= .*",
        rules(60, "{}"),
    ],
)
def test_grammars_in_use_are_taken(grammar: str) -> None:
    check(grammar)


@pytest.mark.parametrize(
    ("grammar", "why"),
    [
        ("root ::= " + "(" * 7000 + '"a"' + ")" * 7000, "deeper"),
        ("root ::= " + '"a"? ' * 3000, "places"),
        ('root ::= "b" ' + '"a"? ' * 3000, "places"),
        ('root ::= "b" (' + "[a]* " * 2000 + ")+", "places"),
        (rules(40, "{}? {}? {}?"), "places"),
        (rules(40, '("b" | {}) ({} | {})?', '"a"?'), "places"),
        ('root ::= (("a"{0,500}){0,500}){0,500}', "repeat"),
        (f'root ::= "a"{{{MAX_REPETITION + 1}}}', "repeat"),
        ('root ::= "a"{1,999999999}', "repeat"),
        ("\n".join(["root ::= r0", *(f"r{number} ::= [a]{{900}}" for number in range(40))]), "elements"),
        ('root ::= root "a" | "a"', "begin with themselves"),
        ('root ::= "a"? root', "begin with themselves"),
        (rules(1000, "{}"), "deeper"),
        (rules(800, "{}", '"a"?'), "deeper"),
        ('root ::= ("a"?)*', "without end"),
        ("root ::= other", "define"),
        ('other ::= "a"', "root"),
        ('root ::= "a"\nroot ::= "b"', "twice"),
        ('root ::= "a"+*', "repetition"),
        ("root ::= *", "repetition"),
        ('root ::= ("a"', "closed"),
        ('root ::= "a")', "opened"),
        ('"a"', "rules"),
        ("root ::= ::= x", "name"),
        ('%llguidance {}\nstart: "a"', "GBNF"),
        ("", "root"),
        ("\x00", "GBNF"),
        ("root ::= <think>", "GBNF"),
        ("root ::= [z-a]", "ranges"),
        ("root ::= []", "something"),
        (r"root ::= [\ud800]", "characters"),
    ],
)
def test_unbounded_grammars_are_refused_at_once(grammar: str, why: str) -> None:
    began = time.thread_time()
    with pytest.raises(BadGrammar) as caught:
        check(grammar)
    assert time.thread_time() - began < 0.5, "it takes some hundredths of a second"
    assert why in str(caught.value)
    assert str(caught.value).startswith(("must ", "has "))


def test_gbnf_is_converted_to_llguidance() -> None:
    grammar = r"""other-Rule ::= [^"\\\x7F\x00-\x1F]? | .
root ::= "a\n/" other-Rule{2,3} ("é" | ) # a comment"""
    assert converted(grammar).splitlines() == [
        "%llguidance {}",
        r'start: "a" "\n" "/" rule0{2,3} ("é" | "")',
        r"rule0: /[^\x{22}\x{5c}\x{7f}\x{0}-\x{1f}]/{0,1} | /(.|\n)/",
    ]


def test_nested_groups_are_checked_in_linear_time() -> None:
    """Else each level looks through all those below it, and each of those again."""
    text = "root ::= " + " ".join("(" * 60 + '"a"' + ")" * 60 for _ in range(120))
    began = time.thread_time()
    check(text)
    assert time.thread_time() - began < 1.0, "it takes some hundredths of a second"
