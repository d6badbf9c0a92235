"""Import modules, each in a fork of one process, and print as JSON what the import did besides.

    python import_probe.py PRELOAD HEAVY,... MODULE ...

PRELOAD is a module that every fork already has, or empty. For each module: which of the HEAVY packages it
imported, and which effects it had (files opened for writing, sockets, processes, environment, random
states, warning filters, threads, working directory, text printed).
"""

import contextlib
import importlib
import io
import json
import os
import random
import sys
import threading
import warnings

WATCHED = {
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "os.system",
    "os.mkdir",
    "os.remove",
    "os.rename",
}


def state() -> dict[str, object]:
    """What an import must leave as it is."""
    found = {
        "environment": dict(os.environ),
        "random": random.getstate(),
        "warnings": list(warnings.filters),
        "threads": threading.active_count(),
        "folder": os.getcwd(),
    }
    if "torch" in sys.modules:
        found["torch"] = sys.modules["torch"].random.get_rng_state().tolist()
        found["numpy"] = str(sys.modules["numpy"].random.get_state())
    return found


def effects_of(name: str, heavy: set[str]) -> dict[str, list[str]]:
    """Import a module here and say what changed."""
    seen: list[str] = []

    def watch(event: str, arguments: tuple) -> None:
        writing = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if writing or event in WATCHED:
            seen.append(f"{event} {arguments}")
        if event == "socket.connect":
            raise ConnectionError("no network during an import")

    before, had, printed = state(), set(sys.modules), io.StringIO()
    sys.addaudithook(watch)
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        importlib.import_module(name)
    after = state()
    seen += [f"{key} changed" for key in before if before[key] != after[key]]
    seen += [f"printed {printed.getvalue()!r}"] if printed.getvalue() else []
    return {"heavy": sorted(heavy & (set(sys.modules) - had)), "effects": list(seen)}


def in_fork(name: str, heavy: set[str]) -> dict[str, list[str]]:
    """Run `effects_of` in a child process."""
    reader, writer = os.pipe()
    if child := os.fork():
        os.close(writer)
        with os.fdopen(reader) as file:
            answer = file.read()
        os.waitpid(child, 0)
        return json.loads(answer)
    try:
        answer = effects_of(name, heavy)
    except BaseException as error:
        answer = {"heavy": [], "effects": [f"failed {error!r}"]}
    os.write(writer, json.dumps(answer).encode())
    os._exit(0)


if __name__ == "__main__":
    preload, heavy, *names = sys.argv[1:]
    if preload:
        importlib.import_module(preload)
    print(json.dumps({name: in_fork(name, set(heavy.split(","))) for name in names}))
