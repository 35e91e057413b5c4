"""Runs of an experiment as an array of Slurm jobs, through submitit."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salmonn_lab.experiment import Planned
from salmonn_lab.jobs import state_of, work

PARAMETERS = {
    "partition": "slurm_partition",
    "account": "slurm_account",
    "qos": "slurm_qos",
    "constraint": "slurm_constraint",
    "time": "timeout_min",
    "gpus": "gpus_per_node",
    "cpus": "cpus_per_task",
    "mem": "mem_gb",
}
"""What `--slurm` takes, and submitit's name for it; `time` is in minutes, `mem` in GB. Beside these,
`cluster=local` does the array on this machine, by the same code and all at once."""
NUMBERS = ("time", "gpus", "cpus", "mem")
REQUEUES = 1000
"""Times that a job may reach its time limit; each time it goes on from its last checkpoint."""
SIGNAL_SECONDS = 60
"""How long a run that is stopped without a word waits for the signal that says why."""
NOT_A_TASK = {"SLURM_JOB_NAME": "interactive"}
"""Keeps Lightning, in the process that a job starts, from taking the job's one task for a rank of its own."""


@dataclass(frozen=True)
class Attempt:
    """What a job does: one run, from wherever it is.

    Before a job is preempted or reaches its time limit, Slurm signals it; submitit then asks for `checkpoint`, and puts
    the job into the queue again. The run's process is stopped on the way out, and resumes when the job comes back.
    """

    planned: Planned
    retry: bool

    def __call__(self) -> str:
        """Do the run and return its state.

        Raises:
            RuntimeError: it failed, or was stopped by something else; the queue then shows the job as failed.
        """
        work([self.planned], retry=self.retry, environment=NOT_A_TASK)
        if state_of(self.planned) == "begun":  # the process had the signal too, and was faster
            time.sleep(SIGNAL_SECONDS)
        state = state_of(self.planned)
        if state != "done":
            raise RuntimeError(f"{self.planned.name}: {state}; see {self.planned.log}")
        return state

    def checkpoint(self) -> Any:
        """Return what the job does when it comes back."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Attempt(self.planned, retry=False))


def read_options(text: str) -> dict[str, str | int]:
    """Read `partition=gpu,gpus=1,time=240`.

    Raises:
        ValueError: for an option that there is not, or a number that is none.
    """
    options: dict[str, str | int] = {}
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        known = ("cluster", *PARAMETERS)
        if not equals or key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"--slurm: there are {', '.join(known)}, got {pair!r}.{hint}")
        if key in NUMBERS and not value.isdigit():
            raise ValueError(f"--slurm: {key} must be a whole number, got {value!r}")
        options[key] = int(value) if key in NUMBERS else value
    if options.get("cluster", "slurm") not in ("slurm", "local"):
        raise ValueError(f"--slurm: cluster must be slurm or local, got {options['cluster']!r}")
    return options


def submit(
    pending: Sequence[Planned], folder: Path, options: Mapping[str, str | int], at_once: int, *, retry: bool = False
) -> list[Any]:
    """Put runs into Slurm's queue as one array.

    Args:
        pending: the runs; one that is in the queue already finds itself done, or locked, when its turn comes again.
        folder: of what submitit writes.
        options: see `PARAMETERS`.
        at_once: how many jobs of the array may work at the same time.
        retry: try those again that have failed before.

    Returns:
        submitit's jobs.

    Raises:
        ValueError: submitit is not installed, or there is no Slurm here.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError("--slurm needs submitit: pip install 'salmonn-lab[slurm]'") from None
    try:
        executor = submitit.AutoExecutor(
            folder, cluster=str(options.get("cluster", "slurm")), slurm_max_num_timeout=REQUEUES
        )
    except RuntimeError as error:
        raise ValueError(f"--slurm: {' '.join(str(error).split())}") from None
    named = {PARAMETERS[key]: value for key, value in options.items() if key != "cluster"}
    executor.update_parameters(name="salmonn_lab", slurm_array_parallelism=at_once, **named)
    with executor.batch():
        return [executor.submit(Attempt(planned, retry)) for planned in pending]
