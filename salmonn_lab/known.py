"""Names of benchmarks and corpora, known without the libraries that read and judge them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from salmonn_lab.typed_yaml import suggest

BENCHMARKS = (
    *("quickstart_commands", "quickstart_open", "quickstart_sounds", "quickstart_captions", "quickstart_questions"),
    *("asterisk", "asterisk_test", "librispeech_test_clean", "librispeech_test_other", "gigaspeech"),
    *("librispeech_phones", "covost2_en_zh", "covost2_en_de", "covost2_en_ja", "audiocaps", "musiccaps", "iemocap"),
    *("libri2mix", "voxceleb1", "inspec", "wikiqa", "slurp", "slurp_slots", "story", "coreasoning", "clotho"),
    *("clotho_aqa", "mmau", "mmar", "airbench_foundation", "voicebench_openbookqa", "voicebench_mmsu"),
    *("voicebench_sd_qa", "voicebench_bbh", "openaqa"),
)
"""Of `benchmarks/table.py`."""
CORPORA = (
    *("librispeech", "librispeech_phones", "audiocaps", "story", "mmau", "iemocap", "covost2", "clotho", "clotho_aqa"),
    *("airbench_foundation", "mmar", "gigaspeech", "musiccaps", "libri2mix", "voxceleb1", "inspec", "wikiqa", "slurp"),
    *("slurp_slots", "coreasoning", "voicebench", "openaqa"),
)
"""Of `data/corpora/readers.py`."""


def check_benchmarks(names: Iterable[str]) -> None:
    """Refuse a name that is neither a benchmark nor, by its look, a manifest, and a manifest that is not there.

    Raises:
        ValueError: names it, and the nearest benchmark that there is.
    """
    for name in names:
        if name.endswith((".json", ".jsonl")) and not name.startswith(("asset:", "data:", "${")):
            if not Path(name).is_file():
                raise ValueError(f"{name}: no such manifest")
            continue
        manifest = Path(name).is_file() or any(sign in name for sign in ":/\\$")
        if name not in BENCHMARKS and not manifest:
            hint = suggest(name, BENCHMARKS)
            raise ValueError(f"no benchmark or manifest '{name}'; there are {', '.join(BENCHMARKS)}.{hint}")
