"""EDN is read into JSON values, and written from them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.client_api.history import HistoryError, _edn

from tests.client_api.history.made import VALUES


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nil", None),
        ("true", True),
        ("false", False),
        ("0", 0),
        ("-12", -12),
        ("+7", 7),
        ("14719766284873261820000000000N", 14719766284873261820000000000),
        ("1.5", 1.5),
        ("-2e3", -2000.0),
        ("2.50M", 2.5),
        ("5M", 5.0),
        ('"a \\"b\\" \\\\ \\n\\t \\u00e9"', 'a "b" \\ \n\t é'),
        (":write", "write"),
        (":jepsen.core/read", "jepsen.core/read"),
        ("some-symbol!", "some-symbol!"),
        ("1/2", "1/2"),
        ("\\a", "a"),
        ("\\newline", "\n"),
        ("\\u0041", "A"),
        ('#inst "2026-01-01"', "2026-01-01"),
        ("#_ :gone 5", 5),
        ("#_ #_ 1 2 3", 3),
        ("#_ [1 [2]] 3", 3),
        ("; a comment\n 5 ; another", 5),
        ('{:a 1, :b [1 nil "x"], "c" (1 2), 3 #{4}}', {"a": 1, "b": [1, None, "x"], "c": [1, 2], "3": [4]}),
        ("#jepsen.history.Op{:index 0, :value [[:append 9 1]]}", {"index": 0, "value": [["append", 9, 1]]}),
        ("{[1 :a] 2}", {"[1 :a]": 2}),
        ("{}", {}),
    ],
)
def test_each_form_is_read(text: str, value: Any) -> None:
    """Commas and comments are space."""
    assert [form.value for form in _edn.read("f", text)] == [value]


def test_the_forms_of_one_vector_are_those_of_the_text() -> None:
    """Each with its own line; so it is of forms that stand one after the other."""
    inner = [_edn.Form(1, {"a": 1}), _edn.Form(3, {"a": 2})]
    assert _edn.read("f", "[{:a 1}\n\n{:a\n2}]") == inner
    assert _edn.read("f", "{:a 1}\n\n{:a\n2}") == inner
    assert _edn.read("f", "({:a 1}\n\n{:a\n2})\n") == inner
    assert _edn.read("f", "[]") == _edn.read("f", " \n") == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{:a 1}\n{:a", "f:2: '{' is not closed"),
        ("{:a\n1]", "f:2: ']' closes nothing"),
        (")", "f:1: ')' closes nothing"),
        ("{:a}", "f:1: a map with a key that has no value"),
        ('"open', "f:1: no EDN: '\"open'"),
        ('\n"\\q"', "f:2: no escape: \\q"),
        ("[1 #_]", "f:1: ']' closes nothing"),
        ("5 #_", "f:1: '#_' is not closed"),
        ("##NaN", "f:1: no EDN: '##NaN'"),
        ("[1] 5", "f:1: something stands behind the end of the history"),
        ("9" * 5000, "f:1: Exceeds the limit"),
    ],
)
def test_what_is_no_edn_is_named_by_its_line(text: str, error: str) -> None:
    """And by what is wrong with it."""
    with pytest.raises(HistoryError) as caught:
        _edn.read("f", text)
    assert str(caught.value).startswith(error)


def test_depth_is_no_matter() -> None:
    """No stack of the interpreter's overflows."""
    assert len(_edn.read("f", "{:a " + "[" * 50_000 + "]" * 50_000 + "}")) == 1


def test_half_a_surrogate_pair_is_written_as_an_escape() -> None:
    """It has no place in UTF-8."""
    assert _edn.write("a\ud800\\") == r'"a\ud800\\"'
    assert _edn.read("f", _edn.write("a\ud800\\")) == [_edn.Form(1, "a\ud800\\")]


@settings(deadline=None)
@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    """For each JSON value; floats keep their last digit."""
    (form,) = _edn.read("f", "{:value " + _edn.write(value) + "}")
    assert form.value == {"value": value}


@settings(deadline=None)
@given(st.text(alphabet='{}[]()"\\#_:;,nil 1a\n') | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """With this package's error and no other."""
    with contextlib.suppress(HistoryError):
        _edn.read("f", text)
