"""The latents of VAEs and GANs, and the noise of every model: what lies between two of them."""
