"""The Hugging Face hub, seen from outside: may it be asked, does it answer, what is here already.

Downloads nothing.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PATIENCE_SECONDS = 4.0


def offline() -> bool:
    """Whether the user has forbidden the hub (HF_HUB_OFFLINE)."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


@cache
def reachable() -> bool:
    """Whether a connection to the hub, or to the proxy before it, can be made from here; asked once a process."""
    if offline():
        return False
    url = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    proxy = getproxies().get(url.scheme)
    if proxy and not proxy_bypass(url.hostname or ""):
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        with socket.create_connection((url.hostname or "", port), timeout=_PATIENCE_SECONDS):
            return True
    except OSError:
        return False


def cached(repo: str, kind: str = "model") -> bool:
    """Whether some revision of a repository lies in the local hub cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = f"{kind}s--{repo.replace('/', '--')}"
    snapshots = os.path.join(HF_HUB_CACHE, folder, "snapshots")
    return os.path.isdir(snapshots) and bool(os.listdir(snapshots))
