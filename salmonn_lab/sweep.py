"""The command that does an experiment's runs: `python -m salmonn_lab.sweep DIR`."""

from __future__ import annotations

from salmonn_lab import command_line

if __name__ == "__main__":
    command_line.check(command_line.check_sweep)

import math
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from fnmatch import fnmatchcase

from rich.markup import escape

from salmonn_lab import slurm
from salmonn_lab.config import assignment, first_line
from salmonn_lab.console import console, run_command, table
from salmonn_lab.estimate import Estimate, Work, estimates, probe, work_of
from salmonn_lab.experiment import Experiment, Planned, Sweep, grid, load_experiment
from salmonn_lab.jobs import PATIENCE, state_of, work
from salmonn_lab.progress import quiet_libraries

__all__ = ["Sweep", "grid"]
STORE = "features"
"""The configuration's key that names a feature store."""
ENCODING_KEYS = ("model.whisper", "model.audio_encoder", "model.bridge.span", "data.", "evaluation.", "features")
"""What decides which clips are encoded, and by what."""
COLUMNS = ("run", "state", "time", "memory", "disk", "GFLOP per 10 s", "tokens per 10 s")
TO_DO = ("missing", "begun", "running")


def chosen(experiment: Experiment, pattern: str | None) -> list[Planned]:
    """Return the runs whose names fit a pattern, or hold it.

    Raises:
        ValueError: none does.
    """
    if pattern is None:
        return list(experiment.planned)
    found = [run for run in experiment.planned if fnmatchcase(run.name, pattern) or pattern in run.name]
    if not found:
        known = ", ".join(run.name for run in experiment.planned)
        raise ValueError(f"--only {pattern}: no run has such a name; there are {known}")
    return found


def encode_features(experiment: Experiment, pending: Sequence[Planned]) -> None:
    """Fill the feature store that the runs read, where their configuration names one, before the first of them starts.

    Raises:
        ValueError: the encoding failed.
    """
    seen = []
    for run in pending:
        if asdict(run.config).get(STORE) is None:
            continue
        changes = [assignment(key, value) for key, value in run.overrides.items() if key.startswith(ENCODING_KEYS)]
        if changes in seen:
            continue
        seen.append(changes)
        files = [word for file in run.files for word in ("--config", file)]
        console.print(f"encoding into {asdict(run.config)[STORE]}", soft_wrap=True)
        code = call([sys.executable, "-m", "salmonn_lab.encode", *files, *changes])
        if code:
            raise ValueError(f"{experiment.folder}: encoding ended with code {code}; no run was started")


