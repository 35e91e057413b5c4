"""Reader of MusicCaps: ten-second clips of music, described by musicians."""

from __future__ import annotations

from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_clip
from salmonn_lab.data.corpora.tables import check_choice, read_table

SPLITS = {"eval": "true", "train": "false"}
"""What `is_audioset_eval` says of the clips of a split."""
FILE = "musiccaps-public.csv"


def read(root: Path, split: str) -> Reading:
    """Return the clips of AudioSet's evaluation part, or the others, with their one description.

    The layout is that of kaggle.com/datasets/googleai/musiccaps: `musiccaps-public.csv`. The authors publish no audio:
    clips are looked for in `audio/`, under the names that `recordings.find_clip` lists. Clips that are not there, since
    their videos are gone, are left out. The aspects, from which the descriptions were written, are in `meta`.

    Args:
        root: the folder that holds the table and `audio/`.
        split: `eval`, which is what is reported, or `train`.
    """
    check_choice(split, list(SPLITS), "split of MusicCaps")
    columns = ("ytid", "start_s", "end_s", "aspect_list", "caption", "is_balanced_subset", "is_audioset_eval")
    reading = Reading()
    for where, row in read_table(root / FILE, columns):
        if row["is_audioset_eval"].lower() not in SPLITS.values():
            raise ValueError(
                f"{where}: column 'is_audioset_eval' must be True or False, got '{row['is_audioset_eval']}'"
            )
        if row["is_audioset_eval"].lower() != SPLITS[split]:
            continue
        if not row["start_s"].isdecimal():
            raise ValueError(f"{where}: column 'start_s' must be whole seconds, got '{row['start_s']}'")
        name = f"{row['ytid']}_{row['start_s']}"
        path = find_clip([root / "audio"], row["ytid"], int(row["start_s"]))
        if path is None:
            reading.leave_out(name, MISSING)
            continue
        caption = row["caption"].strip()
        reading.append(
            Example(
                id=name,
                audio=(Segment(str(path)),),
                task="music_description",
                target=caption,
                references=(caption,),
                meta={"aspects": row["aspect_list"], "balanced": row["is_balanced_subset"].lower() == "true"},
            )
        )
    return reading
