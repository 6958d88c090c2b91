"""``hsm.toml.lines``: where a key stands, however it is written."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.toml.lines import Lines

TEXT = '''\
top = 1  # not = this
"quo#ted" = "a # b = c" # comment

[a]  # header [b]
# key = "commented out"
x.y = 1
x."z.w" = 2
inline = { p = 1, q = { r = "]" } }
long = [
  1,  # one
  # two = 2
  2,
]
after = """
[not-a-section]
key = 1
"""
literal = \'\'\'
x = \'1\'\'\'\'

[a.deep."er"]
k = 1

  [[slot]]
  name = "1"

[[slot]]
[slot.extra]
e = 1
[[slot.part]]
p = 1
[[slot.part]]
p = 2

[z]
list = [{ n = 1 }, { n = 2, m = 3 }]
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 1),
        (("quo#ted",), 2),
        (("a",), 4),
        (("a", "x"), 6),
        (("a", "x", "y"), 6),
        (("a", "x", "z.w"), 7),
        (("a", "inline", "q", "r"), 8),
        (("a", "long"), 9),
        (("a", "after"), 14),
        (("a", "literal"), 18),
        (("a", "deep"), 21),
        (("a", "deep", "er", "k"), 22),
        (("slot",), 24),
        (("slot", 0), 24),
        (("slot", 0, "name"), 25),
        (("slot", 1), 27),
        (("slot", 1, "extra", "e"), 29),
        (("slot", 1, "part", 0, "p"), 31),
        (("slot", 1, "part", 1, "p"), 33),
        (("z", "list", 1, "m"), 36),
    ],
)
def test_a_key_is_found(path, line):
    assert Lines(TEXT).line(path) == line


def test_a_missing_key_points_to_its_section():
    assert Lines(TEXT).line(("slot", 1, "baud")) == 27


def test_a_missing_section_points_to_the_end():
    assert Lines(TEXT).line(("missing", "key")) == 36


def test_an_empty_file_has_one_line():
    assert Lines("").line(("a",)) == 1


def test_a_line_separator_within_a_text_is_no_line():
    assert Lines('a = "x\u2028y"\nb = 1\n').line(("b",)) == 2


@given(st.lists(st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=3), max_size=5))
def test_every_key_of_every_text_is_found(tables):
    def quote(text: str) -> str:
        return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'

    lines, expected = [], {}
    for index, table in enumerate(tables):
        lines.append("[[t]]")
        for key, value in table.items():
            lines.append(f"{quote(key)} = {quote(value)}")
            expected["t", index, key] = len(lines)
    text = "\n".join(lines)
    assert tomllib.loads(text).get("t", []) == tables

    found = Lines(text)

    assert {path: found.line(path) for path in expected} == expected
