"""The names of actions that several rooms offer: each has one label, one icon and one tooltip everywhere.

An ellipsis means that a dialog asks for more before anything happens.
"""

from __future__ import annotations

ABOUT = "About diffstudio"
BEING_EDITED = "Being edited"
BRING_BACK = "Bring back removed jobs"
CANCEL = "Cancel"
CANCEL_EDIT = "Cancel edit"
CHECKPOINT_IMAGE = "Checkpoint thumbnail"
CLEAR_QUEUE = "Clear queue"
CLOSE = "Close"
COMPARE = "Compare"  # of two selected images
COMPARE_WITH = "Compare with…"
COPY_COMMAND = "Copy command"  # for another machine
COPY_FILES = "Copy files"  # of several images
COPY_IMAGE = "Copy image"
COPY_PROMPT = "Copy prompt"
DELETE = "Delete"
DUPLICATE = "Duplicate"
EDIT_JOB = "Edit"
FIND_ON_PAGE = "Find on this page"
GENERATE_WITH_THIS = "Generate with this"
MANUAL_PAGE = "Manual for this room"
MORE = "More actions"
MOVE_DOWN = "Move down"
MOVE_TO_FRONT = "Move to front"
MOVE_UP = "Move up"
NOTHING_REMOVED = "No job was removed"
OPEN_JOB = "Show settings"
PAUSE_QUEUE = "Pause queue"
EMPTY_TRASH = "Empty trash…"
OPEN = "Open"
PAINT = "Inpaint or outpaint…"
PURGE = "Delete permanently…"
REMOVE = "Remove"
REMOVED = "Removed"
REMOVE_JOB = "Remove from queue"
REMOVE_STAR = "Remove star"
RESUME_QUEUE = "Resume queue"
RESTORE = "Restore"
SAMPLE_NOW = "Sample now"
SAVE_AS = "Save as…"
SAVE_TO_QUEUE = "Save to queue"
SHORTCUTS = "Keyboard shortcuts"
SHOW_IN_FOLDER = "Show in folder"
SHOW_STEPS = "Show steps in Generate"
STAR = "Star"
STARTED = "Started"
STARRED = "Starred"  # the same button while the image or model is starred
START_FROM_IMAGE = "Use for img2img"
STOP = "Stop"
TRAIN_LONGER = "Train longer"
TRY_AGAIN = "Try again"
UPSCALE = "Upscale…"
USE_SETTINGS = "Use settings"

CANCEL_EDIT_TIP = "Leave the job as it was, and bring back the settings from before the edit"
COMPARE_TIP = "Show two images side by side, or one over the other with a slider"
PURGE_TIP = "Delete the selected images permanently, without using the system trash (Delete)"
RESTORE_TIP = "Move the selected images back to where they were"
CLOSE_WITHOUT_SAVING_TIP = "Close without saving (Escape)"
COPY_IMAGE_TIP = "Copy the image to the clipboard (Ctrl+C)"
DUPLICATE_TIP = "Add a copy after this job"
EDIT_JOB_TIP = "Load its settings into Generate to change them"
OPEN_JOB_TIP = "Click to see all its settings"
PAUSE_QUEUE_TIP = "Pause the queue: the running job finishes, and no other starts"
REMOVE_JOB_TIP = "Remove from the queue (Delete)"
RESUME_QUEUE_TIP = "Resume the queue: the next job starts"
SAVE_AS_TIP = "Save a copy, with its generation settings (Ctrl+S)"
SHOW_IN_FOLDER_TIP = "Show the file in the file manager"
START_FROM_IMAGE_TIP = "Start from this image: img2img, inpaint or outpaint"
UPSCALE_TIP = "Make this image larger (Ctrl+E)"
USE_SETTINGS_TIP = "Load this image's prompt and settings into the Generate room"

ICONS = {
    COMPARE: "columns",
    COMPARE_WITH: "columns",
    PAINT: "paint-brush",
    PURGE: "trash",
    RESTORE: "arrow-counter-clockwise",
    COPY_FILES: "copy",
    COPY_IMAGE: "copy",
    COPY_PROMPT: "text-t",
    ABOUT: "info",
    DELETE: "trash",
    DUPLICATE: "copy-simple",
    EDIT_JOB: "pencil-simple",
    MANUAL_PAGE: "book-open",
    MOVE_DOWN: "caret-down",
    MOVE_TO_FRONT: "caret-double-up",
    MOVE_UP: "caret-up",
    OPEN_JOB: "eye",
    REMOVE_JOB: "x",
    REMOVE_STAR: "star",
    SAVE_AS: "floppy-disk",
    SHOW_IN_FOLDER: "folder-open",
    SHOW_STEPS: "film-strip",
    STAR: "star",
    SHORTCUTS: "keyboard",
    START_FROM_IMAGE: "image",
    UPSCALE: "arrows-out",
    USE_SETTINGS: "sliders-horizontal",
}
