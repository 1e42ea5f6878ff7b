"""Importing the package costs nothing and does nothing: no heavy package, no environment, no side effect.

Each check runs in an interpreter of its own, because this one has imported everything already.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import peregrm

HEAVY = {"openai", "aiohttp", "httpx", "torch", "transformers", "scipy", "numpy", "onnxruntime", "tokenizers"}
HEAVY |= {"xllamacpp", "jinja2", "json_repair", "ray", "trl", "pandas", "pyarrow"}

MODULES = ["peregrm", *(m.name for m in pkgutil.walk_packages(peregrm.__path__, "peregrm."))]
# inspect_tasks imports Inspect, which is optional; only Inspect imports it.
MODULES = [name for name in MODULES if not name.endswith(("__main__", ".inspect_tasks"))]

WATCH = """
import json, os, sys

reads = []

class Watched(type(os.environ)):
    def __getitem__(self, key):
        frame = sys._getframe(1)
        while frame and frame.f_code.co_filename.startswith("<frozen"):
            frame = frame.f_back
        module = frame.f_globals.get("__name__", "") if frame else ""
        reads.append([str(key), module])
        return super().__getitem__(key)

    def __iter__(self):
        reads.append(["*", sys._getframe(1).f_globals.get("__name__", "")])
        return super().__iter__()

os.environ.__class__ = Watched
before = set(sys.modules)
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({"reads": reads, "modules": sorted({name.split(".")[0] for name in set(sys.modules) - before})}))
"""


def import_in_a_fresh_interpreter(*names: str) -> dict[str, list]:  # type: ignore[type-arg]
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *names], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result: dict[str, list] = json.loads(done.stdout)  # type: ignore[type-arg]
    return result


def test_the_package_itself_imports_nothing_from_outside_and_reads_no_environment() -> None:
    result = import_in_a_fresh_interpreter("peregrm")
    assert set(result["modules"]) - set(sys.stdlib_module_names) == {"peregrm"}
    assert result["reads"] == []


def test_the_command_line_starts_without_heavy_packages() -> None:
    result = import_in_a_fresh_interpreter("peregrm.cli")
    assert sorted(HEAVY.intersection(result["modules"])) == []
    assert not [read for read in result["reads"] if read[1].startswith("peregrm")]


def test_no_module_imports_a_heavy_package_or_reads_the_environment_when_imported() -> None:
    result = import_in_a_fresh_interpreter(*MODULES)
    assert sorted((HEAVY - {"numpy"}).intersection(result["modules"])) == []
    assert not [read for read in result["reads"] if read[1].startswith("peregrm")]


def test_the_watch_sees_reads_of_the_environment() -> None:
    """The checks above mean something: a module that does read the environment is caught."""
    code = WATCH.replace("for name in sys.argv[1:]:", "os.getenv('HOME'); 'HOME' in os.environ\nfor name in []:")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["reads"] == [["HOME", "__main__"]] * 2


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for_and_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    source = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
    if not source.body:
        return
    assert ast.get_docstring(source)
    if len(source.body) == 1:
        return
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, public) for public in module.__all__)
