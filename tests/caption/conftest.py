"""Portraits: drawn ones, whose colours are known, and real ones, cut from the shared photos when these are there.

And models to ask about them: a chat server on loopback, a Qwen2.5-VL of random weights.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from crawl.decode import decode_picture, pixels
from crawl.photo import Photo, photo_key
from filter.config import FilterConfig
from filter.cut import cut
from filter.decide import Verified
from filter.models import load_detector
from filter.portrait import Portrait
from filter.resolution import measure
from filter.scan import Scanned

SIZE_PX = 256
LANDMARKS = ((108.0, 90.0), (148.0, 90.0), (128.0, 112.0), (112.0, 132.0), (144.0, 132.0))
SKIN, HAIR = (205, 150, 125), (60, 45, 35)
Colour = tuple[int, int, int]


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def portrait_of() -> Callable[..., Portrait]:
    """(picture, landmarks, faces in the photo, number) → a Portrait of it."""

    def make(
        picture: Image.Image | bytes, landmarks=LANDMARKS, faces: int = 1, number: int = 0, identity: str = "1" * 16
    ) -> Portrait:
        key = photo_key(identity, str(number), "0" * 64)
        jpeg = picture if isinstance(picture, bytes) else _jpeg(picture)
        return Portrait(
            key=key,
            identity=identity,
            photo=Photo(key, identity, f"{number}.jpg", "0" * 64, len(jpeg)),
            height_px=SIZE_PX,
            width_px=SIZE_PX,
            crop_xyxy_px=(0, 0, SIZE_PX, SIZE_PX),
            size_px=SIZE_PX,
            face_xyxy_px=(84.0, 50.0, 172.0, 160.0),
            landmarks_px=landmarks,
            face_score=0.9,
            faces_in_photo=faces,
            identity_score=0.7,
            identity_rule="cluster",
            sharpness=100.0,
            colourfulness=0.3,
            keypoints=None,
            keypoint_scores=None,
            keypoints_reason="no pose model is configured",
            models=("drawn",),
            image_jpeg=jpeg,
            face_jpeg=b"",
        )

    return make


@pytest.fixture(scope="session")
def draw() -> Callable[..., Image.Image]:
    """(colour of the background, colour of the clothes) → a head with hair and shoulders, fitting `LANDMARKS`."""

    def make(background: Colour = (128, 128, 128), clothes: Colour = (40, 40, 160)) -> Image.Image:
        picture = Image.new("RGB", (SIZE_PX, SIZE_PX), background)
        pen = ImageDraw.Draw(picture)
        pen.rectangle((48, 172, 208, SIZE_PX), fill=clothes)
        pen.rectangle((110, 140, 146, 180), fill=SKIN)
        pen.ellipse((78, 26, 178, 170), fill=HAIR)
        pen.ellipse((86, 50, 170, 164), fill=SKIN)
        return picture

    return make


@pytest.fixture(scope="session")
def real_portraits(shared: Path) -> list[Portrait]:
    """Every sixth of the shared photos, cut as the filter cuts them."""
    config = FilterConfig(models="open", min_side_px=200, min_face_px=48, size_px=256)
    with pytest.MonkeyPatch.context() as patch, open(shared / "photos" / "identities.csv", newline="") as table:
        patch.setenv("PERSONAE_CACHE", str(shared / "models"))
        detect = load_detector(config).detect
        files = [row["file"] for row in csv.DictReader(table)][::6]
        cuts = [_cut(shared / "photos" / "identities" / file, detect, config) for file in files]
    return [portrait for portrait in cuts if portrait is not None]


def _cut(path: Path, detect, config: FilterConfig) -> Portrait | None:
    content = path.read_bytes()
    picture = decode_picture(content)
    assert isinstance(picture, Image.Image), (path, picture)
    faces = tuple(detect(pixels(picture), config.min_face_px))
    if not faces:
        return None
    sha256 = hashlib.sha256(content).hexdigest()
    photo = Photo(photo_key("1" * 16, path.name, sha256), "1" * 16, path.name, sha256, len(content))
    return cut(picture, Scanned(photo, measure(picture), faces, len(faces)), Verified(0, 0.9, ("cluster",)), config)


GOOD = {
    "general": "A bright photo of a woman in a park.",
    "background": "Green trees behind a lawn.",
    "body": "Slim, standing upright in a red coat.",
    "class_word": "woman",
}


class ChatServer:
    """An OpenAI-compatible server on loopback that does what `behave` says and writes down what it was asked.

    `behave(n, request)` → an answer's text, or (status, headers, body), or "drop", or a number of seconds to be slow.
    """

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        self.at_once = self.most_at_once = 0
        self.drip_s = 0.0
        """Pause between the bytes of a body."""
        self.behave = lambda n, request: json.dumps(GOOD)
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.requests.append({**body, "path": self.path})
                    server.headers.append(dict(self.headers))
                    number = len(server.requests)
                    server.at_once += 1
                    server.most_at_once = max(server.most_at_once, server.at_once)
                what = server.behave(number, body)
                if isinstance(what, int | float):
                    time.sleep(what)
                    what = json.dumps(GOOD)
                with server._lock:
                    server.at_once -= 1
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.answer(what)

            def answer(self, what):
                if what == "drop":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers, content = what if isinstance(what, tuple) else (200, {}, completion(what))
                content = content if isinstance(content, bytes) else content.encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                pieces = [content[n : n + 1] for n in range(len(content))] if server.drip_s else [content]
                for piece in pieces:
                    self.wfile.write(piece)
                    time.sleep(server.drip_s)

            def log_message(self, *arguments):
                pass

        return Handler


@pytest.fixture(scope="session", name="completion")
def completion_fixture() -> Callable[..., str]:
    """(text, finish_reason, further fields of the message) → the API's JSON."""
    return completion


def completion(text, finish_reason="stop", **message) -> str:
    """A chat completion, as the API puts it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 300, "completion_tokens": 40}})


@pytest.fixture
def chat_server():
    server = ChatServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def good_answer() -> dict[str, str]:
    """A valid answer, as the model's JSON holds it."""
    return dict(GOOD)


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory) -> Path:
    """A folder that holds a Qwen2.5-VL of random weights, with its tokenizer and processor."""
    pytest.importorskip("transformers")
    from benchmarks.random_qwen import save_random_qwen

    return save_random_qwen(tmp_path_factory.mktemp("models") / "tiny-qwen")
