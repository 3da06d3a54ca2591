"""The drop-down that chooses which channels of an array are shown."""

from __future__ import annotations

from diffstudio.ui.widgets.inputs import ComboBox


class ChannelComboBox(ComboBox):
    """Three channels as colours, or one as grey. Its value is 0 for the first channels, else a channel's number."""

    def __init__(self, of: str) -> None:
        """`of`: whose channels they are, for the tooltip, such as `the image`."""
        super().__init__("Channels", (), f"Which channels of {of} are shown: three as colours, or one as grey")
        self.setMinimumContentsLength(13)
        self.offer(0)

    def offer(self, count: int) -> None:
        """Offer each of so many channels; 0 hides the drop-down. What is chosen stays chosen if it is offered."""
        if count != self.count() - 1:
            first = (0, "Channels 1 to 3" if count > 2 else "First channel")
            self.set_choices([first, *((number, f"Channel {number}") for number in range(1, count + 1))])
        self.setVisible(count > 0)
