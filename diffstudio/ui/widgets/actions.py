"""The texts of buttons and menu entries that several rooms offer, so that one action has one name everywhere.

An ellipsis means that a dialog asks for more before anything happens.
"""

from __future__ import annotations

CANCEL = "Cancel"
CLOSE = "Close"
COPY_IMAGE = "Copy image"
COPY_PROMPT = "Copy prompt"
DELETE = "Delete"
GENERATE = "Generate"
INPAINT = "Inpaint…"
MOVE_TO_TRASH = "Move to trash"
REDO = "Redo"
REMOVE = "Remove"
SAVE_AS = "Save as…"
SHOW_IN_FOLDER = "Show in folder"
START_FROM_IMAGE = "Use for img2img"
STOP = "Stop"
TRY_AGAIN = "Try again"
UNDO = "Undo"
UPSCALE = "Upscale…"
USE_SETTINGS = "Use settings"

COPY_IMAGE_TIP = "Copy the image to the clipboard (Ctrl+C)"
SAVE_AS_TIP = "Save a copy, with its generation settings (Ctrl+S)"
SHOW_IN_FOLDER_TIP = "Show the file in the file manager"
START_FROM_IMAGE_TIP = "Start from this image: img2img, inpaint or outpaint"
UPSCALE_TIP = "Make this image larger (Ctrl+E)"
USE_SETTINGS_TIP = "Load this image's prompt and settings into the Generate room"
