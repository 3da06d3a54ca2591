"""The latent spaces of VAEs and GANs, and interpolation between seeds of any model."""
