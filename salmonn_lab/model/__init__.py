"""The parts of the model: encoders, bridge and language model, which `salmonn.py` assembles."""
