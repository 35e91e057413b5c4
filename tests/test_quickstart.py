"""The quickstart on its real parts, a few steps of it: weights, corpus, training, scores and report."""

import json
from pathlib import Path

import pytest

from salmonn_lab.config import load_config
from salmonn_lab.fit import fit

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_quickstart_trains_and_measures_on_real_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    overrides = [
        f"out_dir={tmp_path / 'run'}",
        "optim.ctc_steps=0",
        "optim.warmup_steps=10",
        "trainer.max_steps=40",
        "trainer.val_check_interval=40",
        "evaluation.benchmarks=[quickstart_commands, asterisk]",
        "evaluation.before=false",
    ]
    run = fit(load_config([ROOT / "configs" / "quickstart.yaml"], overrides))
    with (run.folder / "metrics.csv").open() as file:
        header, *rows = [line.rstrip("\n").split(",") for line in file]
    losses = [float(row[header.index("val_loss")]) for row in rows if row[header.index("val_loss")]]
    assert losses[-1] < 6.0, "forty steps bring the loss well below that of the untrained model"
    results = {result["benchmark"]: result for result in json.loads(run.scores.read_text())}
    assert results["quickstart_commands"]["after"][0]["count"] == 120
    assert results["asterisk"]["skipped"] or results["asterisk"]["after"]
