"""The drop-down that chooses which channels of an array are shown."""

from __future__ import annotations

from diffstudio.ui.widgets.inputs.combo_box import ComboBox


class ChannelComboBox(ComboBox):
    """Shows three channels as colours, or one as grey. The value is 0 for the first channels, or a channel number."""

    def __init__(self, of: str) -> None:
        """`of`: the owner of the channels in the tooltip, such as `the image`."""
        super().__init__("Channels", (), f"The channels of {of} to show: three as colours, or one as grey")
        self.setMinimumContentsLength(13)
        self.offer(0)

    def offer(self, count: int) -> None:
        """Offer `count` channels; 0 hides the drop-down. The choice is kept if it is still offered."""
        if count != self.count() - 1:
            first = (0, "Channels 1 to 3" if count > 2 else "First channel")
            self.set_choices([first, *((number, f"Channel {number}") for number in range(1, count + 1))])
        self.setVisible(count > 0)
