"""Training by a file: what to train, on what, and how, in TOML; `gradflow train RECIPE.toml`.

model = "gradflow.examples.lenet:LeNet"     # a class or function in an importable module, or in a .py file beside this one
[model_arguments]
loss = "CrossEntropyLoss"                   # of gradflow.nn

[data]
name = "digits"                             # digits, MNIST, FashionMNIST, CIFAR10, ...: a name of gradflow.data
folder = "~/data"                           # where it asks for one
batch_size = 32

[optimizer]
name = "Adam"                               # of gradflow.optim; the rest are its arguments
lr = 0.003

[schedule]
name = "CosineAnnealingLR"                  # of gradflow.optim.lr_scheduler, stepped after every epoch
T_max = 30

[train]
epochs = 30                                 # and other arguments of train.fit: clip_norm, graph, amp
seed = 0
out = "out/recipe"                          # checkpoint and model go there
csv = "out/recipe/log.csv"
tensorboard = "out/recipe/board"
"""

from __future__ import annotations

import inspect
import sys
import tomllib
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from . import backend, data, io, logs, nn, optim
from . import train as training

TABLES = {"model", "loss", "model_arguments", "data", "optimizer", "schedule", "train"}
OWN = {"epochs", "seed", "out", "csv", "tensorboard", "resume"}  # of [train]; the rest goes to train.fit


class RecipeError(Exception):
    """A recipe that says something that is not there: one sentence."""


def read(path: Path) -> dict[str, Any]:
    """A recipe's tables. RecipeError if it is no TOML or has tables that mean nothing."""
    try:
        found = tomllib.loads(path.read_text())
    except OSError as e:
        raise RecipeError(f"{path}: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise RecipeError(f"{path}: {e}") from e
    unknown = found.keys() - TABLES
    if unknown:
        raise RecipeError(f"{path}: wanted {', '.join(sorted(TABLES))}, saw {', '.join(sorted(unknown))}")
    for name in ("model", "data", "optimizer"):
        if name not in found:
            raise RecipeError(f"{path}: wanted {name}, saw none")
    return found


def _of(module: Any, table: dict[str, Any], what: str) -> tuple[Any, dict[str, Any]]:
    """The thing that a table names in a module, and its arguments."""
    rest = dict(table)
    name = rest.pop("name", None)
    found = getattr(module, str(name), None)
    if name is None or found is None or not callable(found):
        raise RecipeError(f"[{what}]: wanted a name of {module.__name__}, saw {name!r}")
    return found, rest


def _called(function: Any, what: str, *args: Any, **kwargs: Any) -> Any:
    """function(*args, **kwargs); a RecipeError that names the table if the arguments do not fit."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as e:
        raise RecipeError(f"[{what}]: {e}") from e
    return function(*args, **kwargs)


def model_of(recipe: dict[str, Any], beside: Path) -> nn.Module:
    """The model, made."""
    place, _, name = recipe["model"].partition(":")
    if not name:
        raise RecipeError(f"model: wanted 'module:Class' or 'file.py:Class', saw {recipe['model']!r}")
    try:
        module = _file(beside / place) if place.endswith(".py") else import_module(place)
        found = getattr(module, name)
    except (ImportError, OSError, AttributeError) as e:
        raise RecipeError(f"model: {e}") from e
    return _called(found, "model_arguments", **recipe.get("model_arguments", {}))


def _file(path: Path) -> Any:
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise OSError(f"no such file: {path}")
    module = sys.modules[path.stem] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loaders_of(recipe: dict[str, Any]) -> tuple[Any, Any]:
    """(training loader, validation loader)."""
    table = dict(recipe["data"])
    size, folder = table.pop("batch_size", 32), table.pop("folder", None)
    make, rest = _of(data, table, "data")
    if folder is None:
        parts = _called(make, "data", **rest)
    else:
        where = Path(folder).expanduser()
        parts = [_called(make, "data", where, train=part, **rest) for part in (True, False)]
    return data.DataLoader(parts[0], size, shuffle=True), data.DataLoader(parts[1], max(size, 256))


def train(path: str | Path, device: Any = None) -> training.History:
    """Train what a recipe says and save it; the history. RecipeError for one that makes no sense."""
    path = Path(path)
    recipe = read(path)
    table = dict(recipe.get("train", {}))
    own = {key: table.pop(key) for key in OWN & table.keys()}
    backend.manual_seed(own.get("seed", 0))
    model = model_of(recipe, path.parent)
    if device is not None:
        model.to(device)
    make, rest = _of(optim, recipe["optimizer"], "optimizer")
    optimizer = _called(make, "optimizer", model.parameters(), **rest)
    scheduler = None
    if "schedule" in recipe:
        make, rest = _of(optim.lr_scheduler, recipe["schedule"], "schedule")
        scheduler = _called(make, "schedule", optimizer, **rest)
    loss, _ = _of(nn, {"name": recipe.get("loss", "CrossEntropyLoss")}, "loss")
    training_loader, held_out = loaders_of(recipe)
    out = Path(own.get("out", Path("out") / path.stem))
    out.mkdir(parents=True, exist_ok=True)
    listeners: list[Any] = [logs.CSVLog(own["csv"])] if "csv" in own else []
    listeners += [logs.TensorBoardLog(own["tensorboard"])] if "tensorboard" in own else []
    history = _called(
        training.fit, "train", model, loss(), optimizer, training_loader, held_out, own.get("epochs", 1), scheduler=scheduler,
        device=device, metrics=training.accuracy if isinstance(loss(), nn.CrossEntropyLoss) else None, on_epoch=listeners,
        checkpoint=out / "checkpoint.safetensors", resume=own.get("resume", False), **table,
    )  # fmt: skip
    for listener in listeners:
        listener.close()
    io.save(model.state_dict(), out / "model.safetensors")
    print(f"model: {out / 'model.safetensors'}")
    return history
