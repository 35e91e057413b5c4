"""A Lightning experimentation kit for SALMONN: what in an audio LLM matters?"""

__version__ = "0.1.0"
