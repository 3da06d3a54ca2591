"""Stories cross modules, so they have the fixtures of the window and of the studio."""

from tests.studio.conftest import opened, studio, tiny
from tests.ui.conftest import dressed, waiting_loop

__all__ = ["dressed", "opened", "studio", "tiny", "waiting_loop"]
