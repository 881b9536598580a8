"""The fields of a message: asked by name, they answer as a list of pairs does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.messages import Fields

NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
PAIRS = st.lists(st.tuples(NAMES, st.sampled_from([b"", b"1", b"2", b"3, 4"])), max_size=8)


def test_fields_are_asked_by_name() -> None:
    fields = Fields([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    assert fields.get(b"a") == b"1"
    assert fields.get(b"c") is None
    assert fields.get(b"c", b"") == b""
    assert fields.get_all(b"a") == [b"1", b"3"]
    assert fields.get_all(b"c") == []
    assert fields.combined(b"a") == b"1, 3"
    assert fields.combined(b"c") is None
    assert b"a" in fields and b"c" not in fields
    assert fields.has_any(frozenset({b"b", b"c"})) and not fields.has_any(frozenset({b"c"}))
    assert list(fields) == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert len(fields) == 3
    assert fields == Fields(tuple(fields)) and hash(fields) == hash(Fields(tuple(fields)))
    assert fields.replaced(b"a", b"x") == Fields([(b"a", b"x"), (b"b", b"2")])


@settings(max_examples=200, deadline=None)
@given(PAIRS, NAMES)
def test_fields_answer_as_a_list_of_pairs_does(pairs: list[tuple[bytes, bytes]], name: bytes) -> None:
    fields = Fields(pairs)
    values = [value for key, value in pairs if key == name]
    assert fields.get_all(name) == values and fields.get(name) == (values[0] if values else None)
    assert fields.combined(name) == (b", ".join(values) if values else None)
    assert (name in fields, len(fields), list(fields)) == (bool(values), len(pairs), pairs)
    assert fields.repeated == (len({key for key, _ in pairs}) < len(pairs))
    replaced = fields.replaced(name, b"x")
    assert (replaced == fields) == (list(replaced) == pairs) and fields != tuple(pairs)
    assert list(replaced) == [(name, b"x"), *(pair for pair in pairs if pair[0] != name)]
