"""Serve the built book on this machine and open it in the browser.

    python -m tools.serve [--port 8000] [--no-browser] [FOLDER]

Opening the files directly does not work everywhere: browsers refuse JavaScript modules, and with them
the diagrams, from file:// addresses.
"""

from __future__ import annotations

import argparse
import http.server
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Static files; `.mjs` as JavaScript on every system."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


def server(folder: Path, port: int = 0) -> http.server.ThreadingHTTPServer:
    """Return a server of `folder` on 127.0.0.1; port 0 takes a free one.

    Raises
    ------
    FileNotFoundError
        If `folder` holds no built book.
    OSError
        If the port is taken.
    """
    if not (folder / "index.html").is_file():
        raise FileNotFoundError(f"{folder}: no index.html there; build the book first (make book)")
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Serve `folder` from another thread; yields the address, which ends in `/`."""
    with server(folder) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}/"
        finally:
            httpd.shutdown()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.serve", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=HTML)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="only serve")
    options = parser.parse_args(arguments)
    try:
        httpd = server(options.folder, options.port)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, OverflowError) as error:
        print(f"port {options.port}: {error}; choose another one with --port", file=sys.stderr)
        return 1
    address = f"http://127.0.0.1:{httpd.server_port}/"
    print(f"{address}  (Ctrl+C stops)", flush=True)
    if not options.no_browser:
        webbrowser.open(address)
    with httpd:
        try:
            httpd.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
