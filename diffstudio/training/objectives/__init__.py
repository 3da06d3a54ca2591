"""Training objectives for diffusion models, VAEs and GANs. Read `objective` first."""
