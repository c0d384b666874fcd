"""Reading with care: torn gzip, invalid JSON and UTF-8, checksums, downloads that go wrong (a server on loopback)."""

from __future__ import annotations

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hybridlib.files import cache_folder, check_content, download, parse_json, read_bytes, read_json_lines

CONTENT = "Fünf Sätze.\n".encode() * 5000
PIN = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}


@pytest.fixture
def server(monkeypatch):
    """Answers request i as the i-th entry of `replies` says, the last entry again and again; counts the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 (the name is the standard library's)
            server = self.server
            reply = server.replies[min(server.requests, len(server.replies) - 1)]
            server.requests += 1
            if isinstance(reply, int):
                return self.send_error(reply)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(reply)  # shorter than announced: the connection is closed in the middle

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("hybridlib.files.time.sleep", lambda seconds: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.replies, server.requests = [CONTENT], 0
    server.url = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_gives_the_content(server):
    assert download(server.url, **PIN) == CONTENT
    assert server.requests == 1


@pytest.mark.parametrize("first", [CONTENT[:10_000], b"", 503], ids=["cut", "nothing", "busy"])
def test_download_tries_again(server, first):
    server.replies = [first, CONTENT]
    assert download(server.url, **PIN) == CONTENT
    assert server.requests == 2


def test_download_gives_up_when_every_connection_is_cut(server):
    server.replies = [CONTENT[:10_000]]
    with pytest.raises(ConnectionError, match=rf"{server.url}: .*after 10000 of {len(CONTENT)} bytes"):
        download(server.url, **PIN)
    assert server.requests == 3


def test_download_does_not_ask_again_for_what_is_not_there(server):
    server.replies = [404]
    with pytest.raises(ConnectionError, match=f"{server.url}: the server answered 404"):
        download(server.url, **PIN)
    assert server.requests == 1


def test_download_of_other_content_of_the_same_size(server):
    server.replies = [CONTENT.swapcase()]
    with pytest.raises(ValueError, match=f"{server.url}: its sha256 is .* not the expected {PIN['sha256']}"):
        download(server.url, **PIN)


def test_download_without_a_server(server):
    unused = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = unused.server_port
    unused.server_close()
    with pytest.raises(ConnectionError, match=f"{port}/file: .*refused"):
        download(f"http://127.0.0.1:{port}/file", **PIN)


def test_check_content_names_what_differs():
    check_content(CONTENT, **PIN, where="x.json")
    with pytest.raises(ValueError, match=f"x.json: {len(CONTENT) - 1} bytes .* {len(CONTENT)} are expected"):
        check_content(CONTENT[1:], **PIN, where="x.json")


def test_read_bytes_plain_and_gzip(tmp_path):
    (tmp_path / "a.json").write_bytes(CONTENT)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(CONTENT))
    assert read_bytes(tmp_path / "a.json") == read_bytes(tmp_path / "a.json.gz") == CONTENT


@pytest.mark.parametrize(
    "content",
    [gzip.compress(CONTENT)[:-20], gzip.compress(CONTENT)[:-8] + bytes(8), CONTENT],
    ids=["torn", "wrong CRC", "no gzip"],
)
def test_torn_gzip(tmp_path, content):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.jsonl.gz: torn or no gzip file"):
        read_bytes(path)


def test_torn_gzip_while_reading_lines_names_the_last_line(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b'{"a": 1}\n' * 10)
    path.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="a.jsonl.gz, after line 1?0: torn"):
        list(read_json_lines(path))


def test_read_bytes_of_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.json: no such file"):
        read_bytes(tmp_path / "none.json")


def test_parse_json_names_line_and_column():
    assert parse_json('["é"]'.encode(), "x.json") == ["é"]
    with pytest.raises(ValueError, match=r"x.json, line 3, column 1: invalid JSON"):
        parse_json(b'{"a": 1,\n"b": 2,\n', "x.json")
    with pytest.raises(ValueError, match=r"x.json, line 2: not UTF-8 \(byte 0xe9\)"):
        parse_json('{"a": 1,\n"b": "é"}'.encode("latin-1"), "x.json")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + '{"a": "é"}\n[1]'.encode())
    assert list(read_json_lines(tmp_path / "a.jsonl")) == [(1, {"a": "é"}), (2, [1])]
    with pytest.raises(ValueError, match=r"x.json, line 2: not UTF-8 \(byte 0xe9\)"):
        parse_json(b"\xef\xbb\xbf[\n\xe9]", "x.json")


def test_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    # A line separator inside a text is no end of line in JSON Lines.
    path.write_text('{"a": "x\u2028y"}\n\n[1]\r\n{"b": 2}', encoding="utf-8")
    assert list(read_json_lines(path)) == [(1, {"a": "x\u2028y"}), (3, [1]), (4, {"b": 2})]


@pytest.mark.parametrize(
    ("third", "message"),
    [
        (b'{"a": }', "line 3, column 7: invalid JSON"),
        (b'{"a": 1', "line 3, column 8: invalid JSON"),
        (b'{"a": "\xff"}', r"line 3: not UTF-8 \(byte 0xff\)"),
    ],
)
def test_json_lines_name_the_line(tmp_path, third, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n' + third + b'\n{"a": 4}\n')
    lines = read_json_lines(path)
    assert [next(lines), next(lines)] == [(1, {"a": 1}), (2, {"a": 2})]
    with pytest.raises(ValueError, match=message):
        next(lines)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("HYBRIDLIB_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "hybridlib"
