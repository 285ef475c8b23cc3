"""torch.hub: where downloads would be kept; nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

_dir: str | None = None


def _get_torch_home() -> str:
    """$TORCH_HOME, else torch's folder in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return os.path.expanduser(os.environ.get("TORCH_HOME", os.path.join(cache, "torch")))


def get_dir() -> str:
    """Where models of the hub are kept."""
    return _dir if _dir is not None else os.path.join(_get_torch_home(), "hub")


def set_dir(d: str) -> None:
    """Keep them there."""
    global _dir
    _dir = os.path.expanduser(d)


def _no_download(name: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"gradflow has no torch.hub.{name}: it downloads nothing; load a safetensors file instead"
        )

    return refuse


load, load_state_dict_from_url = _no_download("load"), _no_download("load_state_dict_from_url")
download_url_to_file = _no_download("download_url_to_file")
HASH_REGEX = None
tqdm = None
