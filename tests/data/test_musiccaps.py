"""The readers of MusicCaps and of the storytelling task, on miniatures of the published tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import record, write

from salmonn_lab.data.corpora import musiccaps, story

TABLE = """\
ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval
-0Gj8-vB1q4,30,40,"/m/0140xf,/m/02cjck","['low quality', 'sustained strings']","A ""ballad"",
over two lines.",4,False,True
-0SdAVK79lg,30,40,"/m/0155w","['guitar song']",Guitars.,0,False,False
gone4567890,0,10,"/m/0155w","['piano']",A piano.,0,True,True
"""


def test_only_the_evaluation_part_is_read_and_captions_keep_their_lines(tmp_path: Path) -> None:
    write(tmp_path / "musiccaps-public.csv", TABLE)
    record(tmp_path / "audio", ["-0Gj8-vB1q4_30.wav", "-0SdAVK79lg.flac"])
    reading = musiccaps.read(tmp_path, "eval")
    (example,) = reading
    assert (example.id, example.task) == ("-0Gj8-vB1q4_30", "music_description")
    assert example.target == 'A "ballad",\nover two lines.'
    assert example.references == (example.target,)
    assert example.meta == {"aspects": "['low quality', 'sustained strings']", "balanced": False}
    assert reading.left_out == {"no recording": ["gone4567890_0"]}
    assert [example.target for example in musiccaps.read(tmp_path, "train")] == ["Guitars."]


def test_a_flag_that_is_neither_true_nor_false_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path / "musiccaps-public.csv", TABLE.replace("True,True", "True,maybe"))
    with pytest.raises(ValueError, match=r"musiccaps-public.csv:5: column 'is_audioset_eval' must be .* got 'maybe'"):
        musiccaps.read(tmp_path, "eval")


def test_stories_are_asked_about_the_clips_of_audiocaps(tmp_path: Path) -> None:
    rows = "1,abc,20,Rain falls\n2,abc,20,It rains\n3,xyz,0,Wind\n"
    write(tmp_path / "dataset/test.csv", "audiocap_id,youtube_id,start_time,caption\n" + rows)
    record(tmp_path / "audio", ["abc_20.wav"])
    reading = story.read(tmp_path)
    (example,) = reading
    assert (example.task, example.references) == ("audio_story_telling", ("Rain falls", "It rains"))
    assert reading.left_out == {"no recording": ["xyz_0"]}
