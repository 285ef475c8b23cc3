"""Modules as functions of their parameters: called with other ones, stacked for ensembles, made fit for per-sample use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..ops import join
from ..tape import Traced


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: Any,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """module(*args, **kwargs) with the given tensors, by dotted name, in place of its parameters and buffers.

    parameter_and_buffer_dicts   one dict or a sequence of dicts whose names differ
    tie_weights   a tensor that has several names in the module is replaced at all of them
    strict        RuntimeError for names that are missing or unknown
    The module is as before afterwards; a buffer that its forward moves moves in the dict. ValueError for a name that stands
    in two dicts, or for two names of one tensor that get different ones.
    """
    owner: dict[str, Any] = {}  # the dict that each name came from, which learns of what forward puts in its place
    if isinstance(parameter_and_buffer_dicts, Mapping):
        given = dict(parameter_and_buffer_dicts)
        owner = dict.fromkeys(given, parameter_and_buffer_dicts)
    elif isinstance(parameter_and_buffer_dicts, Sequence):
        given = {}
        for d in parameter_and_buffer_dicts:
            if not isinstance(d, Mapping):
                raise ValueError(
                    f"functional_call: wanted a dict or a sequence of dicts, saw one of {type(d).__name__}"
                )
            for name, t in d.items():
                if name in given:
                    raise ValueError(f"functional_call: wanted every name in one dict, saw {name!r} in several")
                given[name], owner[name] = t, d
    else:
        raise ValueError(
            f"functional_call: wanted a dict or a sequence of dicts, saw {type(parameter_and_buffer_dicts).__name__}"
        )
    for name, t in given.items():
        if not isinstance(t, Traced):
            raise TypeError(f"functional_call: wanted tensors, saw {type(t).__name__} for {name!r}")
    if args is None:
        args = ()
    elif not isinstance(args, tuple):
        args = (args,)
    with replaced(module, given, owner, tie_weights, strict):
        return module(*args, **(kwargs or {}))


@contextmanager
def replaced(
    module: Any, given: dict[str, Any], owner: dict[str, Any], tie_weights: bool, strict: bool
) -> Iterator[None]:
    """The context in which the module's parameters and buffers are the given ones."""
    places = {}  # name -> (register, last name)
    for register in ("_parameters", "_buffers"):
        for prefix, inside in module.named_modules(remove_duplicate=False):
            for name in inside.__dict__[register]:
                if inside.__dict__[register][name] is not None:
                    places[f"{prefix}.{name}" if prefix else name] = (inside.__dict__[register], name)
    names: dict[int, set[str]] = {}
    if tie_weights:
        for name, (register, last) in places.items():
            names.setdefault(id(register[last]), set()).add(name)
        whole = dict(given)
        for name, t in given.items():
            if name not in places:
                continue
            register, last = places[name]
            for other in names[id(register[last])]:
                if other in given and given[other] is not t:
                    raise ValueError(
                        f"functional_call: {name!r} and {other!r} are one tensor, and were given different ones"
                    )
                whole[other] = t
    else:
        whole = dict(given)
    unknown = [name for name in given if name not in places]
    if strict:
        missing = [name for name in places if name not in whole]
        if unknown or missing:
            raise RuntimeError(
                f"functional_call: with strict=True, wanted all names of the module, saw unknown {unknown}, missing {missing}"
            )
    before = []
    try:
        for name, t in whole.items():
            if name in places:
                register, last = places[name]
                before.append((register, last, register[last], name))
                register[last] = t
            elif name in unknown:
                _refuse_unknown(module, name)
        yield
    finally:
        for register, last, t, name in reversed(before):
            if name in owner and register.get(last) is not whole[name]:
                owner[name][name] = register[last]
            register[last] = t


def _refuse_unknown(module: Any, name: str) -> None:
    """A name that the module does not have is an error where its path does not exist either, else it is passed over."""
    *path, _ = name.split(".")
    at = module
    for part in path:
        at = at._modules.get(part) if hasattr(at, "_modules") else None
        if at is None:
            raise AttributeError(f"functional_call: {type(module).__name__} has no {name!r}")


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, buffers) of an ensemble of modules of one class, each stacked along a new dimension 0; the parameters
    are leaves that require gradients if the modules' do. RuntimeError for no models, several classes or modes.
    """
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: wanted at least one model, saw none")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: wanted models that are all in training or all in evaluation, saw both")
    if len({type(m) for m in models}) > 1:
        raise RuntimeError(
            f"stack_module_state: wanted models of one class, saw {sorted({type(m).__name__ for m in models})}"
        )
    parameters = {}
    for name, p in models[0].named_parameters():
        every = [dict(m.named_parameters())[name] for m in models]
        flags = {q.requires_grad for q in every}
        if len(flags) > 1:
            raise RuntimeError(f"stack_module_state: wanted {name!r} to require gradients in all models or in none")
        stacked = join.stack([q.detach() for q in every])
        parameters[name] = stacked.requires_grad_() if p.requires_grad else stacked
    buffers = {
        name: join.stack([dict(m.named_buffers())[name].detach() for m in models])
        for name, _ in models[0].named_buffers()
    }
    return parameters, buffers


def replace_all_batch_norm_modules_(root: Any) -> Any:
    """Let every BatchNorm in root, in place, keep no running statistics: they would be written by every sample of a vmap."""
    for module in root.modules():
        if hasattr(module, "running_mean") and hasattr(module, "track_running_stats"):
            module.running_mean = None
            module.running_var = None
            module.num_batches_tracked = None
            module.track_running_stats = False
    return root
