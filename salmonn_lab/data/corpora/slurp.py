"""Reader of SLURP: commands to a household assistant, with the slots that they fill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_choice, check_keys, read_records

SPLITS = ("test", "devel", "train", "train_synthetic")


ALL_SLOTS = (
    "List every slot that the command fills, each as its kind, a colon and the words that fill it, with semicolons "
    "between, such as 'date: tomorrow; place name: london'. Answer 'none' if it fills none."
)
"""What `read_all_slots` asks."""


def read(root: Path, split: str) -> Reading:
    """Return slot filling: an example for each recording and each kind of slot that its sentence fills.

    The layout is that of github.com/pswietojanski/slurp: `dataset/slurp/<split>.jsonl`, whose `entities` have a `type`
    and a `span` of token numbers; the audio of zenodo.org/records/4274930 is in `audio/slurp_real/` (`slurp_synth/` for
    `train_synthetic`), or below `scripts/`, where the repository's script unpacks it. The question is the kind of slot,
    its underscores as spaces, which is what SALMONN's prompt for this task has room for. Of a slot that is filled
    twice, both fillers are references and the first is the target. Left out are recordings of sentences without slots,
    and missing recordings.

    Args:
        root: the folder that holds `dataset/` and `audio/`.
        split: one of `SPLITS`.
    """
    reading = Reading()
    for spoken in _recordings(root, split):
        if not spoken.slots:
            reading.leave_out(spoken.id, "the sentence fills no slot")
            continue
        if spoken.audio is None:
            reading.leave_out(spoken.id, MISSING)
            continue
        for slot, fillers in _fillers(spoken.slots).items():
            reading.append(
                Example(
                    id=f"{spoken.id}/{slot}",
                    audio=(spoken.audio,),
                    task="slot_filling",
                    target=fillers[0],
                    question=slot.replace("_", " "),
                    references=tuple(fillers),
                    meta={"category": slot, **spoken.meta},
                )
            )
    return reading


def read_all_slots(root: Path, split: str) -> Reading:
    """Return slot filling with all slots of a command at once: an example for each recording, as SLU-F1 needs.

    The target is what `metrics.slots` reads: `kind: filler` entries in the order of the corpus, underscores of kinds as
    spaces; `none` where the sentence fills no slot. Layout and arguments are those of `read`. Only missing recordings
    are left out.
    """
    reading = Reading()
    for spoken in _recordings(root, split):
        if spoken.audio is None:
            reading.leave_out(spoken.id, MISSING)
            continue
        target = "; ".join(f"{kind.replace('_', ' ')}: {filler}" for kind, filler in spoken.slots) or "none"
        example = Example(spoken.id, (spoken.audio,), "slot_filling", target, ALL_SLOTS, (target,), meta=spoken.meta)
        reading.append(example)
    return reading


class _Spoken(NamedTuple):
    """One recording, and the slots that its sentence fills."""

    id: str
    audio: Segment | None
    """None where it is missing."""
    slots: list[tuple[str, str]]
    meta: dict[str, Any]


def _recordings(root: Path, split: str) -> Iterator[_Spoken]:
    """Yield the recordings of a split, in the order of the corpus."""
    check_choice(split, SPLITS, "split of SLURP")
    audio = "slurp_synth" if split == "train_synthetic" else "slurp_real"
    keys = ("slurp_id", "sentence", "tokens", "recordings", "entities")
    for where, record in read_records(root / "dataset/slurp" / f"{split}.jsonl", keys):
        slots = _slots(where, record)
        for recording in record["recordings"]:
            check_keys(list(recording), ("file",), where, "key")
            id = f"{record['slurp_id']}/{Path(recording['file']).stem}"
            path = find_recording([root / "audio" / audio, root / "scripts/audio" / audio], [recording["file"]])
            meta = {
                "scenario": str(record.get("scenario", "")),
                "intent": str(record.get("intent", "")),
                "transcript": record["sentence"],
                "headset": "headset" in recording["file"],
            }
            yield _Spoken(id, None if path is None else Segment(str(path)), slots, meta)


def _slots(where: str, record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the slots that a sentence fills, as published: kind and filler."""
    words = {int(token["id"]): str(token["surface"]) for token in record["tokens"]}
    slots = []
    for entity in record["entities"]:
        check_keys(list(entity), ("span", "type"), where, "key")
        if not entity["span"] or any(number not in words for number in entity["span"]):
            raise ValueError(f"{where}: the span {entity['span']} of slot '{entity['type']}' is not in the sentence")
        slots.append((str(entity["type"]), " ".join(words[number] for number in sorted(entity["span"]))))
    return slots


def _fillers(slots: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the fillers of each kind of slot, in the order they are said, none twice."""
    fillers: dict[str, list[str]] = {}
    for kind, filler in slots:
        if filler not in fillers.setdefault(kind, []):
            fillers[kind].append(filler)
    return fillers
