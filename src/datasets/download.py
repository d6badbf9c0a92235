"""Fetch one file over HTTP: mirrors in turn, resumed after a break, checked against its size and hash."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

BLOCK = 1 << 18
TIMEOUT = 30.0
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ROOM = "free some space, or set MULTIMODAL_BOOK_CACHE to a folder with room"


class DownloadError(OSError):
    """A file could not be fetched or is not the one that was asked for; the message says what to do."""


class _Failure(Exception):
    """One address failed; ``again`` when another try there may go on from what has arrived."""

    def __init__(self, message: str, again: bool) -> None:
        super().__init__(message)
        self.again = again


def fetch(urls: Iterable[str], path: str | Path, *, size: int, digest: str, tries: int = 3) -> Path:
    """Fetch the file to ``path`` and return it; a file that is already there and intact is left alone.

    urls: addresses of the same bytes, tried in turn, each up to ``tries`` times; size: bytes; digest: such as
    ``"sha256:…"``. What has arrived waits in ``<path>.part`` and the next call goes on from there; ``path`` itself only
    ever holds the whole, checked file. The progress bar goes to stderr.

    Raises DownloadError: no network, no such file, wrong hash, disk full.
    """
    path = Path(path)
    if path.exists() and is_intact(path, size, digest):
        return path
    part = path.with_name(path.name + ".part")
    reports: list[str] = []
    for url in urls:
        if _try_mirror(url, part, size, digest, tries, reports):
            os.replace(part, path)
            return path
    raise DownloadError(f"{path.name} could not be fetched:\n" + "\n".join(f"  {line}" for line in reports) +
                        f"\nCheck the network and run the same command again (it goes on where it stopped), or put the "
                        f"file ({size:,} bytes, {digest}) at {path} yourself.")


def is_intact(path: Path, size: int, digest: str) -> bool:
    """True when the file at ``path`` has this size in bytes and this hash (``"name:hex"``)."""
    if path.stat().st_size != size:
        return False
    name, _, expected = digest.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).hexdigest() == expected.lower()


def _try_mirror(url: str, part: Path, size: int, digest: str, tries: int, reports: list[str]) -> bool:
    for _ in range(tries):
        try:
            resumed = part.exists()
            _receive(url, part, size)
            _verify(part, size, digest, resumed)
            return True
        except _Failure as failure:
            reports.append(f"{url}: {failure}")
            if not failure.again:
                break
    return False


def _verify(part: Path, size: int, digest: str, resumed: bool) -> None:
    """Remove a file with wrong content; one that was put together from two answers is worth another try."""
    if not is_intact(part, size, digest):
        part.unlink()
        raise _Failure(f"wrong content, its hash is not {digest}; what arrived was removed", again=resumed)


def _receive(url: str, part: Path, size: int) -> None:
    """Append to ``part`` until it has ``size`` bytes; _Failure when the address fails or the connection breaks."""
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        return
    _check_room(part, size - have)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            _store(answer, part, have if answer.status == 206 else 0, size)
    except DownloadError:
        raise
    except urllib.error.HTTPError as error:
        raise _Failure(f"the server answered {error.code} {error.reason}", again=False) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Failure(f"no connection ({getattr(error, 'reason', None) or repr(error)})", again=True) from error


def _check_room(part: Path, needed: int) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise DownloadError(f"{part.parent} has {free:,} bytes free, {needed:,} are needed: {ROOM}.")


def _store(answer: http.client.HTTPResponse, part: Path, start: int, size: int) -> None:
    """Write what the server sends behind the first ``start`` bytes; a full disk leaves nothing behind."""
    try:
        _copy(answer, part, start, size)
    except OSError as error:
        if error.errno not in FULL:
            raise
        part.unlink()
        message = f"the disk is full, what had arrived was removed: {ROOM}, and run the same command again"
        raise DownloadError(error.errno, message, str(part)) from error
    if (arrived := part.stat().st_size) < size:
        raise _Failure(f"the connection closed after {arrived:,} of {size:,} bytes", again=True)


def _copy(answer: http.client.HTTPResponse, part: Path, start: int, size: int) -> None:
    from tqdm import tqdm

    bar = tqdm(total=size, initial=start, unit="B", unit_scale=True, desc=part.stem)
    with bar, part.open("ab" if start else "wb") as file:
        while start <= size and (block := answer.read1(BLOCK)):
            file.write(block)
            bar.update(len(block))
            start += len(block)
