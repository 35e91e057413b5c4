"""Reader of SLURP: commands to a household assistant, with the slots that they fill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_choice, check_keys, read_records

SPLITS = ("test", "devel", "train", "train_synthetic")


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
    check_choice(split, SPLITS, "split of SLURP")
    audio = "slurp_synth" if split == "train_synthetic" else "slurp_real"
    reading = Reading()
    keys = ("slurp_id", "sentence", "tokens", "recordings", "entities")
    for where, record in read_records(root / "dataset/slurp" / f"{split}.jsonl", keys):
        slots = _slots(where, record)
        for recording in record["recordings"]:
            check_keys(list(recording), ("file",), where, "key")
            id = f"{record['slurp_id']}/{Path(recording['file']).stem}"
            if not slots:
                reading.leave_out(id, "the sentence fills no slot")
                continue
            path = find_recording([root / "audio" / audio, root / "scripts/audio" / audio], [recording["file"]])
            if path is None:
                reading.leave_out(id, MISSING)
                continue
            for slot, fillers in slots.items():
                reading.append(
                    Example(
                        id=f"{id}/{slot}",
                        audio=(Segment(str(path)),),
                        task="slot_filling",
                        target=fillers[0],
                        question=slot.replace("_", " "),
                        references=tuple(fillers),
                        meta={
                            "category": slot,
                            "scenario": str(record.get("scenario", "")),
                            "intent": str(record.get("intent", "")),
                            "transcript": record["sentence"],
                            "headset": "headset" in recording["file"],
                        },
                    )
                )
    return reading


def _slots(where: str, record: dict[str, Any]) -> dict[str, list[str]]:
    """Return the fillers of each kind of slot, in the order they are said, none twice."""
    words = {int(token["id"]): str(token["surface"]) for token in record["tokens"]}
    slots: dict[str, list[str]] = {}
    for entity in record["entities"]:
        check_keys(list(entity), ("span", "type"), where, "key")
        if not entity["span"] or any(number not in words for number in entity["span"]):
            raise ValueError(f"{where}: the span {entity['span']} of slot '{entity['type']}' is not in the sentence")
        filler = " ".join(words[number] for number in sorted(entity["span"]))
        fillers = slots.setdefault(entity["type"], [])
        if filler not in fillers:
            fillers.append(filler)
    return slots
