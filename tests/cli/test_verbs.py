import subprocess
import sys
from importlib import import_module

from diffstudio.cli.arguments import Parser
from diffstudio.cli.verbs import VERBS, add_verbs
from tests.cli.test_cli import ROOT

IMPORTED = (
    "import sys; from diffstudio import cli; cli._parser(); print(*(n for n in sys.modules if 'diffstudio' in n))"
)


def test_the_module_of_a_verb_is_imported_only_when_the_verb_is_used():
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = {f"diffstudio.cli.{module}" for _, module, _ in VERBS}
    assert not modules & set(done.stdout.split())
    assert not any(name.startswith(("diffstudio.studio", "diffstudio.models")) for name in done.stdout.split())


def test_each_verb_has_a_description_and_its_arguments_are_added_once():
    parser = Parser(prog="diffstudio", allow_abbrev=False)
    add_verbs(parser)
    for _ in range(2):
        found = parser.parse_args(["upscale", "image.png", "--out", "larger.png"])
        assert (found.image.name, found.out) == ("image.png", "larger.png")
    for name, module, about in VERBS:
        verb = Parser(prog=f"diffstudio {name}", allow_abbrev=False)
        import_module(f"diffstudio.cli.{module}").add_arguments(verb)
        assert verb.description
        assert about[0].islower() and not about.endswith(".")