def call(command: Sequence[str]) -> int:
    """Exit code of a command; where this process is stopped, it stops the command too and waits for its end."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        raise
    finally:
        process.kill()


def works_of(experiment: Experiment) -> dict[str, Work]:
    """Return what a clip costs each setting; a setting whose model is not to be had is left out, and told."""
    found = {}
    for setting, planned in experiment.settings.items():
        try:
            found[setting] = work_of(planned[0].config)
        except (ValueError, OSError) as error:
            console.print(f"{setting}: its operations are not known: {first_line(error)}", soft_wrap=True, markup=False)
    return found


def guess(experiment: Experiment, works: Mapping[str, Work], *, probing: bool) -> dict[str, Estimate]:
    """Return what a run of each setting takes, after a probe where no run is finished and one is wanted."""
    pace = None
    if probing and not any(run.done() for run in experiment.planned):
        try:
            pace = probe(experiment)
        except ValueError as error:
            console.print(f"no estimate of time: the probe failed: {first_line(error)}", soft_wrap=True, markup=False)
    return estimates(experiment, works, pace)


def print_list(
    experiment: Experiment,
    listed: Sequence[Planned],
    works: Mapping[str, Work],
    costs: Mapping[str, Estimate],
    places: int,
) -> None:
    """Print the runs, how far they are, and what is still to come."""
    rows, errors = [], []
    states = {run.name: state_of(run) for run in listed}
    for run in listed:
        cost, clip = costs.get(run.setting), works.get(run.setting)
        memory = cost.memory_gib if cost else clip.weight_gib if clip else math.nan
        rows.append(
            (
                escape(run.name),
                states[run.name],
                duration(cost.seconds) if cost else "",
                "" if math.isnan(memory) else f"{memory:.1f} GiB",
                f"{cost.disk_bytes / 2**20:.0f} MiB" if cost else "",
                f"{clip.total / 1e9:.1f}" if clip else "",
                str(clip.tokens) if clip else "",
            )
        )
        if states[run.name] == "failed":
            errors.append(f"{run.name}: {run.error().splitlines()[-1]}")
    console.print(table(escape(experiment.question), COLUMNS, rows))
    for line in errors:
        console.print(line, soft_wrap=True, markup=False)
    counts = Counter(states.values())
    console.print(", ".join(f"{count} {state}" for state, count in counts.items()))
    print_total([run for run in listed if states[run.name] in TO_DO], costs, places, experiment)


def print_total(left: Sequence[Planned], costs: Mapping[str, Estimate], places: int, experiment: Experiment) -> None:
    """Print what the runs that are left take together."""
    known = [costs[run.setting] for run in left if run.setting in costs]
    if not known:
        return
    disk, folder = sum(cost.disk_bytes for cost in known), experiment.folder
    sources = " and ".join(sorted({cost.source for cost in known}))
    measuring = sum(cost.measuring for cost in known) / places
    encoding = max(cost.encoding for cost in known)
    rest = ""
    if any(cost.source == "probe" for cost in known):
        once = f", and {duration(encoding)} of encoding once" if encoding else ""
        rest = f" (with {duration(measuring)} of measuring{once}; validation and checkpoints come on top)"
    unknown = f", {len(left) - len(known)} of them unknown" if len(known) < len(left) else ""
    seconds = sum(cost.seconds for cost in known) / places + encoding
    console.print(
        f"{len(left)} runs to do{unknown}: about {duration(seconds)} with --jobs {places}, by {sources}{rest}; "
        f"{disk / 2**30:.2f} GiB of disk "
        f"({shutil.disk_usage(folder).free / 2**30:.1f} GiB are free)",
        soft_wrap=True,
    )


def duration(seconds: float) -> str:
    """Return a time as it is read."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def main() -> None:
    """Run the command."""
    quiet_libraries()
    options = command_line.check_sweep(sys.argv[1:])
    queue = None if options.slurm is None else slurm.read_options(options.slurm)
    experiment = load_experiment(options.experiment)
    listed = chosen(experiment, options.only)
    wanted = (*TO_DO, "failed") if options.retry_failed else TO_DO
    pending = [run for run in listed if state_of(run) in wanted]
    if options.print:
        for run in pending:
            print(run.typed())
        return
    works = works_of(experiment)
    costs = guess(experiment, works, probing=not options.no_probe)
    print_list(experiment, listed, works, costs, options.jobs)
    if not pending or not (options.run or queue is not None):
        return
    encode_features(experiment, pending)
    if queue is not None:
        folder = experiment.runs_folder / ".slurm"
        submitted = slurm.submit(pending, folder, queue, options.jobs, retry=options.retry_failed)
        console.print(f"{len(submitted)} jobs submitted, {submitted[0].job_id} the first; submitit writes to {folder}")
        return
    needed = max((costs[run.setting].disk_bytes for run in pending if run.setting in costs), default=0.0)
    work(pending, options.jobs, retry=options.retry_failed, needed=needed)
    states = {run.name: state_of(run) for run in listed}
    for state, what in (("failed", "failed"), ("begun", "not finished")):
        if names := [name for name in states if states[name] == state]:
            console.print(f"{len(names)} {what}: {', '.join(names)}", soft_wrap=True, markup=False)
    if any(state != "done" for state in states.values()):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main, "the same command goes on with the runs that are not done")
