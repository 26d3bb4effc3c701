"""Encoding and decoding, both directions, by the table: exact inverses, and nothing but ProtocolError for anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusewire.wire import codec, table
from fusewire.wire.codec import Message
from fusewire.wire.extensions import Extensions, decode_extensions, encode_extensions
from fusewire.wire.flags import InitFlag, NotifyCode, Opcode
from fusewire.wire.layout import Layout, ProtocolError
from fusewire.wire.render import render_reply, render_request
from fusewire.wire.table import LATEST, Body, Dialect

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)
OLD = Dialect(12, InitFlag(0))


def values(layout: Layout[Any], size: int | None = None) -> st.SearchStrategy[Any]:
    """Any struct of a layout; ``size``: only the fields that begin before it differ from zero."""
    size = layout.size if size is None else size
    return st.binary(min_size=size, max_size=size).map(lambda raw: layout.unpack(raw.ljust(layout.size, b"\0")))


@st.composite
def messages(draw: st.DrawFn, body: Body, dialect: Dialect = LATEST) -> Message:
    structs = [draw(values(layout, dialect.size(layout))) for layout in body.structs]
    items: tuple[Any, ...] = ()
    if body.items is not None:
        items = tuple(draw(st.lists(values(body.items), max_size=5)))
        structs[0] = structs[0]._replace(count=len(items))
    return Message(
        tuple(structs),
        tuple(draw(NAMES) for _ in body.names),
        items,
        draw(st.binary(max_size=64)) if body.data else b"",
        bytes(8 * draw(st.integers(0, 3))) if body.extensions else b"",
    )


@pytest.mark.parametrize("dialect", [LATEST, OLD], ids=["7.46", "7.12"])
@pytest.mark.parametrize("opcode", [pytest.param(op, id=op.name) for op in Opcode])
@settings(max_examples=20)
@given(data=st.data())
def test_a_request_decodes_to_what_was_encoded(opcode: Opcode, dialect: Dialect, data: st.DataObject) -> None:
    message = data.draw(messages(table.OPERATIONS[opcode].request, dialect))
    raw = codec.encode_request(opcode, message, unique=6, nodeid=9, uid=1, gid=2, pid=3, dialect=dialect)
    header, decoded = codec.decode_request(raw, dialect)
    assert decoded == message
    assert (header.opcode, header.unique, header.nodeid, header.uid, header.gid, header.pid) == (opcode, 6, 9, 1, 2, 3)


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("opcode", [pytest.param(op, id=op.name) for op in Opcode])
@settings(max_examples=20)
@given(data=st.data())
def test_an_answer_decodes_to_what_was_encoded(opcode: Opcode, probe: bool, data: st.DataObject) -> None:
    row = table.OPERATIONS[opcode]
    body = row.probe if probe and row.probe else row.reply
    message = data.draw(messages(body))
    raw = codec.encode_reply(opcode, 8, message, probe=probe)
    assert codec.decode_reply(opcode, raw, probe=probe)[1] == message


@pytest.mark.parametrize("code", [pytest.param(code, id=code.name) for code in NotifyCode])
@settings(max_examples=20)
@given(data=st.data())
def test_a_notification_decodes_to_what_was_encoded(code: NotifyCode, data: st.DataObject) -> None:
    message = data.draw(messages(table.NOTIFICATIONS[code]))
    assert codec.decode_notification(codec.encode_notification(code, message)) == (code, message)


def test_an_error_answer_has_no_body() -> None:
    raw = codec.encode_reply(Opcode.LOOKUP, 4, error=2)
    header, message = codec.decode_reply(Opcode.LOOKUP, raw)
    assert (len(raw), header.error, message) == (16, -2, Message())


@settings(max_examples=500)
@given(st.binary(max_size=200), st.sampled_from(list(Opcode)), st.booleans())
def test_any_bytes_decode_or_raise_protocol_error(raw: bytes, opcode: Opcode, framed: bool) -> None:
    if framed:  # a right length and a right opcode let the bytes come further
        raw = (len(raw) + 40).to_bytes(4, "little") + int(opcode).to_bytes(4, "little") + bytes(32) + raw
    for decode in (
        lambda: codec.decode_request(raw),
        lambda: codec.decode_reply(opcode, raw),
        lambda: codec.decode_notification(raw),
        lambda: list(codec.iter_dirents(raw)),
        lambda: list(codec.iter_direntplus(raw)),
    ):
        try:
            decode()
        except ProtocolError:
            pass


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(list(Opcode)))
def test_any_bytes_are_rendered_as_one_line(raw: bytes, opcode: Opcode) -> None:
    framed = (len(raw) + 40).to_bytes(4, "little") + int(opcode).to_bytes(4, "little") + bytes(32) + raw
    for line in (render_request(raw), render_request(framed), render_reply(opcode, raw)):
        assert "\n" not in line
        assert line


@given(st.lists(st.tuples(NAMES.filter(lambda n: b"/" not in n), st.integers(1, 1 << 40)), max_size=20))
def test_directory_entries_come_back_in_order(entries: list[tuple[bytes, int]]) -> None:
    raw = b"".join(codec.pack_dirent(name, ino, place + 1, 8) for place, (name, ino) in enumerate(entries))
    assert [(name, entry.ino) for name, entry in codec.iter_dirents(raw)] == entries


def test_a_truncated_last_entry_is_left_out_as_linux_does() -> None:
    raw = codec.pack_dirent(b"one", 1, 1, 8) + codec.pack_dirent(b"other", 2, 2, 8)[:-6]
    assert [name for name, _ in codec.iter_dirents(raw)] == [b"one"]


@pytest.mark.parametrize("name", [b"", b"a/b"])
def test_a_bad_name_in_a_directory_is_refused(name: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(codec.iter_dirents(codec.pack_dirent(name, 1, 1, 8)))


def test_a_line_shows_opcode_unique_node_flags_and_name() -> None:
    from fusewire.wire.layouts import MkdirIn

    raw = codec.encode_request(Opcode.MKDIR, Message((MkdirIn(0o755, 0o22),), (b"d\xff\n",)), unique=2, nodeid=1)
    assert render_request(raw) == 'MKDIR 2 nodeid=1 mode=0o755 umask=0o22 "d\\xff\\x0a"'


@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=3), st.lists(st.integers(0, (1 << 32) - 1), max_size=3)
)
def test_extensions_come_back_as_they_were(contexts: list[tuple[bytes, bytes]], groups: list[int]) -> None:
    extensions = Extensions(tuple(contexts), tuple(groups))
    raw = encode_extensions(extensions)
    assert len(raw) % 8 == 0
    assert decode_extensions(raw) == extensions


@settings(max_examples=300)
@given(st.binary(max_size=100))
def test_any_bytes_are_extensions_or_raise_protocol_error(raw: bytes) -> None:
    try:
        decode_extensions(raw)
    except ProtocolError:
        pass
