"""The folder of training images: its report, gallery, captions, and what is left out."""
