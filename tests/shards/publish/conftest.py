"""A Hugging Face hub on loopback: the calls that publishing makes, LFS in parts, and what may go wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import HfApi

from shards.beside.resolved import read_resolved
from shards.publish.hub import send
from shards.publish.staging import stage

TOKEN = "hf_thisisasecret"
PART_BYTES = 8192


@dataclass
class Repo:
    commits: list[dict[str, dict[str, Any]]] = field(default_factory=lambda: [{}])
    branches: dict[str, int] = field(default_factory=lambda: {"main": 0})
    tags: dict[str, int] = field(default_factory=dict)
    private: bool = False

    def at(self, revision: str) -> int:
        places = {**{sha(n): n for n in range(len(self.commits))}, **self.tags, **self.branches}
        return places[unquote(revision)]


@dataclass
class Hub:
    """What is stored, what was asked, and what is to go wrong."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    log: list[tuple[str, str, int]] = field(default_factory=list)
    """(method, path, bytes of the body)."""
    refuse: Any = None
    """(method, path) → a status to answer instead, or None."""

    token: str = TOKEN
    part_bytes: int = PART_BYTES

    def sent(self) -> Counter[str]:
        """How often each large file was sent."""
        return Counter(path.split("/")[2] for method, path, _ in self.log if method == "PUT")

    def holds(self, staged, branch="main", without=()):
        """Whether a branch of me/mine has exactly the staged files, byte for byte."""
        repo = self.repos["me/mine"]
        tree = repo.commits[repo.branches[branch]]
        stored = {
            path: self.objects[entry.get("lfs", entry)["oid"]] for path, entry in tree.items() if path not in without
        }
        return stored == {path: (staged.folder / path).read_bytes() for path in staged.files}

    def posted(self, ending: str) -> int:
        return sum(method == "POST" and f"/{ending}" in path for method, path, _ in self.log)


