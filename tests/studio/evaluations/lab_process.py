"""A process in place of a verb of the Lab, which needs no torch and does what its last argument says."""

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from diffstudio.atomic import write_text
from diffstudio.errors import Interrupted
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.job_recording import recorded
from diffstudio.studio.evaluations.job_folder import result_name
import json

verb, *arguments, _, out = sys.argv[1:]
out, what = Path(out), arguments[-1]
if what == "die":
    print("diffstudio: It cannot.", file=sys.stderr)
    sys.exit(2)
if what == "sleep":
    time.sleep(60)
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
with recorded(verb, arguments, out) as recording:
    control = EvaluationJobControl(Lease(out / "lease"), control=out)
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
