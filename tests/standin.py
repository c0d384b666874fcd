"""A stand-in for the Hugging Face hub on loopback: the endpoints that huggingface_hub and datasets use, and its faults.

Headers and error codes are those that huggingface_hub reads (its `file_download.py` and `utils/_http.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

PATH = re.compile(r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)(?P<rest>/.*)?")


@dataclass
class Repository:
    """Commits of a repository, newest last; `small` are files that git holds itself, the rest is LFS."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def at(self, revision: str) -> str | None:
        """The commit of a revision; "main" and refs are the newest."""
        if revision in self.commits:
            return revision
        return self.head if revision == "main" or revision.startswith("refs/") else None


def is_lfs(name: str) -> bool:
    """What the hub keeps in LFS: here everything but configuration and text."""
    return not name.endswith((".json", ".md", ".txt"))


def etag(name: str, content: bytes) -> str:
    """SHA-256 of a file in LFS, git's blob id of another."""
    if is_lfs(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class StandIn:
    """The server. `requests` lists (method, path) of everything asked."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults: dict[str, str] = {}  # end of a path -> kind of fault
        self.requests: list[tuple[str, str]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True

    def __enter__(self) -> StandIn:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, kind: str, repo: str, files: dict[str, bytes], commit: str | None = None) -> str:
        """Add a commit with these files, "dataset" or "model"; gives its id."""
        content = json.dumps({name: etag(name, data) for name, data in files.items()}, sort_keys=True)
        commit = commit or hashlib.sha1(content.encode()).hexdigest()
        self.repositories.setdefault((kind, repo), Repository()).commits[commit] = files
        return commit

    def fail(self, ending: str, kind: str) -> None:
        """Answer paths that end so with a fault: gated, 429 or 500; or GETs with wrong content of the right length."""
        self.faults[ending] = kind

    def fault(self, path: str) -> str | None:
        """The fault of a path."""
        return next((kind for ending, kind in self.faults.items() if path.endswith(ending)), None)


class _Handler(BaseHTTPRequestHandler):
    hub: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        resolve = PATH.fullmatch(unquote(urlsplit(self.path).path.replace("%2F", "\0")).replace("\0", "%2F"))
        api = API.fullmatch(path)
        if resolve:
            kind = "dataset" if resolve["kind"] else "model"
            self._file(kind, resolve["repo"], unquote(resolve["revision"]), resolve["file"])
        elif api:
            self._api(api["kind"].removesuffix("s"), api["repo"], api["rest"] or "", body)
        else:
            self._error(404, "RepoNotFound", "no such page")

    do_HEAD = do_POST = do_GET  # noqa: N815 (the names are the standard library's)

    # ---- files

    def _file(self, kind: str, repo: str, revision: str, name: str) -> None:
        repository = self.hub.repositories.get((kind, repo))
        if repository is None:
            return self._error(401, "RepoNotFound", "Repository not found")
        commit = repository.at(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        fault = self.hub.fault(name)
        if name not in repository.commits[commit]:
            return self._error(404, "EntryNotFound", "Entry not found", commit)
        if fault == "gated":
            return self._error(403, "GatedRepo", f"Access to {kind} {repo} is restricted")
        if fault in ("429", "500"):
            return self._error(int(fault), "", "the stand-in fails")
        self._content(name, repository.commits[commit][name], commit, fault)

    def _content(self, name: str, content: bytes, commit: str, fault: str | None) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{etag(name, content)}"')
        if is_lfs(name):
            self.send_header("X-Linked-Etag", f'"{etag(name, content)}"')
            self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(bytes(byte ^ 1 for byte in content) if fault == "wrong" else content)

    # ---- what there is

    def _api(self, kind: str, repo: str, rest: str, body: dict) -> None:
        repository = self.hub.repositories.get((kind, repo))
        if repository is None:
            return self._error(401, "RepoNotFound", "Repository not found")
        verb, _, revision = rest.strip("/").partition("/")
        revision, _, folder = revision.partition("/") if verb in ("tree", "paths-info") else (revision, "", "")
        commit = repository.at(revision or "main")
        if commit is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repository.commits[commit]
        if verb in ("", "revision"):
            about = {"_id": "0", "id": repo, "sha": commit, "private": False, "tags": []}
            return self._json(about | {"siblings": [{"rfilename": name} for name in files]})
        if verb == "tree":
            return self._json(self._tree(files, folder))
        if verb == "paths-info":
            return self._json([self._entry(name, files[name]) for name in body["paths"] if name in files])
        self._error(404, "EntryNotFound", "the stand-in has no such endpoint")

    def _tree(self, files: dict[str, bytes], folder: str) -> list[dict]:
        recursive = "recursive=true" in self.path.lower()
        names = [name for name in files if name.startswith(f"{folder}/" if folder else "")]
        entries, folders = [], set()
        for name in names:
            inner = name[len(folder) + 1 if folder else 0 :]
            if "/" in inner and not recursive:
                folders.add(name[: len(name) - len(inner)] + inner.partition("/")[0])
            else:
                entries.append(self._entry(name, files[name]))
        return entries + [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]

    def _entry(self, name: str, content: bytes) -> dict:
        entry = {"type": "file", "path": name, "size": len(content), "oid": etag(name, content)[:40]}
        if is_lfs(name):
            entry["lfs"] = {"oid": etag(name, content), "size": len(content), "pointerSize": 130}
        return entry

    def _json(self, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status: int, code: str, message: str, commit: str = "") -> None:
        self.send_response(status)
        for name, value in (("X-Error-Code", code), ("X-Error-Message", message), ("X-Repo-Commit", commit)):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
