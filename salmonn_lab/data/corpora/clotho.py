"""Reader of Clotho: sounds of 15 to 30 seconds, with five captions each."""

from __future__ import annotations

from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_choice, read_table

SPLITS = ("evaluation", "validation", "development")
CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))


def read(root: Path, split: str) -> Reading:
    """Return the clips of a split: all five captions are references, the first is the target.

    The layout is that of zenodo.org/records/4783391: `clotho_captions_<split>.csv`, and the audio where its archive
    unpacks to, `<split>/`, or below `clotho_audio_<split>/`. Clips without a recording are left out. The metadata files
    are not read: they hold sources and licences, nothing that slices a report.

    Args:
        root: the folder that holds the tables.
        split: one of `SPLITS`; `evaluation` is what is reported.
    """
    check_choice(split, SPLITS, "split of Clotho")
    folders = [root / split, root / f"clotho_audio_{split}" / split, root / f"clotho_audio_{split}"]
    reading = Reading()
    for where, row in read_table(root / f"clotho_captions_{split}.csv", ("file_name", *CAPTIONS)):
        name = row["file_name"].strip()
        captions = tuple(row[column].strip() for column in CAPTIONS)
        if not all(captions):
            raise ValueError(f"{where}: '{name}' has an empty caption")
        path = find_recording(folders, [name])
        if path is None:
            reading.leave_out(name, MISSING)
            continue
        reading.append(Example(name, (Segment(str(path)),), "audiocaption", captions[0], references=captions))
    return reading
