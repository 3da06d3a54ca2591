"""The components of a checkpoint (network, text encoders, VAE, tokenizers) and where they are found."""
