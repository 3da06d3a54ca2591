"""A process in place of a verb of the Lab, which needs no torch and does what its last argument says."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffstudio.studio.evaluations.jobs import LabJobs

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from diffstudio.atomic import write_text
from diffstudio.errors import Interrupted
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.job_recording import recorded
from diffstudio.studio.evaluations.job_folder import JobWaiting, result_name
import json

verb, *arguments, _, out = sys.argv[1:]
out, what = Path(out), Path(arguments[-1]).name
if what == "die":
    print("diffstudio: It cannot.", file=sys.stderr)
    sys.exit(2)
if what == "sleep":
    time.sleep(60)
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
with recorded(verb, arguments, out) as recording:
    control = EvaluationJobControl(Lease(out / "lease"), control=out)
    if what == "turn":
        recording.write(JobWaiting("training cats"))
    while what == "turn" and not (out / "go").exists():
        control.check()
        time.sleep(0.02)
    for done in range(5):
        recording.progress("Working", done, 4)
        while what == "deaf" or (what == "wait" and done == 1 and not (out / "go").exists()):
            if what == "wait":
                control.check()
                recording.progress("Working", done, 4)
            time.sleep(0.02)
    given = os.environ.get("DIFFSTUDIO_TEST_RESULT")
    values = json.loads(Path(given).read_text()) if given else {"arguments": arguments, "folder": os.getcwd()}
    write_text(out / result_name(verb), json.dumps(values))
    recording.finish()
"""


@contextmanager
def lab_jobs(folder: Path) -> Iterator[LabJobs]:
    """Jobs below `folder` whose processes are those; what still runs in the end is killed."""
    script = folder / "verb.py"
    script.write_text(SCRIPT)
    jobs = LabJobs(folder / "lab", command=(sys.executable, str(script)))
    yield jobs
    for one in jobs.list():
        if one.alive and one.pid is not None:
            os.kill(one.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(one.alive for one in jobs.list()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
