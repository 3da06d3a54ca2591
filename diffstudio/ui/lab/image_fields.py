"""Fields for image files: an image or a folder of them, and one image behind a flag."""

from __future__ import annotations

from PySide6.QtWidgets import QFileDialog

from diffstudio.ui.lab.folder_field import FolderField
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.dialogs import choose_image
from diffstudio.ui.widgets.images.drag_and_drop import DroppedKind


class ImagesField(FolderField):
    """An image or a folder of images: chosen in a dialog or dropped."""

    kinds = (DroppedKind.IMAGE, DroppedKind.FOLDER)

    def __init__(self, text: str, missing: str, *, tooltip: str, flag: str = "", optional: bool = False) -> None:
        super().__init__(text, missing, tooltip=tooltip, flag=flag, optional=optional)
        self.button.setText("Folder…")
        self.image_button = SecondaryButton("Image…", "image", tooltip, name=f"{text}: choose an image")
        self.row.insertWidget(1, self.image_button)
        self.clear_button = SecondaryButton("", "x", f"Remove: {text.lower()}")
        self.row.addWidget(self.clear_button)
        self.clear_button.setVisible(False)
        self.image_button.clicked.connect(self.choose_image)
        self.clear_button.clicked.connect(lambda: self.set_folder(None))
        self.changed.connect(lambda: self.clear_button.setVisible(optional and self.folder() is not None))

    def choose_image(self) -> QFileDialog:
        found = self.folder()
        return choose_image(
            self, self._text, str(found.parent) if found is not None else pictures_folder(), self.set_folder
        )
