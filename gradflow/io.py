"""Files: tensors, and whole states of training, as safetensors; what is not a tensor is JSON in the file's metadata.

A dict of names and tensors, as state_dict() gives, becomes a plain safetensors file with those names. Anything nested
(an optimizer's state, a checkpoint) has its tensors under dotted names, and its structure in the metadata, where
tensors, arrays, tuples and dicts whose keys are no strings are marked. Nothing is pickled or unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from . import backend
from .backend import Generator, is_array
from .op import current, wrap
from .tape import Traced

STRUCTURE = "gradflow"  # the key of the metadata that holds the structure
MARKS = ("$tensor", "$array", "$tuple", "$dict", "$complex", "$grad")
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip


def _safetensors(what: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError as e:
        raise ImportError(f"{what}: wanted the package safetensors, saw none: pip install 'gradflow[io]'") from e
    return safetensors


# --- structure and tensors ---------------------------------------------------------------------------


def _take_apart(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """The structure of a value as JSON; its tensors go to `tensors`, under names that begin with `name`."""
    if isinstance(value, Traced) or is_array(value):
        mark, array = ("$tensor", value.array) if isinstance(value, Traced) else ("$array", value)
        array = np.asarray(backend.asnumpy(array), order="C")
        entry = {mark: name}
        if array.dtype.kind == "c":  # as pairs of real numbers, which every reader knows
            entry["$complex"] = array.dtype.name
            array = array[..., None].view(np.float32 if array.dtype.itemsize == 8 else np.float64)
        elif array.dtype.kind not in "fiub" and not backend.is_floating(array.dtype):
            raise TypeError(f"save: wanted numbers at {name!r}, saw an array of {array.dtype}")
        if name in tensors:
            raise ValueError(f"save: wanted one value for each name, saw two that are called {name!r}")
        tensors[name] = array.astype(array.dtype.newbyteorder("<"), copy=False) if array.dtype.kind != "V" else array
        return {"$grad": entry} if isinstance(value, Traced) and current(value) is not None else entry
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        pairs = [(k, _take_apart(v, f"{name}.{k}" if name else str(k), tensors)) for k, v in value.items()]
        if all(isinstance(k, str) and k not in MARKS for k in value):
            return dict(pairs)
        for k in value:
            if not (k is None or isinstance(k, (bool, int, float, str))):
                raise TypeError(f"save: wanted numbers or strings as keys at {name!r}, saw {type(k).__name__}")
        return {"$dict": [[k, v] for k, v in pairs]}
    if isinstance(value, (list, tuple)):
        items = [_take_apart(v, f"{name}.{i}" if name else str(i), tensors) for i, v in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if hasattr(value, "state_dict"):
        raise TypeError(
            f"save: wanted numbers and tensors, saw a whole {type(value).__name__}; save its state_dict(), and load that "
            "with load_state_dict(load(...))"
        )
    raise TypeError(
        f"save: wanted tensors, arrays, numbers, strings, None, or dicts, lists and tuples of them, saw "
        f"{type(value).__name__}{f' at {name!r}' if name else ''}"
    )


def _put_together(structure: Any, tensors: dict[str, np.ndarray]) -> Any:
    """The value that _take_apart took apart."""
    if isinstance(structure, list):
        return [_put_together(v, tensors) for v in structure]
    if not isinstance(structure, dict):
        return structure
    if "$tensor" in structure or "$array" in structure:
        array = tensors[structure["$tensor" if "$tensor" in structure else "$array"]]
        if "$complex" in structure:
            array = array.view(structure["$complex"])[..., 0]
        return wrap(array) if "$tensor" in structure else array
    if "$grad" in structure:
        return _put_together(structure["$grad"], tensors).requires_grad_()
    if "$tuple" in structure:
        return tuple(_put_together(v, tensors) for v in structure["$tuple"])
    if "$dict" in structure:
        return {k: _put_together(v, tensors) for k, v in structure["$dict"]}
    return {k: _put_together(v, tensors) for k, v in structure.items()}


# --- files -------------------------------------------------------------------------------------------


def save(obj: Any, f: Any, *ignored: Any, **also_ignored: Any) -> None:
    """Write tensors, or any nesting of dicts, lists, tuples, tensors, arrays, numbers, strings, as safetensors.

    f is a path, or a file that is open for bytes. A file at a path appears whole or not at all: it is written beside its
    place, flushed to the disk, and renamed. PyTorch's arguments about pickling are ignored.
    ImportError without the package safetensors; TypeError for what cannot be saved, such as a whole module.
    """
    library = _safetensors("save")
    tensors: dict[str, np.ndarray] = {}
    structure = _take_apart(obj, "", tensors)
    plain = isinstance(structure, dict) and all(v == {"$tensor": k} for k, v in structure.items())
    metadata = None if plain else {STRUCTURE: json.dumps(structure)}
    if hasattr(f, "write"):
        f.write(library.numpy.save(tensors, metadata))
        return
    path = Path(f)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        library.numpy.save_file(tensors, str(scratch), metadata)
        with scratch.open("rb+") as f:
            os.fsync(f.fileno())
        os.replace(scratch, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            scratch.unlink()
    if hasattr(os, "O_DIRECTORY"):  # the new name is safe only when the folder is on the disk too
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load(
    f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = None,
    mmap: bool | None = None, **ignored: Any,
) -> Any:  # fmt: skip
    """What save wrote; of any other safetensors file, its tensors by name. f is a path, or a file open for bytes.

    map_location   the device that tensors go to, or a function of (tensor, "cpu") that moves it
    The other arguments, PyTorch's, change nothing: a file never holds more than weights.
    FileNotFoundError; RuntimeError for a file that is truncated or of another kind. Nothing is ever unpickled.
    """
    library = _safetensors("load")
    data, name = (f.read(), getattr(f, "name", "a file")) if hasattr(f, "read") else (Path(f).read_bytes(), f)
    if data[:4] == b"PK\x03\x04" or (data[:1] == b"\x80" and b"\x02" <= data[1:2] <= b"\x05" and data[8:9] != b"{"):
        raise RuntimeError(
            f"load: wanted safetensors, saw {name}, which PyTorch has pickled; pickles are never loaded: convert it with "
            "PyTorch, safetensors.torch.save_file(torch.load(old), new)"
        )
    try:
        flat = library.deserialize(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        tensors = {name: _array(v) for name, v in flat}
        text = (header.get("__metadata__") or {}).get(STRUCTURE)
        value = {k: wrap(v) for k, v in tensors.items()} if text is None else _put_together(json.loads(text), tensors)
    except (library.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise RuntimeError(f"load: wanted a whole safetensors file, saw {name}: {e}") from e
    if isinstance(map_location, dict):
        map_location = map_location.get("cpu")
    if map_location is None:
        return value
    if callable(map_location):
        return _each(value, lambda t: _moved(t, map_location(t, "cpu")))
    where = backend.device(map_location)
    return value if where == backend.CPU else _each(value, lambda t: _moved(t, wrap(backend.to_device(t.array, where))))


def _moved(t: Any, there: Any) -> Any:
    """What a map_location gave for a tensor; None leaves it where it is."""
    return t if there is None or there is t else there.requires_grad_() if current(t) is not None else there


def _array(entry: dict[str, Any]) -> np.ndarray:
    kind = entry["dtype"]
    if kind != "BF16" and kind not in DTYPES:
        raise ValueError(f"a tensor of the dtype {kind}, which NumPy does not have")
    dtype = backend.bfloat16() if kind == "BF16" else np.dtype(DTYPES[kind])
    array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return array if array.flags.writeable else array.copy()


def _each(value: Any, function: Any) -> Any:
    """A value with `function` of each of its tensors."""
    if isinstance(value, Traced):
        return function(value)
    if isinstance(value, dict):
        return {k: _each(v, function) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_each(v, function) for v in value)
    return value


# --- checkpoints -------------------------------------------------------------------------------------


def save_checkpoint(path: str | os.PathLike[str], **parts: Any) -> None:
    """Write a training's whole state, by the names of its parts, and the state of the default generator.

    save_checkpoint("run.safetensors", model=model, optimizer=optimizer, scheduler=scheduler, loader=loader, epoch=3)
    Of a part with a state_dict() that is saved, of a Generator its state, of any other part its value, as in save.
    """
    state = {name: _state(part) for name, part in parts.items()}
    save({"parts": state, "generator": list(backend.default_generator.get_state())}, path)


def _state(part: Any) -> Any:
    if isinstance(part, Generator):
        return list(part.get_state())
    return part.state_dict() if hasattr(part, "state_dict") else part


def _load(part: Any, state: Any) -> Any:
    return part.set_state(tuple(state)) if isinstance(part, Generator) else part.load_state_dict(state)


def _copied(state: Any) -> Any:
    """A state_dict with copies of its tensors."""
    return {k: wrap(v.array.copy()) if isinstance(v, Traced) else v for k, v in state.items()}


def load_checkpoint(path: str | os.PathLike[str], **parts: Any) -> dict[str, Any]:
    """Put back what save_checkpoint wrote, so that training goes on bit for bit; give the values that are no parts.

    epoch = load_checkpoint("run.safetensors", model=model, optimizer=optimizer, ...)["epoch"]
    Every part named here gets its state, and the default generator goes on where it was; what else the file holds is
    returned by name. All parts are loaded, or on an error none.
    RuntimeError for a file that is no checkpoint, KeyError for a part it does not have.
    """
    saved = load(path)
    if not (isinstance(saved, dict) and set(saved) == {"parts", "generator"}):
        raise RuntimeError(f"load_checkpoint: wanted a file that save_checkpoint wrote, saw {path}")
    states = saved["parts"]
    loaded: list[tuple[Any, Any]] = []
    for name, part in parts.items():
        if name not in states:
            raise KeyError(f"load_checkpoint: wanted the part {name!r} in {path}, saw {sorted(states)}")
        if not isinstance(part, Generator) and not hasattr(part, "load_state_dict"):
            raise TypeError(f"load_checkpoint: wanted load_state_dict() of {name!r}, saw {type(part).__name__}")
    # Models come last: they check everything before they write, so that the last one needs no copy to be put back.
    order = sorted(parts, key=lambda name: hasattr(parts[name], "parameters"))
    try:
        for name in order:
            part, before = parts[name], _state(parts[name])
            loaded.append((part, _copied(before) if hasattr(part, "parameters") and name != order[-1] else before))
            _load(part, states[name])
    except BaseException:
        for part, before in reversed(loaded):
            with contextlib.suppress(Exception):  # the first error is the one to see
                _load(part, before)
        raise
    backend.default_generator.set_state(tuple(saved["generator"]))
    return {name: state for name, state in states.items() if name not in parts}
