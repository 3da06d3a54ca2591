"""What a run trains, by its kind: diffusion models, VAEs and GANs. Read `objective` first."""
