"""The readers of Libri2Mix and VoxCeleb1, on miniatures of the published folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from trees import record, write

from salmonn_lab.batch import Segment
from salmonn_lab.data.audio import audio_seconds
from salmonn_lab.data.corpora import libri2mix, voxceleb1

MIXTURE = "61-70968-0000_121-121726-0001"
MIXED = f"mixture_ID,mixture_path,source_1_path,source_2_path,length\n{MIXTURE},/their/{MIXTURE}.wav,/a,/b,80000\n"
SOURCES = (
    "mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain,noise_path,noise_gain\n"
    f"{MIXTURE},test-clean/61/70968/61-70968-0000.flac,0.5,test-clean/121/x.flac,0.4,test/n.wav,0.1\n"
    "61-70968-0000_61-70968-0002,a,0.5,b,0.4,n,0.1\n"
)


def librimix(root: Path) -> Path:
    write(root / "LibriSpeech/SPEAKERS.TXT", "61 | M | test-clean | 8 | P\n121 | F | test-clean | 8 | N\n")
    write(root / "LibriSpeech/test-clean/61/70968/61-70968.trans.txt", "61-70968-0000 HE SAID\n")
    write(root / "LibriSpeech/test-clean/121/121726/121-121726.trans.txt", "121-121726-0001 ALSO\n")
    record(root / "Libri2Mix/wav16k/max/test/mix_clean", [f"{MIXTURE}.wav"])
    return root


def test_a_mixture_has_both_texts_in_both_orders(tmp_path: Path) -> None:
    write(librimix(tmp_path) / "Libri2Mix/wav16k/max/metadata/mixture_test_mix_clean.csv", MIXED)
    (example,) = libri2mix.read(tmp_path, "test")
    assert (example.id, example.task, example.target) == (MIXTURE, "speech_separation", "he said\nalso")
    assert example.references == ("he said\nalso", "also\nhe said")
    assert example.meta == {"texts": ["he said", "also"], "speaker": "61+121", "gender": "female+male"}
    assert example.audio[0].path == str(tmp_path / f"Libri2Mix/wav16k/max/test/mix_clean/{MIXTURE}.wav")


def test_without_the_table_of_mixtures_that_of_their_sources_is_read(tmp_path: Path) -> None:
    write(librimix(tmp_path) / "metadata/Libri2Mix/libri2mix_test-clean.csv", SOURCES)
    reading = libri2mix.read(tmp_path, "test")
    assert [example.id for example in reading] == [MIXTURE]
    assert reading.left_out == {"no recording": ["61-70968-0000_61-70968-0002"]}


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ("61-70968-0000", r"clean.csv:2: column 'mixture_ID' must join two utterances by '_', got '61-70968-0000'"),
        ("61-70968-0000_61-70968-0009", r"clean.csv:2: utterance '61-70968-0009' has no transcript"),
    ],
)
def test_a_mixture_that_cannot_be_transcribed_is_named(tmp_path: Path, mixture: str, message: str) -> None:
    table = librimix(tmp_path) / "Libri2Mix/wav16k/max/metadata/mixture_test_mix_clean.csv"
    write(table, MIXED.replace(MIXTURE, mixture))
    record(tmp_path / "Libri2Mix/wav16k/max/test/mix_clean", [f"{mixture}.wav"])
    with pytest.raises(ValueError, match=message):
        libri2mix.read(tmp_path, "test")


def voxceleb(root: Path, trials: str) -> Path:
    write(root / "veri_test2.txt", trials)
    for name, seconds in {"id10270/x6uYqmx31kE/00001": 20.0, "id10270/8jEAjG6SegY/00008": 5.0}.items():
        path = root / f"wav/{name}.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.zeros(round(seconds * 16_000)), 16_000)
    return root


TRIALS = """\
1 id10270/x6uYqmx31kE/00001.wav id10270/8jEAjG6SegY/00008.wav
0 id10270/8jEAjG6SegY/00008.wav id10300/ize_eiCFEg0/00003.wav
1 id10270/x6uYqmx31kE/00001.wav id10270/8jEAjG6SegY/00008.wav
0 id10270/8jEAjG6SegY/00008.wav id10270/8jEAjG6SegY/00008.wav
"""


def test_a_trial_is_two_clips_joined_and_a_long_one_leaves_room_for_the_other(tmp_path: Path) -> None:
    reading = voxceleb1.read(voxceleb(tmp_path, TRIALS))
    same, other = reading
    long, short = (str(tmp_path / f"wav/id10270/{clip}.wav") for clip in ("x6uYqmx31kE/00001", "8jEAjG6SegY/00008"))
    assert same.audio == (Segment(long, 0.0, 14.95), Segment(short))
    assert audio_seconds(same.audio) == pytest.approx(20.05)
    assert (same.task, same.target, other.target) == ("speaker_verification", "yes", "no")
    assert same.meta == {"choices": ["yes", "no"], "speakers": ["id10270", "id10270"]}
    assert reading.mended == {"a clip cut to 14.95 s": [same.id]}
    assert reading.left_out == {
        "no recording": ["id10270/8jEAjG6SegY/00008.wav+id10300/ize_eiCFEg0/00003.wav"],
        "a trial listed twice": [same.id],
    }


def test_speakers_are_described_where_their_table_is_there(tmp_path: Path) -> None:
    table = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10270\tX\tm\tUK\ttest\n"
    write(voxceleb(tmp_path, TRIALS) / "vox1_meta.csv", table)
    reading = voxceleb1.read(tmp_path)
    assert {key: reading[0].meta[key] for key in ("gender", "nationality", "same_gender")} == {
        "gender": "male",
        "nationality": "UK",
        "same_gender": True,
    }
    write(tmp_path / "vox1_meta.csv", table.replace("id10270", "id1"))
    with pytest.raises(ValueError, match=r"veri_test2.txt:1: speaker 'id10270' is not in"):
        voxceleb1.read(tmp_path)


def test_a_malformed_trial_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"veri_test2.txt:2: expected '0 or 1, clip, clip', got '2 a b'"):
        voxceleb1.read(voxceleb(tmp_path, "\n2 a b\n"))
