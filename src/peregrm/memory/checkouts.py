"""Loading the package of a checkout from the folder where the user has it, once for each user of it, under a name of its own.

Nothing is put on the import path, so that a module called `utils` there cannot stand in the way of another. The copies share no state:
what one user's instance keeps in a module stays with that user. Left out on purpose: fetching a checkout and installing what it needs.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from peregrm.errors import DependencyError, SettingsError

__all__ = ["find_package", "forget_module", "load_module", "modules_beside"]

_numbers = itertools.count(1)


def find_package(path: Path, places: Sequence[str], module: str, project: str) -> Path:
    """Return the folder of a package inside a checkout: the first of `places` that holds `module`.

    Raises:
        SettingsError: None of the places holds it.
    """
    for place in places:
        if (path / place / module).is_file():
            return path / place
    raise SettingsError(f"{path} is not a checkout of {project}: there is no {places[0]}/{module}")


def load_module(folder: Path, module: str, project: str, *names: str) -> ModuleType:
    """Load a module of a package anew, with the package under a name that no other has, and silence what it prints.

    Args:
        folder: The folder of the package.
        module: The module's name inside it.
        project: What the package is called in messages.
        names: What the module must have.

    Raises:
        DependencyError: It needs a package that is not installed.
        SettingsError: It lacks one of `names`.
    """
    package = f"_peregrm_checkout_{next(_numbers)}"
    try:
        _load_package(package, folder)
        loaded = importlib.import_module(f"{package}.{module}")
    except ImportError as error:
        _forget(package)
        raise DependencyError(f"the checkout of {project} in {folder} cannot be loaded: {_first(error)}") from error
    except BaseException:
        _forget(package)
        raise
    missing = [name for name in names if not hasattr(loaded, name)]
    if missing:
        _forget(package)
        raise SettingsError(f"the checkout of {project} in {folder} is of another version: it has no {missing[0]}")
    for part in modules_beside(loaded):
        part.__dict__["print"] = _silence
    return loaded


def modules_beside(module: ModuleType) -> list[ModuleType]:
    """Return all loaded modules of the package of `module`."""
    package = module.__name__.rpartition(".")[0]
    return [part for name, part in sorted(sys.modules.items()) if name.startswith(f"{package}.")]


def forget_module(module: ModuleType) -> None:
    """Take the package of a loaded module out of the list of modules."""
    _forget(module.__name__.rpartition(".")[0])


def _load_package(name: str, folder: Path) -> None:
    file = folder / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise SettingsError(f"{folder} is not a Python package")
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def _silence(*_: object, **__: object) -> None:
    """Stand in for `print`: these packages print what users say."""


def _first(error: BaseException) -> BaseException:
    """Return the import that failed first: others may have been tried in its place."""
    while isinstance(error.__context__, ImportError):
        error = error.__context__
    return error
