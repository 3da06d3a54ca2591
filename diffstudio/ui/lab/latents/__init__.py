"""The page Latent space: images of a VAE or GAN as sliders move, between two points, and of any image."""
