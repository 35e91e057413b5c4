"""The command that asks a trained run about audio files: `python -m salmonn_lab.infer --run RUN clip.wav "What is said?"`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from salmonn_lab import console, runs
from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.modules import DataConfig, prompted_loader
from salmonn_lab.model.llm import DecodingConfig
from salmonn_lab.salmonn import Salmonn
