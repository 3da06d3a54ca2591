"""The page Latent space: images of a VAE or GAN by sliders, interpolation, and reconstruction of any image."""
