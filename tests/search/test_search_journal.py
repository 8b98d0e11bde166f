from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsweep.errors import DataError
from segsweep.search.journal import Journal

EVENTS = [{"kind": "ask", "number": 0}, {"kind": "tell", "text": "Zürich\n"}, {}]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "sweep" / "journal.jsonl")


def test_events_come_back_in_order(journal: Journal) -> None:
    for event in EVENTS:
        journal.append(event)
    assert Journal(journal.path).read() == EVENTS


def test_a_journal_that_was_never_written_is_empty(journal: Journal) -> None:
    assert journal.read() == []


def test_a_new_process_appends_after_what_is_there(journal: Journal) -> None:
    journal.append({"n": 1})
    Journal(journal.path).append({"n": 2})
    assert journal.read() == [{"n": 1}, {"n": 2}]


def test_a_crash_at_any_byte_loses_the_torn_event_and_no_other(journal: Journal) -> None:
    for event in EVENTS:
        journal.append(event)
    content = journal.path.read_bytes()
    for length in range(len(content)):
        journal.path.write_bytes(content[:length])
        survivors = EVENTS[: content[:length].count(b"\n")]
        assert Journal(journal.path).read() == survivors
        Journal(journal.path).append({"after": length})
        assert Journal(journal.path).read() == [*survivors, {"after": length}]


@pytest.mark.parametrize("damage", [b"{torn\n", b"\n", b"[1]\n", b"\xff\xfe\n", b"\0\0\0\n"])
def test_damage_elsewhere_is_an_error_that_names_the_line(journal: Journal, damage: bytes) -> None:
    journal.append(EVENTS[0])
    journal.path.write_bytes(journal.path.read_bytes() + damage + b'{"n":2}\n')
    with pytest.raises(DataError, match=r"journal.jsonl:2: not a JSON object"):
        journal.read()


def test_what_is_not_json_is_refused_and_not_written(journal: Journal) -> None:
    journal.append(EVENTS[0])
    with pytest.raises(TypeError):
        journal.append({"path": Path("x")})
    assert journal.read() == EVENTS[:1]


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the journal"):
        Journal(tmp_path / "file" / "journal.jsonl").append({})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4))
def test_any_json_comes_back_equal(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, object]]
) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "j.jsonl")
    for event in events:
        journal.append(event)
    assert journal.read() == events
