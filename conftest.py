"""How pytest runs the book: notebooks through nbval, no network, this checkout's `src`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import yaml
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

from tests import offline

ROOT = Path(__file__).parent
STARTUP = "__import__('runpy').run_path({guard!r})['block']()\n"


def pytest_configure(config: pytest.Config) -> None:
    """Block the network here and in kernels; make kernels import this checkout, without the user's own start-up files."""
    offline.block()
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    profile = tempfile.TemporaryDirectory(prefix="ipython-")
    config.add_cleanup(profile.cleanup)
    startup = Path(profile.name, "profile_default", "startup")
    startup.mkdir(parents=True)
    (startup / "00-offline.py").write_text(STARTUP.format(guard=offline.__file__), "utf-8")
    os.environ["IPYTHONDIR"] = profile.name


def _execute(self: RunningKernel, source: str, allow_stdin: bool | None = None) -> str:
    # nbval itself passes store_history=False, and IPython then shows `plt.plot(x);` as if it had no semicolon.
    return self.kc.execute(source, allow_stdin=allow_stdin, stop_on_error=False)


RunningKernel.execute_cell_input = _execute


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Leave progress bars out of the comparison."""
    if isinstance(collector, IPyNbFile):
        collector.skip_compare += ("stderr",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark slow notebooks; fail for each notebook of the book that a run of the whole book did not collect."""
    cells = [item for item in items if isinstance(item, IPyNbCell)]
    for cell in cells:
        cell.output_timeout = 60  # seconds; nbval's 5 are short on a busy machine
        if cell.parent.nb.metadata.get("book", {}).get("slow"):
            cell.add_marker(pytest.mark.slow)
    if not _whole_book(config):
        return
    missing = notebooks_of_the_book() - {cell.path for cell in cells}
    contents = _TableOfContents.from_parent(session, path=ROOT / "_toc.yml")
    items += [_Uncollected.from_parent(contents, name=path.relative_to(ROOT).as_posix()) for path in sorted(missing)]


def _whole_book(config: pytest.Config) -> bool:
    asked = {Path(config.invocation_params.dir, argument).resolve() for argument in config.args}
    return bool(asked & {ROOT, ROOT / "chapters"})


def notebooks_of_the_book() -> set[Path]:
    """Notebooks that _toc.yml names."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    return {path for name in _files(contents) if (path := ROOT / f"{name.removesuffix('.ipynb')}.ipynb").exists()}


def _files(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node[key] for key in ("root", "file") if key in node]
        return own + [name for value in node.values() for name in _files(value)]
    return [name for value in node for name in _files(value)] if isinstance(node, list) else []


class _TableOfContents(pytest.File):
    def collect(self) -> list[pytest.Item]:
        return []


class _Uncollected(pytest.Item):
    def runtest(self) -> None:
        pytest.fail(f"{self.name} is in _toc.yml, but its cells were not collected", pytrace=False)
