"""Every format gives the same documents, and what cannot be used says how to mend it."""

import gzip
import json
import sys
import sysconfig
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from stepladder.data import jsonl as jsonl_module
from stepladder.data.encode import documents as read
from stepladder.data.sources import find_source
from stepladder.data.text import pieces


def read_all(source, text_field="text"):
    return list(read(find_source(source).parts(), text_field))


def lines_of(documents, field="text"):
    return "".join(json.dumps({field: text}) + "\n" for text in documents).encode()


def write_text(folder, documents):
    for n, text in enumerate(documents):
        (folder / f"{n:04}.txt").write_text(text)


def write_jsonl(folder, documents):
    (folder / "c.jsonl").write_bytes(lines_of(documents))


def write_gzip(folder, documents):
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(lines_of(documents)))


def write_zstd(folder, documents):
    half = len(documents) // 2
    frames = [lines_of(documents[:half]), lines_of(documents[half:])]
    (folder / "c.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, frames)))


def write_parquet(folder, documents):
    pq.write_table(pa.table({"text": documents}), folder / "c.parquet", row_group_size=17)


WRITERS = [write_text, write_jsonl, write_gzip, write_zstd, write_parquet]


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_documents_in_order(tmp_path, documents, write):
    write(tmp_path, documents)
    assert read_all(tmp_path) == documents


def test_every_format_gives_the_same_tokens(tmp_path, documents, prepared):
    prints = set()
    for write in WRITERS:
        folder = tmp_path / write.__name__
        folder.mkdir()
        write(folder, documents)
        prints.add(prepared(folder, "bytes").fingerprint)
    assert len(prints) == 1


@pytest.mark.parametrize("part_bytes", [1, 7, 50, 300, 10**6])
def test_lines_belong_to_one_part_wherever_the_cut_falls(jsonl, documents, monkeypatch, part_bytes):
    monkeypatch.setattr(jsonl_module, "PART_BYTES", part_bytes)
    texts = documents[: 10 + part_bytes]
    jsonl.write_bytes(lines_of(texts))
    assert read_all(jsonl) == texts


def test_zstd_lines_longer_than_a_read_are_whole(tmp_path, documents, monkeypatch):
    monkeypatch.setattr(jsonl_module, "READ_BYTES", 5)
    write_zstd(tmp_path, documents[:20])
    assert read_all(tmp_path) == documents[:20]


def test_parts_add_up_to_the_bytes_on_disk(tmp_path, documents):
    write_parquet(tmp_path, documents)
    write_jsonl(tmp_path, documents)
    source = find_source(tmp_path)
    assert sum(part.size for part in source.parts()) == source.size


def test_a_folder_counts_what_it_cannot_read(tmp_path, documents):
    write_text(tmp_path, documents)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("not a document")
    (tmp_path / "empty.txt").touch()
    source = find_source(tmp_path)
    assert source.skipped == 1
    assert list(read(source.parts(), "text")) == documents


def test_the_stdlib_is_the_sources_of_this_python():
    files = find_source("stdlib").files
    root = Path(sysconfig.get_path("stdlib"))
    assert root / "json" / "decoder.py" in files
    assert not [f for f in files if "site-packages" in f.parts or "__pycache__" in f.parts]
    assert list(files) == sorted(files, key=lambda f: f.relative_to(root).as_posix())


def test_a_single_text_file_is_cut_so_that_it_can_be_split(tmp_path, documents, prepared):
    path = tmp_path / "input.txt"
    path.write_text("\n\n".join(documents * 20))
    texts = read_all(path)
    assert "".join(texts) == path.read_text()
    assert 100 < len(texts) <= 400
    assert all(text.startswith("document") for text in texts)
    assert prepared(path, "bytes").validation_tokens > 0


@given(text=st.text(), size=st.integers(1, 30))
def test_pieces_are_the_text(text, size):
    cut = list(pieces(text, size))
    assert "".join(cut) == text
    assert all(size <= len(piece) <= 2 * size + 1 for piece in cut[:-1])


def test_a_byte_order_mark_is_not_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    assert read_all(tmp_path) == ["hello"]


# What cannot be used --------------------------------------------------------------------------


def refused(tmp_path, name, content, message, text_field="text"):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_all(path, text_field)


GZIPPED = gzip.compress(b'{"text": "x"}', mtime=0)  # the same in every process, as a test's name is


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "is empty: give"),
        ("a.txt", b"text\0more", "a.txt is a binary file"),
        ("a.txt", "naïve".encode("latin1"), r"a.txt is not UTF-8 \(byte 2\): .*iconv"),
        ("a.json", b"{}", "unknown extension '.json', did you mean '.jsonl'"),
        ("a", b"text", "unknown extension ''; known: .txt"),
        ("a.jsonl", b'{"text": "x"}\n{"text": ', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", b'\n\n["x"]\n', "line 3: a JSON object is needed, not list"),
        ("a.jsonl", b'{"txt": "x", "id": 1}', "no field 'text', did you mean 'txt'.*: txt, id;"),
        ("a.jsonl", b'{"text": 3}', "field 'text' is int, not a string"),
        ("a.jsonl", rb'{"text": "\ud800"}', "line 1: a lone surrogate"),
        ("a.jsonl", b'{"text": "\xff"}', "line 1: not JSON"),
        ("a.jsonl.gz", GZIPPED[:-9], "truncated or corrupt"),
        ("a.jsonl.gz", b'{"text": "x"}', "truncated or corrupt"),
        ("a.jsonl.zst", zstandard.compress(b'{"text": "x"}\n' * 99)[:-3], "truncated or corrupt"),
        ("a.jsonl.zst", b'{"text": "x"}', "truncated or corrupt"),
        ("a.parquet", b"PAR1 no", "not a readable parquet file"),
    ],
)
def test_bad_files_say_where_and_how_to_mend(tmp_path, name, content, message):
    refused(tmp_path, name, content, message)


def test_a_line_number_is_right_in_a_later_part(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl_module, "PART_BYTES", 64)
    refused(tmp_path, "a.jsonl", b'{"text": "x"}\n' * 40 + b"{\n", "a.jsonl, line 41: not JSON")


def test_parquet_columns_are_checked(tmp_path):
    pq.write_table(pa.table({"content": ["a"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no field 'contents', did you mean 'content'"):
        read_all(tmp_path, "contents")
    with pytest.raises(ValueError, match="field 'n' is int64, not a string"):
        read_all(tmp_path, "n")


def test_missing_sources_and_folders_without_text(tmp_path):
    with pytest.raises(ValueError, match="no such file or folder"):
        find_source(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="extensions found: no files"):
        find_source(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"extensions found: .png \(1\)"):
        find_source(tmp_path)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("a.parquet", "pyarrow.parquet", "parquet"), ("a.jsonl.zst", "zstandard", "zstd")],
)
def test_a_missing_extra_is_named(tmp_path, monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    refused(tmp_path, name, b"anything", rf"pip install 'stepladder\[{extra}\]'")
