"""What steers a denoiser: weighted prompts, textual inversions, ControlNets."""
