"""torch.cuda where it is about random numbers and dtypes; gradflow.cuda has the rest. torch.accelerator as well."""

from __future__ import annotations

from typing import Any

from .. import backend, cuda
from .random import get_rng_state as get_rng_state_of_default
from .random import set_rng_state as set_rng_state_of_default


def manual_seed(seed: int) -> None:
    """Seed the default generator's counted numbers, which the card draws; the CPU's stay where they are."""
    backend.default_generator.key, backend.default_generator.counter = int(seed) & (2**64 - 1), 0


manual_seed_all = manual_seed


def seed() -> None:
    """Begin anew from fresh entropy, on the card."""
    manual_seed(backend.Generator().seed())


seed_all = seed


def initial_seed() -> int:
    """The seed last set."""
    return backend.default_generator.key


def get_rng_state(device: Any = "cuda") -> Any:
    """The default generator's state."""
    return get_rng_state_of_default()


def set_rng_state(new_state: Any, device: Any = "cuda") -> None:
    """Go on from a state that get_rng_state gave."""
    set_rng_state_of_default(new_state)


def get_rng_state_all() -> list[Any]:
    """The state for each card."""
    return [get_rng_state()] * cuda.device_count()


def set_rng_state_all(new_states: list[Any]) -> None:
    """Go on from states that get_rng_state_all gave."""
    for state in new_states:
        set_rng_state(state)


# --- torch.accelerator ---------------------------------------------------------------------------------

is_available, device_count, synchronize = cuda.is_available, cuda.device_count, cuda.synchronize


def current_accelerator(check_available: bool = False) -> backend.device | None:
    """device("cuda") where there is a card, else None."""
    return backend.device("cuda") if cuda.is_available() else None


def current_device_index() -> int:
    """The number of the current card."""
    return cuda.current_device()
