"""fetch against a server on this machine that breaks off, lies, refuses and resumes."""

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from src.datasets import download
from src.datasets.download import DownloadError, fetch

CONTENT = bytes(number * 7919 % 251 for number in range(300_000))
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
ROOT = Path(__file__).parents[2]

FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from src.datasets.download import fetch
try:
    fetch([sys.argv[1]], sys.argv[2], size=300_000, digest=sys.argv[3])
except OSError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Handler(BaseHTTPRequestHandler):
    """Answers by path: /whole, /cut (first answer breaks off), /no-range, /wrong, /short, /long; else 404."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        kind = self.path.strip("/")
        if kind not in ("whole", "cut", "no-range", "wrong", "short", "long"):
            return self.send_error(404)
        content = {"wrong": CONTENT[::-1], "short": CONTENT[:-9], "long": CONTENT + b"more"}.get(kind, CONTENT)
        ranged = asked and kind != "no-range"
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if ranged else 0
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start : 120_000 if kind == "cut" and not asked else None])
        self.close_connection = True

    def log_message(self, *_arguments) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server():
    """A running server; ``requests`` holds (path, Range) of each request."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.requests = []
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.bin"


def get(target: Path, *urls: str, size: int = len(CONTENT), digest: str = DIGEST) -> Path:
    return fetch(urls, target, size=size, digest=digest)


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_whole_file_with_a_progress_bar_on_stderr(server, target, capsys):
    assert get(target, server.url + "/whole") == target and target.read_bytes() == CONTENT
    assert names(target) == ["file.bin"]
    printed = capsys.readouterr()
    assert printed.out == "" and "file.bin: 100%" in printed.err


def test_what_is_there_is_not_fetched_again(server, target):
    get(target, server.url + "/whole")
    get(target, server.url + "/whole")
    assert len(server.requests) == 1


def test_a_damaged_file_is_fetched_again(server, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT[::-1])
    assert get(target, server.url + "/whole").read_bytes() == CONTENT


def test_goes_on_after_the_connection_broke(server, target):
    assert get(target, server.url + "/cut").read_bytes() == CONTENT
    assert server.requests == [("/cut", None), ("/cut", "bytes=120000-")]


def test_next_call_goes_on_where_the_last_stopped(server, target):
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(CONTENT[:200_000])
    assert get(target, server.url + "/whole").read_bytes() == CONTENT
    assert server.requests == [("/whole", "bytes=200000-")] and names(target) == ["file.bin"]


def test_starts_anew_when_the_server_cannot_resume(server, target):
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(CONTENT[:200_000])
    assert get(target, server.url + "/no-range").read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("left", [b"\0" * 200_000, b"\0" * 300_000, b"\0" * 300_001])
def test_a_wrong_beginning_costs_one_more_try(server, target, left):
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(left)
    assert get(target, server.url + "/whole").read_bytes() == CONTENT


def test_mirrors_are_tried_in_turn(server, target):
    urls = [f"{server.url}/{kind}" for kind in ("gone", "wrong", "long", "whole", "cut")]
    assert get(target, *urls).read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/gone", "/wrong", "/long", "/whole"]


@pytest.mark.parametrize("kind", ["wrong", "long"])
def test_wrong_hash_leaves_nothing(server, target, kind):
    with pytest.raises(DownloadError, match=rf"/{kind}: wrong content, its hash is not {DIGEST}; what arrived was rem"):
        get(target, f"{server.url}/{kind}")
    assert names(target) == []


def test_missing_on_the_server(server, target):
    with pytest.raises(DownloadError, match=r"(?s)the server answered 404.*Check the network.*at .*file.bin yourself"):
        get(target, server.url + "/gone")
    assert len(server.requests) == 1 and names(target) == []


def test_a_server_that_never_finishes(server, target):
    with pytest.raises(DownloadError, match="the connection closed after 299,991 of 300,000 bytes"):
        get(target, server.url + "/short")
    assert names(target) == ["file.bin.part"]


def test_no_network(target):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        with pytest.raises(DownloadError, match=r"(?s)no connection \(.*refused.*Check the network and run the same"):
            get(target, url)
    assert names(target) == []


def test_disk_is_full_while_writing(server, target):
    command = [sys.executable, "-c", FULL_DISK, server.url + "/whole", str(target), DIGEST]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 1 and "DownloadError: " in done.stderr, done.stderr
    assert "the disk is full, what had arrived was removed: free some space" in done.stderr
    assert names(target) == []


def test_too_little_room_is_said_before_the_download(server, target, monkeypatch):
    usage = type("Usage", (), {"free": 299_999})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="299,999 bytes free, 300,000 are needed: free some space"):
        get(target, server.url + "/whole")
    assert server.requests == []
