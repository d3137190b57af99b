"""A small Hub on this machine: the endpoints that huggingface_hub calls for an upload, and what it was sent."""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """Takes uploads into memory, over the Hub's API and the protocols of LFS and Xet.

    Attributes:
        calls: method and path of every request that belongs to an upload, in order.
        tokens: what each of them gave as its authorization, but for those that put an object.
        files: path in the repository → its content, as committed.
        private: whether the repository was made a private one; None as long as there is none.
        storage: address that Xet is to store chunks at; None for this server's own.
        answers: part of a path → status and sentence that such a request is answered with instead.
    """

    daemon_threads = True

    def __init__(self, existing=False):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls, self.tokens, self.files, self.answers = [], [], {}, {}
        self.objects = {}  # SHA-256 → content, uploaded but not yet committed
        self.chunks = b""  # what Xet has stored, of one file at a time
        self.private = False if existing else None
        self.storage = None

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _take(self):
        hub, path = self.server, self.path.partition("?")[0]
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = f"{self.command} {path}"
        for pattern, work in ROUTES:
            if not (found := re.fullmatch(pattern, call)):
                continue
            hub.calls.append(call)
            if not path.startswith("/objects/"):  # what a signed address needs no token for
                hub.tokens.append(self.headers.get("Authorization"))
            refused = next((answer for part, answer in hub.answers.items() if part in path), None)
            if refused is not None:
                return self._answer({"error": refused[1]}, refused[0])
            return self._answer(*work(hub, content, *found.groups()))
        return self._answer({"error": f"no such endpoint: {path}"}, 404)  # of what the client asks beside an upload

    do_GET = do_POST = do_PUT = _take

    def _answer(self, values, status=200):
        content = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status >= 400:
            self.send_header("X-Error-Message", values["error"])
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def _create(hub, content):
    asked = json.loads(content)
    name = f"{asked['organization']}/{asked['name']}"
    if hub.private is not None:
        return {"error": "You already created this model repo", "url": f"{hub.address}/{name}"}, 409
    hub.private = asked["visibility"] == "private"
    return {"url": f"{hub.address}/{name}"}, 200


def _modes(_, content, __):
    """Tensors by LFS, text within the commit, as the Hub has it for files of these names."""
    files = json.loads(content)["files"]
    large = (".safetensors", ".onnx", ".pt2")
    modes = [(file["path"], "lfs" if file["path"].endswith(large) else "regular") for file in files]
    return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]}, 200


def _batch(hub, content, _):
    found = []
    for item in json.loads(content)["objects"]:
        href = {"href": f"{hub.address}/objects/{item['oid']}"}
        found.append(item if item["oid"] in hub.objects else item | {"actions": {"upload": href}})
    return {"transfer": "basic", "objects": found}, 200


def _object(hub, content, oid):
    if hashlib.sha256(content).hexdigest() != oid:
        return {"error": "not the object that was announced"}, 400
    hub.objects[oid] = content
    return {}, 200


def _storage(hub, _, __):
    """Where Xet stores chunks; `Hub.chunks` becomes the object that the next commit names."""
    place = hub.storage or f"{hub.address}/storage"
    return {"casUrl": place, "exp": int(time.time()) + 3600, "accessToken": "of the storage"}, 200


def _chunks(hub, content, _):
    """Chunks, each behind a version, its size as stored, how it is compressed (0: it is not), and its size."""
    place = 0
    while place < len(content):
        head, place = content[place : place + 8], place + 8
        size = int.from_bytes(head[1:4], "little")
        if head[0] or head[4] or int.from_bytes(head[5:8], "little") != size:
            return {"error": "HF_XET_XORB_COMPRESSION_POLICY=none sends chunks that are read here"}, 400
        hub.chunks += content[place : place + size]
        place += size
    return {"was_inserted": True}, 200


def _file(hub, _):
    hub.objects[hashlib.sha256(hub.chunks).hexdigest()] = hub.chunks
    return {"result": 1}, 200


def _commit(hub, content, name, _):
    for line in content.splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "file":
            hub.files[value["path"]] = base64.b64decode(value["content"])
        if entry["key"] == "lfsFile":
            hub.files[value["path"]] = hub.objects[value["oid"]]
    oid = hashlib.sha1(content).hexdigest()
    return {"commitUrl": f"{hub.address}/{name}/commit/{oid}", "commitOid": oid, "success": True}, 200


ROUTES = [
    ("POST /api/repos/create", _create),
    ("POST /api/validate-yaml", lambda _, __: ({"warnings": [], "errors": []}, 200)),
    ("POST /api/models/(.+)/preupload/main", _modes),
    (r"POST /(.+)\.git/info/lfs/objects/batch", _batch),
    ("PUT /objects/([0-9a-f]{64})", _object),
    ("POST /api/models/(.+)/commit/(.+)", _commit),
    ("GET /api/models/(.+)/xet-write-token/main", _storage),
    ("POST /storage/v1/xorbs/default/(.+)", _chunks),
    ("POST /storage/v1/shards", _file),
]


@contextmanager
def local_hub(existing: bool = False) -> Iterator[Hub]:
    """A Hub that answers while the block runs.

    Args:
        existing: whether the repository is there already.
    """
    hub = Hub(existing)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
