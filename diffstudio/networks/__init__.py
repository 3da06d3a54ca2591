"""What a denoiser is made of when it is trained here."""
