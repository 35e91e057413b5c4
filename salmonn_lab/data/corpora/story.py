"""Reader of the storytelling task: AudioCaps clips that a story is to be made up about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from salmonn_lab.data.corpora import audiocaps
from salmonn_lab.data.corpora.reading import Reading


def read(root: Path, split: str = "test") -> Reading:
    """Return the clips of AudioCaps as storytelling, which is the third level of SALMONN's tasks.

    There is no right story: target and references are the captions, what can be heard, against which a story may be
    checked. The published score counts the different words of the stories. The layout, and what is left out, are those
    of `audiocaps.read`.
    """
    clips = audiocaps.read(root, split)
    reading = Reading()
    reading.left_out = clips.left_out
    reading += [replace(example, task="audio_story_telling") for example in clips]
    return reading
