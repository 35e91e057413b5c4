"""Programs that stand in for Java and the jars it runs: they keep to the protocol, and know nothing of captions."""

from __future__ import annotations

import sys
from pathlib import Path

METEOR = """
for line in sys.stdin:
    head, *references, output = line.rstrip("\\n").split(" ||| ")
    assert head == "SCORE" and references, line
    words, nearest = output.split(), references[0].split()
    same = float(len(set(words) & set(nearest)))
    row = [float(len(words)), float(len(nearest)), 0.0, 0.0, same, same] + [0.0] * 14 + [min(same, 1.0), same, same]
    print(*row)
"""
SPICE = """
source, target = sys.argv[sys.argv.index("-out") - 1], sys.argv[sys.argv.index("-out") + 1]
items = json.load(open(source, encoding="utf-8"))
def f1(item):
    words, wanted = set(item["test"].split()), set(" ".join(item["refs"]).split())
    return 2 * len(words & wanted) / (len(words) + len(wanted)) if words or wanted else "NaN"
scores = [{"image_id": item["image_id"], "scores": {"All": {"f": f1(item)}}} for item in items]
json.dump(scores[::-1], open(target, "w", encoding="utf-8"))
"""


def write_java(path: Path, body: str) -> str:
    """Write a program that takes Java's place, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\nimport json, sys, time\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def fake_meteor(folder: Path, body: str = METEOR) -> tuple[Path, str, str]:
    """Return a jar, a normalizer and a program for `Meteor`."""
    jar = folder / "meteor" / "meteor-1.5.jar"
    (jar.parent / "data").mkdir(parents=True, exist_ok=True)
    (jar.parent / "data" / "paraphrase-en.gz").touch()
    jar.write_bytes(b"jar")
    return jar, "ptb_py", write_java(folder / "meteor" / "java", body)


def fake_spice(folder: Path, body: str = SPICE) -> tuple[Path, str]:
    """Return a jar and a program for `Spice`."""
    jar = folder / "spice" / "spice-1.0.jar"
    (jar.parent / "lib").mkdir(parents=True, exist_ok=True)
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (jar.parent / "lib" / name).touch()
    jar.write_bytes(b"jar")
    return jar, write_java(folder / "spice" / "java", body)