def sha(number: int) -> str:
    return f"{number:040x}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args):
        pass

    def answer(self, status, document=None, **headers):
        content = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def handle_one(self):
        content, path = self.body(), urlsplit(self.path).path
        self.hub.log.append((self.command, path, len(content)))
        status = self.hub.refuse and self.hub.refuse(self.command, path)
        if status:
            return self.answer(status, {"error": "out of order"})
        if path.startswith("/lfs/"):
            return self.store(path, content)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        for pattern, method, call in CALLS:
            if self.command == method and (match := re.fullmatch(pattern, path)):
                return call(self, *match.groups(), content)
        return self.answer(404, {"error": f"no such call: {self.command} {path}"})

    do_GET = do_POST = do_PUT = handle_one

    def store(self, path, content):
        oid, number = path.split("/")[2], path.split("/")[3]
        if number == "done":
            self.hub.objects[oid] = b"".join(self.hub.parts[oid][n] for n in sorted(self.hub.parts[oid]))
        elif number == "verify":
            right = hashlib.sha256(self.hub.objects[oid]).hexdigest() == json.loads(content)["oid"]
            return self.answer(200 if right else 400, {})
        elif number == "0":
            self.hub.objects[oid] = content
        else:
            self.hub.parts.setdefault(oid, {})[int(number)] = content
        return self.answer(200, {}, ETag=hashlib.md5(content).hexdigest())

    def whoami(self, content):
        self.answer(200, {"type": "user", "name": "me"})

    def create(self, content):
        asked = json.loads(content)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "me":
            return self.answer(403, {"error": "You don't have the rights to create a dataset under this namespace"})
        url = {"url": f"{self.hub.url}/datasets/{name}"}
        if name in self.hub.repos:
            return self.answer(409, {"error": "You already created this dataset repo", **url})
        self.hub.repos[name] = Repo(private=asked.get("visibility") == "private")
        return self.answer(200, url)

    def info(self, name, revision, content):
        repo = self.hub.repos.get(name)
        if repo is None:
            return self.answer(404, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})
        at = repo.at(revision or "main")
        return self.answer(200, {"id": name, "sha": sha(at), "private": repo.private, "tags": [], "siblings": []})

    def tree(self, name, revision, content):
        repo = self.hub.repos[name]
        self.answer(200, [{"type": "file", "path": p, **entry} for p, entry in repo.commits[repo.at(revision)].items()])

    def refs(self, name, content):
        repo = self.hub.repos[name]
        tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": sha(at)} for t, at in repo.tags.items()]
        self.answer(200, {"branches": [], "converts": [], "tags": tags})

    def validate_yaml(self, content):
        self.answer(200, {"errors": [], "warnings": []})

    def preupload(self, name, revision, content):
        repo = self.hub.repos[name]
        there = repo.commits[repo.at(revision)]
        files = [
            {
                "path": f["path"],
                "uploadMode": "lfs" if f["path"].endswith((".tar", ".parquet")) else "regular",
                "shouldIgnore": False,
                "oid": there.get(f["path"], {}).get("lfs", {}).get("oid") or there.get(f["path"], {}).get("oid"),
            }
            for f in json.loads(content)["files"]
        ]
        self.answer(200, {"files": files})

    def batch(self, name, content):
        objects = []
        for wanted in json.loads(content)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            entry: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in self.hub.objects:
                url = f"{self.hub.url}/lfs/{oid}"
                upload: dict[str, Any] = {"href": f"{url}/0"}
                if size > PART_BYTES:
                    numbers = range(1, -(-size // PART_BYTES) + 1)
                    header = {"chunk_size": str(PART_BYTES), **{f"{n:05d}": f"{url}/{n}" for n in numbers}}
                    upload = {"href": f"{url}/done", "header": header}
                entry["actions"] = {"upload": upload, "verify": {"href": f"{url}/verify"}}
            objects.append(entry)
        self.answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, name, revision, content):
        repo, branch = self.hub.repos[name], unquote(revision)
        files = dict(repo.commits[repo.branches[branch]])
        for line in map(json.loads, content.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                data = base64.b64decode(value["content"])
                git = hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()
                files[value["path"]] = {"oid": git, "size": len(data)}
                self.hub.objects[git] = data
            elif line["key"] == "lfsFile":
                if len(self.hub.objects.get(value["oid"], b"")) != value["size"]:
                    return self.answer(400, {"error": "the object was never sent"})
                lfs = {"oid": value["oid"], "size": value["size"], "pointerSize": 130}
                files[value["path"]] = {"oid": "0" * 40, "size": value["size"], "lfs": lfs}
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repo.commits.append(files)
        repo.branches[branch] = len(repo.commits) - 1
        at = sha(repo.branches[branch])
        return self.answer(200, {"commitUrl": f"{self.hub.url}/datasets/{name}/commit/{at}", "commitOid": at})

    def tag(self, name, revision, content):
        repo, wanted = self.hub.repos[name], json.loads(content)["tag"]
        if wanted in repo.tags:
            return self.answer(409, {"error": "Tag reference exists already"})
        repo.tags[wanted] = repo.at(revision)
        return self.answer(200, {})

    def branch(self, name, revision, content):
        repo = self.hub.repos[name]
        if revision in repo.branches:
            return self.answer(409, {"error": "Reference already exists"})
        repo.branches[revision] = repo.branches["main"]
        return self.answer(200, {})


NAME = r"/api/datasets/([\w.-]+/[\w.-]+)"
CALLS = [
    ("/api/whoami-v2", "GET", Handler.whoami),
    ("/api/repos/create", "POST", Handler.create),
    ("/api/validate-yaml", "POST", Handler.validate_yaml),
    (NAME + "(?:/revision/([^/]+))?", "GET", Handler.info),
    (NAME + "/tree/([^/]+)", "GET", Handler.tree),
    (NAME + "/refs", "GET", Handler.refs),
    (NAME + "/preupload/([^/]+)", "POST", Handler.preupload),
    (NAME + "/commit/([^/]+)", "POST", Handler.commit),
    (NAME + "/tag/([^/]+)", "POST", Handler.tag),
    (NAME + "/branch/([^/]+)", "POST", Handler.branch),
    (r"/datasets/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", "POST", Handler.batch),
]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfThisHub", (Handler,), {"hub": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # its servers are not spoken here
    huggingface_hub.utils.disable_progress_bars()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    yield state
    server.shutdown()
    server.server_close()
    huggingface_hub.utils.enable_progress_bars()
    huggingface_hub.close_session()


@pytest.fixture
def staged(finished_dataset, tmp_path):
    return stage(read_resolved(finished_dataset), finished_dataset, "me/mine", tmp_path / "staged")


@pytest.fixture
def publish(hub, staged):
    def run(repo="me/mine", tag="v1.0.0", token=TOKEN, files=None, **options):
        api = HfApi(endpoint=hub.url, token=token)
        said = []
        return send(staged.folder, files or staged.files, repo, tag, api, say=said.append, **options)

    return run
