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


@pytest.mark.parametrize("first", [[], [CONTENT[:10_000]], [b""], [503]], ids=["whole", "cut", "nothing", "busy"])
def test_download_tries_until_the_content_is_whole(server, first):
    server.replies = [*first, CONTENT]
    assert download(server.url, **PIN) == CONTENT
    assert server.requests == len(server.replies)


@pytest.mark.parametrize(
    ("reply", "error", "message", "requests"),
    [
        (CONTENT[:10_000], ConnectionError, f"after 10000 of {len(CONTENT)} bytes", 3),
        (404, ConnectionError, "404", 1),
        (CONTENT.swapcase(), ValueError, f"its sha256 is .* not the expected {PIN['sha256']}", 1),
    ],
    ids=["always cut", "not there", "other content"],
)
def test_download_says_what_it_could_not_get(server, reply, error, message, requests):
    server.replies = [reply]
    with pytest.raises(error, match=f"{server.url}: .*{message}"):
        download(server.url, **PIN)
    assert server.requests == requests


def test_check_content_names_what_differs():
    check_content(CONTENT, **PIN, where="x.json")
    with pytest.raises(ValueError, match=f"x.json: {len(CONTENT) - 1} bytes .* {len(CONTENT)} are expected.*remove it"):
        check_content(CONTENT[1:], **PIN, where="x.json")


def test_read_bytes_plain_and_gzip(tmp_path):
    (tmp_path / "a.json").write_bytes(CONTENT)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(CONTENT))
    assert read_bytes(tmp_path / "a.json") == read_bytes(tmp_path / "a.json.gz") == CONTENT
    with pytest.raises(FileNotFoundError, match="none.json"):
        read_bytes(tmp_path / "none.json")


@pytest.mark.parametrize("change", [lambda whole: whole[:-20], lambda whole: whole[:-8] + bytes(8), gzip.decompress])
def test_torn_gzip(tmp_path, change):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(change(gzip.compress(b'{"a": 1}\n' * 10)))
    for read in (read_bytes, lambda path: list(read_json_lines(path))):
        with pytest.raises(ValueError, match=r"a.jsonl.gz(, after line \d+)?: torn or no gzip file"):
            read(path)


def test_parse_json_names_line_and_column():
    assert parse_json('["é"]'.encode(), "x.json") == ["é"]
    with pytest.raises(ValueError, match=r"x.json, line 3, column 1: invalid JSON"):
        parse_json(b'{"a": 1,\n"b": 2,\n', "x.json")
    assert parse_json('\ufeff["é"]'.encode(), "x.json") == ["é"], "a byte order mark is no part of the text"
    with pytest.raises(ValueError, match=r"x.json, line 2: not UTF-8 \(byte 0xe9\)"):
        parse_json('{"a": 1,\n"b": "é"}'.encode("latin-1"), "x.json")


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
