"""Settings of the whole suite, made before anything imports torch."""

import atexit
import os
import shutil
import sys
import tempfile

# Images here are so small that threads cost more than they bring, most of all where several processes have some. And
# a few tests compare sums bit for bit, whose order depends on the number of threads.
os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

# No test sees what the user has fetched, or fetches anything; those of downloads use a server of their own.
os.environ["PANSCAPE_CACHE"] = tempfile.mkdtemp()
atexit.register(shutil.rmtree, os.environ["PANSCAPE_CACHE"], ignore_errors=True)
os.environ["PANSCAPE_OFFLINE"] = "1"
os.environ["PANSCAPE_RUNTIME"] = "torch"  # networks are converted only where a test asks for that
os.environ["no_proxy"] = "127.0.0.1"

# Without compiled modules every process takes five times as long to import torch. Images of containers ask for that.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import hypothesis  # noqa: E402 - the settings above come first
import pytest  # noqa: E402

from panscape import notes  # noqa: E402
from panscape.ops import jit  # noqa: E402

# A busy machine is no failure, and each run draws the same examples.
hypothesis.settings.register_profile("panscape", deadline=None, derandomize=True)
hypothesis.settings.load_profile("panscape")

# Said on the error output when a kernel is first compiled on a machine, which tests of that output cannot know.
jit._announce_compilation = lambda: None


@pytest.fixture(autouse=True)
def _forget_notes():
    """Let each test log the notes that others have logged."""
    notes.start_run()
