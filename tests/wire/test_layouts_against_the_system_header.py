"""Each layout against the C compiler's view of this machine's <linux/fuse.h>, as far as that one goes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from fusewire.wire import layouts
from fusewire.wire.layout import Layout

HEADER = Path("/usr/include/linux/fuse.h")
LAYOUTS = {layout.name: layout for layout in vars(layouts).values() if isinstance(layout, Layout)}
# What C calls otherwise: padding and spare arrays have other names there.
PADDING = {"padding", "dummy", "unused", "spare", "reserved", "spare0", "spare2", "unused4", "unused5"}
NEWER = {"open_flags", "flags2", "total_extlen", "backing_id", "max_stack_depth", "request_timeout", "flags", "offset",
         "uaddr", "len"}  # fmt: skip
SHORTER = {"fuse_uring_cmd_req": 24}  # up to 7.45


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """struct -> field -> offset, with "" for the size; a field that this header does not have is left out."""
    if not HEADER.exists() or shutil.which("gcc") is None:
        pytest.skip("gcc and linux-libc-dev are needed")
    text = HEADER.read_text()
    lines = []
    for name, layout in LAYOUTS.items():
        if f"struct {name} {{" not in text:
            continue
        body = text.split(f"struct {name} {{")[1].split("};")[0]
        words = set(body.replace(";", " ").replace("[", " ").split())
        lines.append(f'printf("%s::%zu\\n", "{name}", sizeof(struct {name}));')
        for field in layout.offsets:
            if field in words and field not in PADDING:
                lines.append(f'printf("%s:{field}:%zu\\n", "{name}", offsetof(struct {name}, {field}));')
    source = tmp_path_factory.mktemp("c") / "measure.c"
    source.write_text(
        "#include <stdio.h>\n#include <stddef.h>\n#include <linux/fuse.h>\nint main(void) {" + "\n".join(lines) + "}"
    )
    program = source.with_suffix("")
    subprocess.run(["gcc", "-o", str(program), str(source)], check=True, timeout=60)
    out: dict[str, dict[str, int]] = {}
    for line in subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.split():
        struct, field, number = line.split(":")
        out.setdefault(struct, {})[field] = int(number)
    return out


def test_the_header_knows_most_of_our_structs(measured: dict[str, dict[str, int]]) -> None:
    assert len(measured) > 50, json.dumps(sorted(set(LAYOUTS) - set(measured)))


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_layout_has_the_size_and_the_offsets_of_the_c_struct(name: str, measured: dict[str, dict[str, int]]) -> None:
    if name not in measured:
        assert name.startswith(("fuse_uring", "fuse_statx", "fuse_sx_time", "fuse_notify_prune", "fuse_supp", "fuse_ext",
                                "fuse_backing_map", "fuse_copy_file_range_out", "fuse_secctx", "fuse_syncfs"))  # fmt: skip
        return
    layout = LAYOUTS[name]
    found = measured[name]
    assert found.pop("") in (layout.size, SHORTER.get(name))
    ours = {field: layout.offsets[field] for field in found}
    assert ours == found
    missing = set(layout.offsets) - set(found) - PADDING - NEWER
    assert not missing, f"{name} has {missing}, which the header calls otherwise"


def test_what_an_old_header_lacks_is_as_the_protocol_has_it() -> None:
    assert layouts.URING_REQ_HEADER.size == 288
    assert layouts.URING_REQ_HEADER.offsets == {"in_out": 0, "op_in": 128, "ring_ent_in_out": 256}
    assert layouts.URING_CMD_REQ.size == 40
    offsets = {"flags": 0, "commit_id": 8, "qid": 16, "padding": 18, "uaddr": 24, "len": 32, "reserved": 36}
    assert layouts.URING_CMD_REQ.offsets == offsets
    header = layouts.UringReqHeader(bytes(range(128)), bytes(128), layouts.UringEntInOut(1, 2, 3, 4, 5))
    assert layouts.URING_REQ_HEADER.unpack(layouts.URING_REQ_HEADER.pack(header)) == header
