"""A Lightning experimentation kit for SALMONN: what in an audio LLM matters?"""

import sys

from salmonn_lab import signals

__version__ = "0.1.0"

if getattr(sys, "argv", [])[:1] == ["-m"] and any(word.startswith(f"{__name__}.") for word in sys.orig_argv):
    signals.end_at_once()  # a command is starting, and its imports take seconds: see `console.run_command`
