"""Restore: images denoised, deblurred, inpainted or enlarged with a pixel model."""
