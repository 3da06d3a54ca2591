"""The names of actions that several rooms offer: each has one label, one icon and one tooltip everywhere.

An ellipsis means that a dialog asks for more before anything happens.
"""

from __future__ import annotations

CANCEL = "Cancel"
CLOSE = "Close"
COPY_FILES = "Copy files"  # of several images
COPY_IMAGE = "Copy image"
COPY_PROMPT = "Copy prompt"
DELETE = "Delete"
GENERATE_WITH_THIS = "Generate with this"
REMOVE = "Remove"
REMOVE_STAR = "Remove star"
SAVE_AS = "Save as…"
SHOW_IN_FOLDER = "Show in folder"
STAR = "Star"
STARRED = "Starred"  # the same button while the image or model is starred
START_FROM_IMAGE = "Use for img2img"
STOP = "Stop"
TRY_AGAIN = "Try again"
UPSCALE = "Upscale…"
USE_SETTINGS = "Use settings"

COPY_IMAGE_TIP = "Copy the image to the clipboard (Ctrl+C)"
SAVE_AS_TIP = "Save a copy, with its generation settings (Ctrl+S)"
SHOW_IN_FOLDER_TIP = "Show the file in the file manager"
START_FROM_IMAGE_TIP = "Start from this image: img2img, inpaint or outpaint"
UPSCALE_TIP = "Make this image larger (Ctrl+E)"
USE_SETTINGS_TIP = "Load this image's prompt and settings into the Generate room"

ICONS = {
    COPY_FILES: "copy",
    COPY_IMAGE: "copy",
    COPY_PROMPT: "text-t",
    DELETE: "trash",
    REMOVE_STAR: "star",
    SAVE_AS: "floppy-disk",
    SHOW_IN_FOLDER: "folder-open",
    STAR: "star",
    START_FROM_IMAGE: "image",
    UPSCALE: "arrows-out",
    USE_SETTINGS: "sliders-horizontal",
}
