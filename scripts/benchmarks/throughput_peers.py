"""pytorch-lifestream from PyPI in a folder of its own, over our environment.

Its declared dependencies pin libraries of years ago, so it is installed without them, and what it
imports besides is named here: both sides then run on the same torch, pandas and Lightning. 0.6.0 it
is because 0.7.0 cannot be imported. The folder lies in the user's cache, outside the repository.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pooch

VERSION = "0.6.0"
PACKAGES = (
    f"pytorch-lifestream=={VERSION}",
    "dill==0.4.1",
    "huggingface-hub==0.36.2",
    "regex>=2025",
    "safetensors>=0.6",
    "tokenizers==0.22.1",
    "transformers==4.57.3",
)


def ptls_folder(*, install: bool) -> Path | None:
    """Return the folder with pytorch-lifestream; None where it is not there and cannot be."""
    folder = Path(pooch.os_cache("seqjourney")) / "peers" / f"pytorch-lifestream-{VERSION}"
    if folder.exists() or not install:
        return folder if folder.exists() else None
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--target", str(partial), *PACKAGES], capture_output=True, text=True
    )
    if done.returncode:
        print(f"pytorch-lifestream is left out: pip could not install it.\n{done.stderr[-500:]}")
        return None
    partial.rename(folder)
    return folder
