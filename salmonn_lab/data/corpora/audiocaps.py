"""Reader of AudioCaps: ten-second clips of YouTube videos, with captions by people."""

from __future__ import annotations

from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_clip
from salmonn_lab.data.corpora.tables import check_choice, read_table

SPLITS = ("test", "val", "train")


def read(root: Path, split: str) -> Reading:
    """Return the clips of a split, each once: all its captions are references, the first is the target.

    The layout is that of github.com/cdjkim/audiocaps, versions 1 and 2: `dataset/<split>.csv` with a caption a row, of
    which `youtube_id` and `start_time` name the clip. The authors publish no audio: clips are looked for in
    `audio/<split>/` and `audio/`, under the names that `recordings.find_clip` lists. Clips that are not there, since
    their videos are gone, are left out.

    Args:
        root: the folder that holds `dataset/` and `audio/`.
        split: one of `SPLITS`; `train` has one caption a clip, the others five.
    """
    check_choice(split, SPLITS, "split of AudioCaps")
    clips: dict[tuple[str, int], list[str]] = {}
    columns = ("audiocap_id", "youtube_id", "start_time", "caption")
    for where, row in read_table(root / "dataset" / f"{split}.csv", columns):
        if not row["start_time"].isdecimal():
            raise ValueError(f"{where}: column 'start_time' must be whole seconds, got '{row['start_time']}'")
        if not row["caption"].strip():
            raise ValueError(f"{where}: column 'caption' is empty")
        clips.setdefault((row["youtube_id"], int(row["start_time"])), []).append(row["caption"].strip())
    reading = Reading()
    for (video, start), captions in clips.items():
        name = f"{video}_{start}"
        path = find_clip([root / "audio" / split, root / "audio"], video, start)
        if path is None:
            reading.leave_out(name, MISSING)
            continue
        reading.append(
            Example(
                id=name,
                audio=(Segment(str(path)),),
                task="audiocaption",
                target=captions[0],
                references=tuple(captions),
                meta={"youtube_id": video, "start_time": start},
            )
        )
    return reading
